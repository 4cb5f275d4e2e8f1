"""What is counted without Django: a hit in, its place in the count out, or the pixel, after the commit."""

import json
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
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
#: Status, headers and body.
Answer = tuple[int, Headers, bytes]
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


class Counting:
    """Answers what is counted: hits, and the page views that the pixel tells of."""

    def __init__(self, recorder: Recorder, origin_of: OriginOf) -> None:
        self._recorder = recorder
        self._origin_of = origin_of

    def answer_of(
        self, method: str, raw_path: bytes, query: bytes, headers: Headers, address: str | None
    ) -> Coroutine[Any, Any, Answer] | None:
        """What a request from the peer at this address is answered, its body unread; None if it is not counted."""
        if raw_path.startswith(_COUNTED):
            return self._hit(method, raw_path, headers, address)
        if raw_path == _PIXEL:
            return self._view(method, query, headers, address)
        return None

    async def _hit(self, method: str, raw_path: bytes, headers: Headers, address: str | None) -> Answer:
        if method not in COUNTED_METHODS:
            return _refusal(405, {"detail": f"{method} is not counted, GET is."}, [*_JSON, _ALLOW])
        try:
            path = check_path(raw_path.decode("latin-1"))
            if method == "HEAD":
                return _answer(200, b"", _JSON)
            counted, place = await self._recorder.record(path, self._origin_of(method, headers, address))
        except (HitRefused, NotRecorded) as reason:
            return _not_counted(reason, _JSON)
        return _answer(200, f'{{"path": {_quoted(counted)}, "count": {place}}}'.encode(), _JSON)

    async def _view(self, method: str, query: bytes, headers: Headers, address: str | None) -> Answer:
        if method not in pixel.METHODS:
            return _refusal(405, {"detail": pixel.NOT_ALLOWED.format(method)}, [*_PIXEL_JSON, _PIXEL_ALLOW])
        try:
            view = pixel.page_view(query)
            if method != "HEAD":
                origin = self._origin_of(pixel.COUNTED_AS, view.headers(headers), address)
                await self._recorder.record(view.path, origin)
        except (HitRefused, NotRecorded) as reason:
            return _not_counted(reason, _PIXEL_JSON)
        return _answer(204, b"", _PIXEL_HEADERS) if method == "POST" else _answer(200, pixel.GIF, _GIF)


def _not_counted(reason: HitRefused | NotRecorded, headers: Headers) -> Answer:
    metrics.refused(type(reason)).inc()
    if isinstance(reason, HitRefused):
        return _refusal(reason.status, reason.problem, headers)
    return _refusal(503, {"detail": str(reason)}, [*headers, _RETRY])


def _quoted(path: str) -> str:
    """The path as a JSON string; most have nothing that must be escaped, which is quicker to see than to do."""
    if '"' in path or "\\" in path:
        return json.dumps(path)
    return f'"{path}"'


def _refusal(status: int, problem: dict[str, Any], headers: Headers) -> Answer:
    return _answer(status, json.dumps(problem).encode(), headers)


def _answer(status: int, body: bytes, headers: Headers) -> Answer:
    return status, [*headers, (b"content-length", b"%d" % len(body))], body
