"""The id of the request that is being answered, by which lines in the log are found that belong together."""

import re
from contextvars import ContextVar
from uuid import uuid4

HEADER = "X-Request-ID"

#: Empty while no request is being answered.
current: ContextVar[str] = ContextVar("request_id", default="")

_GIVEN = re.compile(r"[A-Za-z0-9._-]{1,64}")


def of(given: str | None) -> str:
    """The id that a proxy has given a request, if it is one that may stand in a log; else a new one."""
    return given if given and _GIVEN.fullmatch(given) else uuid4().hex
