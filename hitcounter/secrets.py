"""Secrets that are made on first start and kept in the data directory, readable by this user alone."""

import os
import secrets
from pathlib import Path

#: As many as it takes for the 50 characters that `manage.py check --deploy` asks of a secret key.
BYTES = 48


def read_or_make(path: Path) -> str:
    """Return the secret in `path`; where there is none, make one of 384 random bits there, with mode 0600."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return make(path)


def make(path: Path) -> str:
    """Write a new secret to `path` unless another process was faster, and return the one that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and linked into place: who finds the file finds all of it, and only one process wins.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(BYTES) + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text().strip()
