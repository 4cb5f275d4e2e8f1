"""How gunicorn talks to a connection, with a bound where it has none."""

import asyncio
from asyncio import BaseTransport
from collections.abc import Awaitable
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol

#: From the beginning of a connection to the end of its first request's headers. For those of later requests, gunicorn's
#: `keepalive` is the bound.
FIRST_HEADERS_SECONDS = 10
#: Whoever does not take what waits to be sent to it for so long is given up, with all that its request holds: a place
#: among the lists that are being sent, a connection to the database, a snapshot.
TAKE_SECONDS = 60

#: Status, headers and body.
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


# Each protocol asks whether the parser in C is there, and notes the answer with its own class; then gunicorn reads what
# is noted with `ASGIProtocol`, and would take the parser in Python for any class that is derived from it.
ASGIProtocol._check_h1c_protocol_available()


class PatientProtocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """Closes a connection that does not send a request, or take an answer; gunicorn's own would wait for ever."""

    take_seconds = TAKE_SECONDS
    _giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        # As gunicorn's own timer between two requests, which it takes away as soon as there is a request.
        close_after(self, FIRST_HEADERS_SECONDS)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._take_again()
        # Closing it would wait until all is sent.
        self._giving_up = self.worker.loop.call_later(self.take_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._take_again()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._take_again()
        super().connection_lost(exc)

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> bool:
        """Answer one request, and return whether the connection goes on.

        What is counted is counted here, by the application's `counting`: a task, a scope and messages, as an ASGI
        application has them for each request, would take longer than all else that is done for a hit.
        """
        counted = self._counted(request, peername)
        if counted is None:
            return await super()._serve_http_request(request, sockname, peername)  # type: ignore[no-any-return]
        try:
            status, headers, body = await counted
        except Exception:  # a defect of ours
            self.log.exception("A request that is counted could not be answered")
            self._send_error_response(500, "Internal Server Error")
            return False
        if self._closed:
            return False
        if self._response_omits_body(request.method, status):
            headers, body = self._strip_body_framing_headers(headers, status), b""
        close = self._will_close(request, False)
        self._send_response_start(status, headers, request, close)
        self._send_body(body)
        if self._flow_control.write_paused:
            await self._flow_control.drain()
        if self._callback_parser.remaining():
            # The next request is there already, and may be answered without a wait as well: others have their turn.
            await asyncio.sleep(0)
        return not close

    def _counted(self, request: Any, peername: Any) -> Awaitable[Answer] | None:
        """What is answered to a request that is counted, if this is one, and all of it is there."""
        counting = self.worker.state.get("counting")
        if counting is None or not self._body_receiver._complete:
            return None
        query = request.query.encode("latin-1") if request.query else b""
        address = peername[0] if peername else None
        answer: Awaitable[Answer] | None = counting.answer_of(
            request.method, request.raw_path, query, request.headers_bytes, address
        )
        return answer

    def _take_again(self) -> None:
        if self._giving_up:
            self._giving_up.cancel()
            self._giving_up = None


def close_after(connection: ASGIProtocol, seconds: float) -> None:
    """Close a connection unless a request comes before."""
    connection._keepalive_handle = connection.worker.loop.call_later(seconds, connection._keepalive_timeout)
