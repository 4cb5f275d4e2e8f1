"""Where configuration comes from: the process's environment, then `.env` beside manage.py."""

import os
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from environs import Env, EnvError

BASE_DIR = Path(__file__).resolve().parent.parent
DOTENV = BASE_DIR / ".env"
_PREFIX = "HITCOUNTER_"
#: Kubernetes sets these by itself where there is a service whose name begins with hitcounter.
_OF_KUBERNETES = re.compile(rf"{_PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\w+)?)")


def check_dotenv(file: Path) -> None:
    """Raise EnvError for a line that cannot be read. dotenv would pass over it, and log that each time it reads."""
    if not file.is_file():
        return
    with open(file, encoding="utf-8") as lines:
        bad = next((found.original for found in parse_stream(lines) if found.error), None)
    if bad:
        blank = len(bad.string) - len(bad.string.lstrip())  # lines before it
        line = bad.line + bad.string[:blank].count("\n")
        raise EnvError(f"{file}, line {line}, cannot be read: it is not like NAME=value.")


env = Env()
check_dotenv(DOTENV)
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


def unknown() -> Iterator[str]:
    """A sentence for each variable that is named like a setting and is none: it may be one that is misspelt.

    To be asked when the settings have been read, since what they read is what there is.
    """
    known = [name.removeprefix(_PREFIX) for name in env.dump() if name.startswith(_PREFIX)]
    for name in sorted(_named_alike()):
        found = name.removeprefix(_PREFIX)
        if found not in known:
            near = [f" Is {_PREFIX}{close} meant?" for close in get_close_matches(found, known, n=1)]
            yield f"{name} ({source_of(name)}) is no setting and is ignored.{''.join(near)}"


def _named_alike() -> set[str]:
    environment = {name for name in os.environ if not _OF_KUBERNETES.fullmatch(name)}
    return {name for name in environment | set(dotenv_values(DOTENV)) if name.startswith(_PREFIX)}


DATA_DIR: Path = (BASE_DIR / env.path("HITCOUNTER_DATA_DIR", Path("var"))).resolve()
