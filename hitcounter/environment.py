"""Where configuration comes from: the process's environment, then `.env` beside manage.py."""

import os
from pathlib import Path

from dotenv import dotenv_values
from environs import Env, EnvError

BASE_DIR = Path(__file__).resolve().parent.parent
DOTENV = BASE_DIR / ".env"

env = Env()
env.read_env(DOTENV, recurse=False)


def secret(name: str) -> str:
    """The secret `name`, or what stands in the file that `name`_FILE names (relative to manage.py); "" for neither.

    Raises EnvError for both, and for a file that cannot be read or has nothing in it.
    """
    value, file = env.str(name, ""), env.str(f"{name}_FILE", "")
    if not file:
        return value
    if value:
        raise EnvError(f'Environment variables "{name}" and "{name}_FILE" are both set: one is enough.')
    try:
        found = (BASE_DIR / file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise EnvError(f'Environment variable "{name}_FILE" invalid: {file} cannot be read ({reason}).') from None
    if not found:
        raise EnvError(f'Environment variable "{name}_FILE" invalid: {file} is empty.')
    return found


def source_of(name: str) -> str:
    """Where the value of the variable `name` comes from: environment, .env, file (its `_FILE`), or default."""
    in_dotenv = dotenv_values(DOTENV)
    if os.environ.get(f"{name}_FILE", in_dotenv.get(f"{name}_FILE")):
        return "file"
    if name in os.environ:
        return "environment"
    return ".env" if in_dotenv.get(name) is not None else "default"


DATA_DIR: Path = (BASE_DIR / env.path("HITCOUNTER_DATA_DIR", Path("var"))).resolve()
