"""How gunicorn talks to a connection, with a bound where it has none, and how it takes leave of it."""

import asyncio
from asyncio import BaseTransport
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol

#: From the beginning of a connection to the end of its first request's headers. For those of later requests, gunicorn's
#: `keepalive` is the bound.
FIRST_HEADERS_SECONDS = 10
#: A connection that comes to rest while its worker ends is kept for so long, for a request that is on its way already.
LAST_REST_SECONDS = 1
POLL_SECONDS = 0.05


# Each protocol asks whether the parser in C is there, and notes the answer with its own class; then gunicorn reads what
# is noted with `ASGIProtocol`, and would take the parser in Python for any class that is derived from it.
ASGIProtocol._check_h1c_protocol_available()


class PatientProtocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """Closes a connection that does not send a request; gunicorn's own would wait for one for ever."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        # As gunicorn's own timer between two requests, which it takes away as soon as there is a request.
        _close_after(self, FIRST_HEADERS_SECONDS)


async def take_leave(worker: Any) -> None:
    """Take no more connections, and return when those that there are have ended, or only long answers are left.

    Each is told with its next answer that it is the last; one that rests is closed by its timer. gunicorn's own way
    would be to break connections that it has just promised to keep.
    """
    worker.leaving = True
    # Only now, so that until then nothing more is asked with each request.
    PatientProtocol._will_close = _will_close
    PatientProtocol._arm_keepalive_timer = _arm_last_timer
    for server in worker.servers:
        server.close()
    loop = asyncio.get_running_loop()
    end = loop.time() + worker.cfg.keepalive + 1
    while worker.nr_conns and loop.time() < end:
        await asyncio.sleep(POLL_SECONDS)


def _will_close(connection: ASGIProtocol, request: Any, response_requires_close: bool) -> bool:
    return True


def _arm_last_timer(connection: ASGIProtocol) -> None:
    connection._cancel_keepalive_timer()
    _close_after(connection, LAST_REST_SECONDS)


def _close_after(connection: ASGIProtocol, seconds: float) -> None:
    connection._keepalive_handle = connection.worker.loop.call_later(seconds, connection._keepalive_timeout)
