"""What a hit is: which paths are counted, what key they are counted under, and why one is refused."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

COUNTED_PREFIX = "/api/"
MAX_PATH_BYTES = 2048
COUNTED_METHODS = ("GET", "HEAD")  # HEAD is answered, but only GET counts
MOST_HITS_AT_ONCE = 2**31 - 1  # what a hit row can hold
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
#: The clocks of those who report hits may be ahead of this one.
MOST_AHEAD = timedelta(hours=1)

# A request target may hold nothing but visible ASCII (RFC 9112 section 3.2); the query is cut off before.
_PATH = re.compile(r"/[\x21-\x7e]*")


class HitRefused(ValueError):
    """This hit cannot be counted, and never will be; the message says why."""

    status = 400

    @property
    def problem(self) -> dict[str, Any]:
        """What the client is answered, as JSON."""
        return {"detail": str(self)}


class PathTooLong(HitRefused):
    """The path is longer than 2,048 bytes."""

    status = 414


class PathInvalid(HitRefused):
    """A path starts with a slash and holds nothing but visible ASCII characters, others percent-encoded."""


class TimeInvalid(HitRefused):
    """A hit's time has an offset from UTC, is not before 1970, and at most an hour ahead of now."""


class DatabaseRefused(HitRefused):
    """The database refused this hit's values."""


def check_path(path: str) -> str:
    """Return `path` as it is, byte for byte, if it can be counted. Raises PathTooLong, PathInvalid."""
    if len(path) > MAX_PATH_BYTES:
        raise PathTooLong(PathTooLong.__doc__)
    if not _PATH.fullmatch(path):
        raise PathInvalid(PathInvalid.__doc__)
    return path


def check_time(at: datetime, now: datetime) -> datetime:
    """Return `at` as it is, if hits can be counted for that time; `now` is aware. Raises TimeInvalid."""
    if at.tzinfo is None or not EARLIEST <= at <= now + MOST_AHEAD:
        raise TimeInvalid(TimeInvalid.__doc__)
    return at


def counter_id(path: str) -> UUID:
    """The key of a path's counter: BLAKE2b (RFC 7693) of its bytes, cut to 128 bits by the hash's own parameter."""
    return UUID(bytes=blake2b(path.encode(), digest_size=16).digest())


def counter_ids(paths: Sequence[str]) -> list[str]:
    """The keys of many paths as 32 hexadecimal digits each, which sort as PostgreSQL sorts the UUIDs."""
    return [blake2b(path.encode(), digest_size=16).hexdigest() for path in paths]


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def hour_of(at: datetime) -> datetime:
    """The start of the UTC hour that `at` (aware) lies in."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
