"""The service as an ASGI application: what counts goes to the recorder, everything else to Django."""

import asyncio
import os
import warnings
from collections.abc import Awaitable
from contextlib import suppress
from importlib import import_module
from typing import Any, cast

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hitcounter.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()
# With all that its views need: now, before the garbage collector is told to leave alone what there is
# (hitcounter/gunicorn.py), and not with the first request.
import_module("hitcounter.urls")

from django.conf import settings

from counters.admission import new_paths
from counters.clients import origins
from counters.conf import MOST_BODY_BYTES, MOST_FORM_BYTES
from counters.ingest.app import Answer, Counting, Receive, Scope, Send
from counters.ingest.recorder import Recorder
from counters.ingest.writer import PostgresWriter
from hitcounter.bodies import Body, BodyRefused, Room, SmallBody, answer
from hitcounter.conninfo import parameters
from hitcounter.housekeeping import Housekeeping
from hitcounter.sampling import Sampling

origin_of = origins().of

# WhiteNoise hands out its files, which are small, as iterators that are not asynchronous; our own are.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators")

_HITS = b"/hits/"
_CREDENTIALS = (b"authorization", b"cookie")
#: For eight of the largest at once.
_room = Room(8 * MOST_BODY_BYTES + 8)
#: Each has a thread, and a quarter of a megabyte with it, while it waits for one of the pool's connections.
_batches = Room(32, "Too many batches are being counted; this one was not. Try again.")


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(scope, receive, send)
    elif scope["type"] != "http":
        await _refuse_websocket(receive, send)
    elif counted := _counted(scope):
        status, headers, body = await counted
        await _pass_over(Body(receive, 0, _room))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    else:
        await _ask_django(scope, receive, send)


def _counted(scope: Scope) -> Awaitable[Answer] | None:
    """What is answered to a request that counts. The server asks the same first (hitcounter/protocol.py)."""
    counting: Counting | None = scope.get("state", {}).get("counting")
    if counting is None:  # a server without lifespan state: Django counts, too, in its way
        return None
    client = scope["client"]
    return counting.answer_of(
        scope["method"], scope["raw_path"], scope["query_string"], scope["headers"], client[0] if client else None
    )


async def _pass_over(body: Body) -> None:
    """Read what nobody needs: the server closes the connection, unannounced, where an answer comes before the end."""
    with suppress(BodyRefused):
        while (await body.receive()).get("more_body", False):
            pass


async def _ask_django(scope: Scope, receive: Receive, send: Send) -> None:
    body = _body(scope, receive)
    try:
        await django_application(scope, body.receive, cast("Any", send))
    except BodyRefused as refusal:
        await answer(refusal, send)
    finally:
        body.close()


def _body(scope: Scope, receive: Receive) -> Body:
    """The request's body, as much of it as whoever sends it may have kept."""
    if scope["raw_path"] != _HITS:
        return SmallBody(receive, MOST_FORM_BYTES, _room)
    if not settings.HITCOUNTER_OPEN and not any(name in _CREDENTIALS for name, _ in scope["headers"]):
        return Body(receive, 0, _room)  # is answered 401, whatever it holds
    # The view tells when one is too large, to those who may send any.
    return Body(receive, MOST_BODY_BYTES + 1, _room, places=_batches)


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    """There are no WebSockets here; closed before it is accepted, one is answered 403."""
    await receive()
    await send({"type": "websocket.close"})


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Keep a recorder from start-up to shutdown; a service without its database starts all the same, answering 503."""
    await receive()
    recorder, housekeeping = make_recorder(), Housekeeping()
    sampling = Sampling(recorder)
    await recorder.start()
    housekeeping.start()
    sampling.start()
    scope["state"] |= {"recorder": recorder, "counting": Counting(recorder, origin_of)}
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.gather(recorder.close(), housekeeping.close(), sampling.close())
    await send({"type": "lifespan.shutdown.complete"})


def make_recorder() -> Recorder:
    """A recorder that writes to Django's own database."""
    writer = PostgresWriter(conninfo())
    return Recorder(
        writer,
        capacity=settings.HITCOUNTER_QUEUE,
        patience=settings.HITCOUNTER_PATIENCE_SECONDS,
        new_paths=new_paths(),
    )


def conninfo() -> str:
    """The libpq connection string of Django's default database, whichever that is (in tests, a test database)."""
    from psycopg.conninfo import make_conninfo

    return make_conninfo(**parameters())
