"""An ASGI application that does nothing under the same server.

It is no ceiling: the service answers hits in the protocol, without the task and the scope that ASGI asks for
(docs/adr/0017-hits-in-the-protocol.md).
"""

from typing import Any

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"content-length", b"38")],
}
_BODY = {"type": "http.response.body", "body": b'{"path": "/api/benchmark/1", "count": 1}'[:38]}


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer as the service would, without a count."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send(_START)
    await send(_BODY)
