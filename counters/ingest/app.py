"""The ASGI application of what is counted: a hit in, its place in the count out, or the pixel, after the commit."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from counters import metrics, pixel
from counters.dimensions import Origin
from counters.hits import (
    COUNTED_METHODS,
    COUNTED_PREFIX,
    DatabaseRefused,
    HitRefused,
    PathInvalid,
    PathTooLong,
    check_path,
)
from counters.ingest.recorder import NotRecorded, Recorder, Unknown
from counters.origins import ConsumerInvalid

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
#: Where a request comes from: by its method, its headers and the address of its peer (origins.Origins.of).
OriginOf = Callable[[str, Headers, str | None], Origin]

RETRY_AFTER_SECONDS = 1

_JSON: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_ALLOW = (b"allow", ", ".join(COUNTED_METHODS).encode())
_RETRY = (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)
_COUNTED = COUNTED_PREFIX.encode()

_PIXEL_HEADERS: Headers = [(name.lower().encode(), value.encode()) for name, value in pixel.HEADERS.items()]
_PIXEL_JSON: Headers = [(b"content-type", b"application/json"), *_PIXEL_HEADERS]
_GIF: Headers = [(b"content-type", b"image/gif"), *_PIXEL_HEADERS]
_PIXEL_ALLOW = (b"allow", ", ".join(pixel.METHODS).encode())
_PIXEL = pixel.ADDRESS.encode()

_REFUSALS = (PathTooLong, PathInvalid, ConsumerInvalid, pixel.ParametersInvalid, DatabaseRefused)
for _reason in (*_REFUSALS, *NotRecorded.__subclasses__(), Unknown):
    metrics.refused(_reason)  # is 0 from now on, rather than unknown


def is_counted(scope: Scope) -> bool:
    """Whether this request's path is one of those that are counted."""
    return scope["raw_path"].startswith(_COUNTED)  # type: ignore[no-any-return]


def is_pixel(scope: Scope) -> bool:
    """Whether this request is for the pixel, which tells of a page view."""
    return scope["raw_path"] == _PIXEL  # type: ignore[no-any-return]


async def count_hit(recorder: Recorder, origin_of: OriginOf, scope: Scope, send: Send) -> None:
    """Answer one request for a counted path; the request's body is not read."""
    method = scope["method"]
    if method not in COUNTED_METHODS:
        await _refuse(send, 405, {"detail": f"{method} is not counted, GET is."}, [*_JSON, _ALLOW])
        return
    try:
        path = check_path(scope["raw_path"].decode("latin-1"))
        if method == "HEAD":
            await _answer(send, 200, b"", _JSON)
            return
        client = scope["client"]
        origin = origin_of(method, scope["headers"], client[0] if client else None)
        counted, place = await recorder.record(path, origin)
    except HitRefused as refusal:
        metrics.refused(type(refusal)).inc()
        await _refuse(send, refusal.status, refusal.problem, _JSON)
    except NotRecorded as reason:
        metrics.refused(type(reason)).inc()
        await _refuse(send, 503, {"detail": str(reason)}, [*_JSON, _RETRY])
    else:
        await _answer(send, 200, f'{{"path": {_quoted(counted)}, "count": {place}}}'.encode(), _JSON)


async def count_view(recorder: Recorder, origin_of: OriginOf, scope: Scope, send: Send) -> None:
    """Answer one request for the pixel: the page view that it tells of is a hit; the request's body is not read."""
    method = scope["method"]
    if method not in pixel.METHODS:
        await _refuse(send, 405, {"detail": pixel.NOT_ALLOWED.format(method)}, [*_PIXEL_JSON, _PIXEL_ALLOW])
        return
    try:
        view = pixel.page_view(scope["query_string"])
        if method != "HEAD":
            client = scope["client"]
            origin = origin_of(pixel.COUNTED_AS, view.headers(scope["headers"]), client[0] if client else None)
            await recorder.record(view.path, origin)
    except HitRefused as refusal:
        metrics.refused(type(refusal)).inc()
        await _refuse(send, refusal.status, refusal.problem, _PIXEL_JSON)
    except NotRecorded as reason:
        metrics.refused(type(reason)).inc()
        await _refuse(send, 503, {"detail": str(reason)}, [*_PIXEL_JSON, _RETRY])
    else:
        if method == "POST":
            await _answer(send, 204, b"", _PIXEL_HEADERS)
        else:
            await _answer(send, 200, pixel.GIF, _GIF)


def _quoted(path: str) -> str:
    """The path as a JSON string; most have nothing that must be escaped, which is quicker to see than to do."""
    if '"' in path or "\\" in path:
        return json.dumps(path)
    return f'"{path}"'


async def _refuse(send: Send, status: int, problem: dict[str, Any], headers: Headers) -> None:
    await _answer(send, status, json.dumps(problem).encode(), headers)


async def _answer(send: Send, status: int, body: bytes, headers: Headers) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
