"""Counts every request that a Django project handles: one line in its MIDDLEWARE (docs/middleware.md).

It can be installed without the service, so nothing here but `orm` imports anything else of `counters`.
"""

import asyncio
import atexit
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Protocol, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import apps
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from counters.middleware import conf
from counters.middleware.complaint import Complaint
from counters.middleware.request import Hit, hit_of
from counters.middleware.sender import Sender
from counters.middleware.service import Service
from counters.middleware.spool import Spool

GetResponse = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]

_LOST = Complaint("%d hits were not counted, the last because: %s", logging.ERROR)
_UNTOLD = Complaint("HITCOUNTER_CONSUMER failed %d times, the last with: %r", logging.ERROR)


class Counting(Protocol):
    """Where hits go, and how an event loop gets them there."""

    def count(self, request: HttpRequest, hit: Hit) -> None: ...

    async def aside(self, count: Callable[[], None]) -> None:
        """Call `count`, which comes to `self.count`, so that the loop does not wait for anything."""


class CountRequests:
    """Middleware, best listed first: counts a request when it has been answered, whatever the answer.

    What goes wrong with counting is logged and does not touch the request.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._consumer = conf.consumer()
        self._counting = _counting()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._answer(request)
        response = cast("HttpResponseBase", self._get_response(request))
        self._count(request, response.status_code, datetime.now(UTC))
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        try:
            response = await cast("Awaitable[HttpResponseBase]", self._get_response(request))
        except asyncio.CancelledError:  # the client has left, and Django ends the view
            await self._count_aside(request, None)
            raise
        await self._count_aside(request, response.status_code)
        return response

    async def _count_aside(self, request: HttpRequest, status: int | None) -> None:
        await self._counting.aside(partial(self._count, request, status, datetime.now(UTC)))

    def _count(self, request: HttpRequest, status: int | None, at: datetime) -> None:
        try:
            self._counting.count(request, hit_of(request, status, self._consumer_of(request), at))
        except Exception as error:
            _LOST.say(error)
        else:
            _LOST.repeat()

    def _consumer_of(self, request: HttpRequest) -> str:
        try:
            return str(self._consumer(request) or "")
        except Exception as error:
            _UNTOLD.say(error)
            return ""


class _Sending:
    """Counting elsewhere: hits are sent."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def count(self, request: HttpRequest, hit: Hit) -> None:
        self._sender.count(hit)

    async def aside(self, count: Callable[[], None]) -> None:
        count()  # takes some microseconds: less than handing it to a thread


def _counting() -> Counting:
    if apps.is_installed("counters"):
        from counters.middleware import orm

        return orm
    return _Sending(_sender(conf.url(), conf.key(), conf.spool(), conf.spool_bytes()))


@cache
def _sender(url: str, key: str, directory: Path, most_bytes: int) -> Sender:
    """The process's sender, which all instances of the middleware share. It starts with the first hit."""
    sender = Sender(Spool(directory, most_bytes), Service(url, key).count)
    sender.attend_forks()
    atexit.register(sender.close)
    return sender


atexit.register(_LOST.finish)
