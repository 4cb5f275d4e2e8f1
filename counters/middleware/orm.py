"""Counting through the ORM, where this project's own tables are at hand: as its own views count."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest

from counters.clients import headers_of, origins, without_consumer
from counters.dimensions import Origin
from counters.middleware.request import Hit
from counters.models import Counter
from counters.origins import ConsumerInvalid

View = TypeVar("View", bound=Callable[..., Any])

_COUNTS_ITSELF = "counts_itself"
#: Hits that event loops are about to count; a loop alone does not keep them.
_under_way: set[asyncio.Future[None]] = set()


def counts_itself(view: View) -> View:
    """Mark a view that decides by itself what its requests count."""
    setattr(view, _COUNTS_ITSELF, True)
    return view


def count(request: HttpRequest, hit: Hit) -> None:
    """Count a request in a transaction of its own, unless its view counts itself."""
    match = request.resolver_match
    if match is None or not hasattr(match.func, _COUNTS_ITSELF):
        at = datetime.fromisoformat(hit["at"])
        Counter.objects.increment(hit["path"], origin=_origin(request, hit), at=at)


async def aside(count: Callable[[], None]) -> None:
    """In the thread that Django keeps for its database. A client that leaves meanwhile does not end it."""
    counting = asyncio.ensure_future(sync_to_async(count)())
    _under_way.add(counting)
    counting.add_done_callback(_under_way.discard)
    await asyncio.shield(counting)


def _origin(request: HttpRequest, hit: Hit) -> Origin:
    """Where a request comes from, as of any request to the service, with what only the project knows of it."""
    origin = _told(hit.get("method", ""), headers_of(request), request.META.get("REMOTE_ADDR"))
    dimensions = origin.dimensions._replace(status=hit.get("status"), route=hit.get("route", ""))
    if getattr(settings, "HITCOUNTER_CONSUMER", None) is not None:
        dimensions = dimensions._replace(consumer=hit.get("consumer", ""))
    return Origin(dimensions, origin.identity)


def _told(method: str, headers: list[tuple[bytes, bytes]], peer: str | None) -> Origin:
    try:
        return origins().of(method, headers, peer)
    except ConsumerInvalid:  # The service would refuse the request, but this one has been answered.
        return origins().of(method, without_consumer(headers), peer)
