"""Where configuration comes from: the process's environment, then `.env` beside manage.py."""

from pathlib import Path

from environs import Env

BASE_DIR = Path(__file__).resolve().parent.parent

env = Env()
env.read_env(BASE_DIR / ".env", recurse=False)

DATA_DIR: Path = (BASE_DIR / env.path("HITCOUNTER_DATA_DIR", Path("var"))).resolve()
