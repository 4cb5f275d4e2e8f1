"""The app's own settings: name, default, permitted values, meaning. hitcounter/settings.py reads them."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from counters import addresses, countries

# A field name is a token (RFC 9110 section 5.6.2); no proxy passes on more than a few dozen characters.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")


#: Of a request. `POST /hits/` needs it.
MOST_BODY_BYTES = 8_000_000
#: Of every other request: forms, and the admin's lists of what is ticked.
MOST_FORM_BYTES = 100_000


@dataclass(frozen=True)
class Setting:
    """What an operator may set in the environment."""

    name: str
    default: int | str
    help: str


@dataclass(frozen=True, kw_only=True)
class Number(Setting):
    """A whole number."""

    default: int
    least: int
    greatest: int


@dataclass(frozen=True, kw_only=True)
class Text(Setting):
    """A text, unset when it is empty; `check` raises ValueError with a sentence for one that makes no sense."""

    default: str
    check: Callable[[str], object]


def _header_name(text: str) -> None:
    if not _HEADER_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a header.")


def _forwarded_header(text: str) -> None:
    if text.lower() not in addresses.NODES:
        raise ValueError(f"{text!r} is neither X-Forwarded-For nor Forwarded.")


def _database(path: str) -> None:
    countries.open_countries(path).close()


QUEUE = Number(
    "HITCOUNTER_QUEUE",
    default=10_000,
    least=1,
    greatest=1_000_000,
    help="hits that may wait for the database in each worker; further ones get 503 at once",
)
PATIENCE_SECONDS = Number(
    "HITCOUNTER_PATIENCE_SECONDS",
    default=5,
    least=1,
    greatest=300,
    help="how long a hit may wait for a database that does not answer before it gets 503",
)
MAX_NEW_PATHS_PER_MINUTE = Number(
    "HITCOUNTER_MAX_NEW_PATHS_PER_MINUTE",
    default=100_000,
    least=0,
    greatest=1_000_000_000,
    help="how many new paths a prefix (the first segment, like `/api/`) may gain in a minute; hits of further ones are "
    "counted as `/api/(other)`. 0 is no bound",
)
MAX_PATHS = Number(
    "HITCOUNTER_MAX_PATHS",
    default=0,
    least=0,
    greatest=1_000_000_000_000,
    help="how many paths a prefix may have, looked at once a minute; hits of further ones are counted as "
    "`/api/(other)`. 0 is no bound",
)
MAX_LOADTEST = Number(
    "HITCOUNTER_MAX_LOADTEST",
    default=100_000,
    least=1,
    greatest=10_000_000,
    help="the most requests that one load test may send",
)

KEEP_HITS_DAYS = Number(
    "HITCOUNTER_KEEP_HITS_DAYS",
    default=30,
    least=1,
    greatest=36_500,
    help="days for which hit rows, and with them every question, are kept",
)
KEEP_HOURS_DAYS = Number(
    "HITCOUNTER_KEEP_HOURS_DAYS",
    default=400,
    least=1,
    greatest=36_500,
    help="days for which hourly figures are kept; not fewer than hit rows",
)
CONSUMER_HEADER = Text(
    "HITCOUNTER_CONSUMER_HEADER",
    default="X-Consumer",
    check=_header_name,
    help="header in which a gateway names its customer or API key; believed from everybody, so have it overwritten",
)
COUNTRY_HEADER = Text(
    "HITCOUNTER_COUNTRY_HEADER",
    default="",
    check=_header_name,
    help="header in which a CDN tells the country, like `CF-IPCountry`; for when all requests come through it",
)
GEOIP_DATABASE = Text(
    "HITCOUNTER_GEOIP_DATABASE",
    default="",
    check=_database,
    help="file in MaxMind's format that tells the country of an address where no header does; relative to `manage.py`",
)
TRUSTED_PROXIES = Text(
    "HITCOUNTER_TRUSTED_PROXIES",
    default="",
    check=addresses.TrustedProxies.parse,
    help="whom to believe about a client's address: a number of proxies, or networks separated by commas",
)
FORWARDED_HEADER = Text(
    "HITCOUNTER_FORWARDED_HEADER",
    default="X-Forwarded-For",
    check=_forwarded_header,
    help="header in which trusted proxies tell it; the other that there is, `Forwarded`, is RFC 7239's",
)

NUMBERS = (QUEUE, PATIENCE_SECONDS, MAX_NEW_PATHS_PER_MINUTE, MAX_PATHS, MAX_LOADTEST, KEEP_HITS_DAYS, KEEP_HOURS_DAYS)
TEXTS = (CONSUMER_HEADER, COUNTRY_HEADER, GEOIP_DATABASE, TRUSTED_PROXIES, FORWARDED_HEADER)
SETTINGS = (*NUMBERS, *TEXTS)
