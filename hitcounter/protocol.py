"""How gunicorn talks to a connection, with a bound where it has none."""

from asyncio import BaseTransport

from gunicorn.asgi.protocol import ASGIProtocol

#: From the beginning of a connection to the end of its first request's headers. For those of later requests, gunicorn's
#: `keepalive` is the bound.
FIRST_HEADERS_SECONDS = 10


class PatientProtocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """Closes a connection that does not send a request; gunicorn's own would wait for one for ever."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        # As gunicorn's own timer between two requests, which it takes away as soon as there is a request.
        self._keepalive_handle = self.worker.loop.call_later(FIRST_HEADERS_SECONDS, self._keepalive_timeout)
