"""The forms in which lists are given: JSON, CSV, and one JSON object per line. All can be streamed, row by row."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain, islice
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from rest_framework.exceptions import ValidationError
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


class CSVList(ListRenderer):
    """Comma-separated values with a header line (RFC 4180)."""

    media_type = "text/csv"
    format = "csv"

    def head(self) -> str:
        return self._lines([self.columns])

    def some(self, rows: Rows, *, first: bool) -> str:
        return self._lines(rows)

    def _lines(self, rows: Iterable[tuple[Any, ...]]) -> str:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        return text.getvalue()


LIST_RENDERERS = [JSONList, CSVList, NDJSONList]


class Negotiation(DefaultContentNegotiation):
    """Refuses an unknown ?format= by name; DRF would answer that there is no such page."""

    def filter_renderers(self, renderers: Any, format: str) -> Any:
        known = [renderer.format for renderer in renderers]
        if format not in known:
            raise ValidationError({"format": [f"Must be one of {', '.join(known)}."]})
        return super().filter_renderers(renderers, format)


class ListView(APIView):
    """A view whose answer is a list in one of the forms; what goes wrong is told in JSON whichever was asked for."""

    renderer_classes = LIST_RENDERERS
    content_negotiation_class = Negotiation

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


def streamed(request: HttpRequest, renderer: ListRenderer, rows: Iterable[tuple[Any, ...]]) -> StreamingHttpResponse:
    """An answer that is sent while it is read, so that its length costs no memory."""
    pieces = written(renderer, rows)
    # The first piece is read before the answer begins: a database that is gone can still be answered 503.
    pieces = chain([next(pieces)], pieces)
    # Under ASGI, Django would gather a synchronous iterator to its end before sending any of it.
    content: Any = _in_thread(pieces) if isinstance(request, ASGIRequest) else pieces
    return StreamingHttpResponse(content, content_type=f"{renderer.media_type}; charset={renderer.charset}")


async def _in_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, each made in the request's own thread, where its database connection lives."""
    following = sync_to_async(lambda: next(pieces, None))
    while (piece := await following()) is not None:
        yield piece
