"""What happens now, second by second, as server-sent events (https://html.spec.whatwg.org/#server-sent-events)."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from counters.access import aneeds
from counters.api.errors import detail
from counters.dashboard.shown import path_shown
from counters.live import Event, Feed
from counters.models import Scope

#: A browser whose stream ends comes again after this time.
RETRY_MS = 2_000
#: A stream ends then, and whether its reader may still look is asked again when it is opened anew.
LONGEST_SECONDS = 900

#: This process's; it is closed when the worker takes its leave, since the server first waits for open streams to end.
feed = Feed()


@aneeds(Scope.STATS)
async def events(request: HttpRequest) -> HttpResponseBase:
    """The events of counters.live.Feed, each a JSON object; a comment where nothing has happened for a while.

    Without ASGI, it is answered 501: a stream would take a whole thread or process, and never end.
    """
    if request.method != "GET":
        return detail(405, f"{request.method} is not answered, GET is.", {"Allow": "GET"})
    if not isinstance(request, ASGIRequest):
        return detail(501, "Events need an ASGI server, such as `manage.py serve` starts.")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(_stream(), content_type="text/event-stream", headers=headers)


async def _stream() -> AsyncIterator[bytes]:
    end = time.monotonic() + LONGEST_SECONDS
    yield b"retry: %d\n\n" % RETRY_MS
    async with aclosing(feed.listen()) as told:
        async for event in told:
            yield b": still here\n\n" if event is None else b"data: %s\n\n" % json.dumps(_shown(event)).encode()
            if time.monotonic() > end:
                return


def _shown(event: Event) -> Event:
    """The event with each path as people read it, too."""
    paths = [{**row, "shown": path_shown(row["path"])} for row in event.get("paths", [])]
    return {**event, "paths": paths} if paths else event
