"""The forms in which lists are given: JSON, CSV, and one JSON object per line. All can be streamed, row by row."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, islice
from threading import BoundedSemaphore
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

ROWS_AT_ONCE = 2_000

Rows = list[tuple[Any, ...]]


class ListRenderer(BaseRenderer):
    """Writes a list in pieces: `head`, `some` rows at a time, `tail`."""

    charset = "utf-8"

    columns: tuple[str, ...] = ()

    def head(self) -> str:
        return ""

    def some(self, rows: Rows, *, first: bool) -> str:
        raise NotImplementedError

    def tail(self) -> str:
        return ""


class JSONList(ListRenderer):
    """A JSON list of objects."""

    media_type = "application/json"
    format = "json"

    def head(self) -> str:
        return "["

    def some(self, rows: Rows, *, first: bool) -> str:
        objects = json.dumps([dict(zip(self.columns, row, strict=True)) for row in rows])
        return objects[1:-1] if first else ", " + objects[1:-1]

    def tail(self) -> str:
        return "]"


class NDJSONList(ListRenderer):
    """A JSON object per line (https://github.com/ndjson/ndjson-spec)."""

    media_type = "application/x-ndjson"
    format = "ndjson"

    def some(self, rows: Rows, *, first: bool) -> str:
        return "".join([json.dumps(dict(zip(self.columns, row, strict=True))) + "\n" for row in rows])


#: With these a spreadsheet takes a cell for a formula (https://owasp.org/www-community/attacks/CSV_Injection).
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class CSVList(ListRenderer):
    """Comma-separated values with a header line (RFC 4180), safe to open in a spreadsheet.

    Anybody can send a referrer that begins like a formula. Such a text gets a single quote before it, which makes it
    one to spreadsheets; who needs every text as it is takes another form.
    """

    media_type = "text/csv"
    format = "csv"

    def head(self) -> str:
        return self._lines([self.columns])

    def some(self, rows: Rows, *, first: bool) -> str:
        return self._lines([tuple(map(defused, row)) for row in rows])

    def _lines(self, rows: Iterable[tuple[Any, ...]]) -> str:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return text.getvalue()


def defused(cell: Any) -> Any:
    """The cell, which no spreadsheet takes for a formula; numbers are what they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


LIST_RENDERERS = [JSONList, CSVList, NDJSONList]


#: Of the ten connections that a process has for all but counting.
MOST_STREAMS = 5
#: So long a list waits for others to be sent, as it would for a connection.
PLACE_SECONDS = 2


class Negotiation(DefaultContentNegotiation):
    """Refuses an unknown ?format= by name; DRF would answer that there is no such page."""

    def filter_renderers(self, renderers: Any, format: str) -> Any:
        known = [renderer.format for renderer in renderers]
        if format not in known:
            raise ValidationError({"format": [f"Must be one of {', '.join(known)}."]})
        return super().filter_renderers(renderers, format)


class ErrorsInJSON(APIView):
    """What goes wrong is told in JSON, whichever form was asked for."""

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        self.request.accepted_renderer, self.request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        return response


def written(renderer: ListRenderer, rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
    """The list in pieces of some thousand rows, the first of them with its beginning."""
    unread = iter(rows)
    some = list(islice(unread, ROWS_AT_ONCE))
    yield (renderer.head() + (renderer.some(some, first=True) if some else "")).encode()
    while some := list(islice(unread, ROWS_AT_ONCE)):
        yield renderer.some(some, first=False).encode()
    yield renderer.tail().encode()


class Pieces:
    """The pieces of a list, the first of which is read before the answer begins: an error can still be answered.

    Django calls `close` in the request's own thread when it is done, or when the client has left: the database's cursor
    must not outlive the request, since its connection goes back to the pool.
    """

    def __init__(self, renderer: ListRenderer, rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows = rows
        pieces = written(renderer, rows)
        self._pieces = chain([next(pieces)], pieces)

    def close(self) -> None:
        close = getattr(self._rows, "close", None)
        if close:
            close()


class TooManyStreams(APIException):
    """Too many lists are being sent; try again."""

    status_code = 503
    default_detail = __doc__ or ""
    wait = 1  # DRF makes Retry-After of it


class SyncPieces(Pieces):
    """For WSGI."""

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


class AsyncPieces(Pieces):
    """For ASGI, where Django would gather a synchronous iterator to its end before sending any of it.

    Whoever reads slowly, or not at all, keeps a connection to the database for as long. So that others find one, there
    are at most MOST_STREAMS in a process, and who takes nothing is given up (hitcounter/protocol.py). Raises
    TooManyStreams.
    """

    _places = BoundedSemaphore(MOST_STREAMS)

    def __init__(self, renderer: ListRenderer, rows: Iterable[tuple[Any, ...]]) -> None:
        self._leave = ExitStack()
        if not self._places.acquire(timeout=PLACE_SECONDS):
            raise TooManyStreams
        self._leave.callback(self._places.release)
        try:
            super().__init__(renderer, rows)
        except BaseException:
            self._leave.close()
            raise

    def close(self) -> None:
        with self._leave:
            super().close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # Each piece is made in the request's own thread, where its database connection lives.
        following = sync_to_async(lambda: next(self._pieces, None))
        try:
            while (piece := await following()) is not None:
                yield piece
        except Exception:  # Django does not close an answer that fails in its midst
            await sync_to_async(self.close)()
            raise


def streamed(request: HttpRequest, renderer: ListRenderer, rows: Iterable[tuple[Any, ...]]) -> StreamingHttpResponse:
    """An answer that is sent while it is read, so that its length costs no memory."""
    kind = AsyncPieces if isinstance(request, ASGIRequest) else SyncPieces
    content: Any = kind(renderer, rows)
    return StreamingHttpResponse(content, content_type=content_type(renderer))


def content_type(renderer: ListRenderer) -> str:
    """As the header has it."""
    return f"{renderer.media_type}; charset={renderer.charset}"
