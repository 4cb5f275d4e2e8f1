"""What is known about a hit besides its path and time: its dimensions, and what tells its visitor apart. Pure."""

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

#: The dimensions by which hits can be filtered and grouped. `referrer` is the referrer's host.
NAMES = ("country", "consumer", "referrer", "browser", "os", "device", "method", "status", "route", "bot")
#: Those that are rolled up by value. Bots are told apart in every figure.
ROLLED_UP = tuple(name for name in NAMES if name != "bot")
#: The referrer as a whole can be asked for as long as hit rows are kept; it is too various to be rolled up.
REFERRER_URL = "referrer_url"

#: Of a route, in bytes; nor has it control characters. Whoever takes one in checks both.
LONGEST_ROUTE = 255

SALT_BYTES = 32
_ID_BYTES = 8
_BETWEEN_VALUES = "\x00"  # no value holds it: HTTP does not allow it in a header, nor PostgreSQL in a text


class Dimensions(NamedTuple):
    """One combination of values; the empty string, or None, is an unknown one.

    `country` is an ISO 3166-1 code of two capital letters. `status` is HTTP's; `route` is the URL pattern that handled
    the request, like `/product/<int:id>/`.
    """

    method: str = ""
    status: int | None = None
    consumer: str = ""
    country: str = ""
    referrer: str = ""
    referrer_url: str = ""
    browser: str = ""
    os: str = ""
    device: str = ""
    bot: bool = False
    route: str = ""

    @property
    def id(self) -> int:
        """The key of this combination: BLAKE2b (RFC 7693) of its values, cut to 64 bits, as a signed number."""
        return _key(self)


@lru_cache(10_000)  # many visitors share a combination
def _key(dimensions: Dimensions) -> int:
    # Those without a route keep the keys that they had before there were routes: nothing is written twice.
    known = dimensions if dimensions.route else dimensions[:-1]
    values = _BETWEEN_VALUES.join("" if value is None else str(value) for value in known)
    return int.from_bytes(blake2b(values.encode(), digest_size=_ID_BYTES).digest(), signed=True)


class Origin:
    """Where a hit comes from: its dimensions, and its visitor's identity. Like requests share one of these."""

    __slots__ = ("dimensions", "id", "identity", "written")

    def __init__(self, dimensions: Dimensions, identity: bytes | None = None) -> None:
        #: The dimensions' key, worked out once.
        self.id = dimensions.id
        self.dimensions = dimensions
        #: What tells visitors apart, such as address and user agent; None for one who must not be, or cannot be,
        #: identified. It is kept in memory alone: what is written is its `visitor`.
        self.identity = identity
        #: What a writer has worked out for a day, with its mark of that day, so that it need not do so for each hit.
        self.written: tuple[object, str, str] | None = None


def visitor(origin: Origin, salt: bytes) -> int | None:
    """The number that an origin's visitor goes by on one day; None when they are not identified.

    BLAKE2b (RFC 7693) of the identity keyed with the day's salt, cut to 64 bits, as a signed number: when the salt is
    gone, nobody can tell whose it was. A program and a person of the same identity are two, so that the visitors among
    people and those among bots add up to all.
    """
    if origin.identity is None:
        return None
    told_apart = origin.identity + (b"\x00bot" if origin.dimensions.bot else b"")
    return int.from_bytes(blake2b(told_apart, key=salt, digest_size=_ID_BYTES).digest(), signed=True)


#: A hit of which nothing is known but that it was a GET.
PLAIN = Origin(Dimensions(method="GET"))
