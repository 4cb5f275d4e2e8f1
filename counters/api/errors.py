"""Errors as JSON, `{"detail": …}` as DRF words them: nothing answers with a page that a program cannot read."""

import logging
import sys
from collections.abc import Callable

from django.core.exceptions import DisallowedHost
from django.db import DataError, InterfaceError, InternalError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse

from counters.batches import KeyReused
from counters.bulk import InDoubt, InTheWay
from counters.hits import HitRefused
from counters.sentences import sentence_of
from counters.sqlstates import is_away
from counters.stats import NotKept

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1
#: What the database raises that cannot do now what it can at other times: it is away, full, or only to be read from.
UNABLE = (OperationalError, InterfaceError, InternalError)


_REASONS: dict[type[BaseException], str] = {
    InDoubt: "The connection to the database broke, and whether the hits were counted cannot be said. "
    "What was sent with an Idempotency-Key is counted once when it is sent again with the same.",
    InTheWay: "Others were in the way; nothing was counted. Try again.",
}


def detail(status: int, reason: str, headers: dict[str, str] | None = None) -> JsonResponse:
    """An answer with `status` whose body names the reason."""
    return JsonResponse({"detail": reason}, status=status, headers=headers)


def refused(refusal: HitRefused) -> JsonResponse:
    """The answer to a hit that cannot be counted."""
    return JsonResponse(refusal.problem, status=refusal.status)


def unavailable(error: BaseException) -> JsonResponse:
    """503 for a database that cannot be reached, has no connection to spare, or cannot do it now."""
    logger.error("The database cannot be used: %s", sentence_of(error))
    return detail(503, _REASONS.get(type(error)) or _usual_reason(error), {"Retry-After": str(RETRY_AFTER_SECONDS)})


def _usual_reason(error: BaseException) -> str:
    if is_away(error.__cause__):
        return "The database cannot be reached; try again."
    return "The database could not do it now; try again."


def unfit() -> JsonResponse:
    """400 for a value that the database cannot even compare, such as a NUL in a user name or a session key."""
    return detail(400, "A value in the request is not one that can be looked up.")


class DatabaseErrors:
    """Middleware: a database that is gone is no fault of the request or of the code, so it is 503 and not 500.

    Nor are a path that cannot be counted, a question about more than is kept, and a key that is used again.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if isinstance(error, UNABLE):
            return unavailable(error)
        if isinstance(error, DataError):
            return unfit()
        if isinstance(error, HitRefused):
            return refused(error)
        if isinstance(error, NotKept | KeyReused):
            return detail(422, str(error))
        return None


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, DisallowedHost):
        return detail(400, "The service does not answer to this host name; HITCOUNTER_HOSTS lists those it does.")
    return detail(400, f"Bad request: {exception or 'malformed'}")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return detail(403, "Forbidden.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return detail(404, f"There is nothing at {request.path}; counted paths begin with /api/.")


def server_error(request: HttpRequest) -> HttpResponse:
    error = sys.exc_info()[1]
    if isinstance(error, UNABLE):
        return unavailable(error)
    if isinstance(error, DataError):
        return unfit()
    return detail(500, "Internal error; the log has the details.")
