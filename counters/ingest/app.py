"""The ASGI application of the counted paths: one hit in, its place in the count out, after the commit."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from counters.dimensions import Origin
from counters.hits import COUNTED_METHODS, COUNTED_PREFIX, HitRefused, check_path
from counters.ingest.recorder import NotRecorded, Recorder

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
#: Where a request comes from: by its method, its headers and the address of its peer (origins.Origins.of).
OriginOf = Callable[[str, Headers, str | None], Origin]

RETRY_AFTER_SECONDS = 1

_HEADERS: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_ALLOW = (b"allow", ", ".join(COUNTED_METHODS).encode())
_COUNTED = COUNTED_PREFIX.encode()


def is_counted(scope: Scope) -> bool:
    """Whether this request's path is one of those that are counted."""
    return scope["raw_path"].startswith(_COUNTED)  # type: ignore[no-any-return]


async def count_hit(recorder: Recorder, origin_of: OriginOf, scope: Scope, send: Send) -> None:
    """Answer one request for a counted path; the request's body is not read."""
    method = scope["method"]
    if method not in COUNTED_METHODS:
        await _refuse(send, 405, f"{method} is not counted, GET is.", _ALLOW)
        return
    try:
        path = check_path(scope["raw_path"].decode("latin-1"))
        if method == "HEAD":
            await _answer(send, 200, b"", [])
            return
        client = scope["client"]
        origin = origin_of(method, scope["headers"], client[0] if client else None)
        place = await recorder.record(path, origin)
    except HitRefused as refusal:
        await _refuse(send, refusal.status, str(refusal))
    except NotRecorded as reason:
        await _refuse(send, 503, str(reason), (b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
    else:
        await _answer(send, 200, f'{{"path": {_quoted(path)}, "count": {place}}}'.encode(), [])


def _quoted(path: str) -> str:
    """The path as a JSON string; most have nothing that must be escaped, which is quicker to see than to do."""
    if '"' in path or "\\" in path:
        return json.dumps(path)
    return f'"{path}"'


async def _refuse(send: Send, status: int, reason: str, *headers: tuple[bytes, bytes]) -> None:
    await _answer(send, status, json.dumps({"detail": reason}).encode(), list(headers))


async def _answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*_HEADERS, length, *headers]})
    await send({"type": "http.response.body", "body": body})
