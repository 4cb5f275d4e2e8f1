"""The app's own settings: name, default, least and greatest value, meaning. hitcounter/settings.py reads them."""

from typing import NamedTuple


class Setting(NamedTuple):
    """A whole number that an operator may set in the environment."""

    name: str
    default: int
    least: int
    greatest: int
    help: str


QUEUE = Setting(
    "HITCOUNTER_QUEUE",
    default=10_000,
    least=1,
    greatest=1_000_000,
    help="hits that may wait for the database in each worker; further ones get 503 at once",
)
PATIENCE_SECONDS = Setting(
    "HITCOUNTER_PATIENCE_SECONDS",
    default=5,
    least=1,
    greatest=300,
    help="how long a hit may wait for a database that does not answer before it gets 503",
)
MAX_LOADTEST = Setting(
    "HITCOUNTER_MAX_LOADTEST",
    default=100_000,
    least=1,
    greatest=10_000_000,
    help="the most requests that one load test may send",
)

SETTINGS = (QUEUE, PATIENCE_SECONDS, MAX_LOADTEST)
