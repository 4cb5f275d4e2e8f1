"""The outermost middleware: each request gets an id, and its answer is told to metrics."""

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from counters import metrics, requestid

Answering = Callable[[HttpRequest], HttpResponseBase]
AnsweringLater = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def observed(get_response: Answering | AnsweringLater) -> Answering | AnsweringLater:
    """Observe what goes through, in whichever way the server calls Django: so nothing changes threads for it."""
    if iscoroutinefunction(get_response):
        return _observed_later(cast(AnsweringLater, get_response))
    return _observed_at_once(cast(Answering, get_response))


def _observed_at_once(get_response: Answering) -> Answering:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        begun = requestid.current.set(requestid.of(request.headers.get(requestid.HEADER)))
        try:
            return _told(request, get_response(request))
        finally:
            requestid.current.reset(begun)

    return middleware


def _observed_later(get_response: AnsweringLater) -> AnsweringLater:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        begun = requestid.current.set(requestid.of(request.headers.get(requestid.HEADER)))
        try:
            return _told(request, await get_response(request))
        finally:
            requestid.current.reset(begun)

    return middleware


def _told(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response[requestid.HEADER] = requestid.current.get()
    metrics.RESPONSES.labels(_view(request), f"{response.status_code // 100}xx").inc()
    return response


def _view(request: HttpRequest) -> str:
    """The name of the view; those of the admin have one together, and so has what no view has answered."""
    match = getattr(request, "resolver_match", None)
    if match is None:
        return "none"
    return match.namespace or match.url_name or "none"
