"""Every SQL statement that the ORM cannot say, one in a file; the first line of each says what it is for."""

from pathlib import Path
from typing import LiteralString


def load(name: str) -> LiteralString:
    """The statement in `name`.sql; a file of this package is as trusted as a literal in its code."""
    return Path(__file__).with_name(f"{name}.sql").read_text()
