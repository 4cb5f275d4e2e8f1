"""Taking in hits that others have seen: `POST /hits/`."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from rest_framework.exceptions import UnsupportedMediaType, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from counters import batches, reports
from counters.api.schema import HITS, JSON, NDJSON
from counters.conf import MOST_BODY_BYTES
from counters.hits import now
from counters.models import Scope

LONGEST_KEY = 255
KEY_HEADER = "Idempotency-Key"

_FORMS: dict[str, Callable[[bytes], list[Any]]] = {JSON: reports.items_of_list, NDJSON: reports.items_of_lines}
#: A string as structured fields have it (RFC 9651 section 3.3.3), or what most clients send, the key as it is.
_QUOTED_KEY = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE_KEY = re.compile(r"[!#-~][!-~]*")
_ESCAPED = re.compile(r'\\(["\\])')


class BodyTooLarge(reports.BodyInvalid):
    """A body has at most 8 MB."""

    status = 413


class Hits(APIView):
    """Counts the hits that are reported, all of them or none; with an `Idempotency-Key`, once."""

    http_method_names = ["post"]
    scope = Scope.INGEST

    @HITS
    def post(self, request: Request) -> Response:
        items_of, key, body = _form(request), _key(request), _body(request)

        def read(body: bytes) -> Iterator[reports.Report]:
            return reports.reported(items_of(body), now())

        try:
            counted = batches.count(read(body)) if key is None else batches.count_once(key, body, read)
        except reports.ItemRefused as refusal:
            return Response({"detail": str(refusal), "index": refusal.index}, status=refusal.status)
        return Response({"counted": counted})


def _form(request: Request) -> Callable[[bytes], list[Any]]:
    """What reads a body of this type. Raises UnsupportedMediaType."""
    media_type = request._request.content_type
    if media_type not in _FORMS:
        raise UnsupportedMediaType(media_type or "", f"Content-Type must be one of {', '.join(_FORMS)}.")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaType(media_type, "Content-Encoding is not understood; send the body as it is.")
    return _FORMS[media_type]


def _key(request: Request) -> str | None:
    """The key that the client has given this request; quoted or not, it is the same. Raises ValidationError."""
    sent = request.headers.get(KEY_HEADER)
    if sent is None:
        return None
    quoted = _QUOTED_KEY.fullmatch(sent.strip())
    key = _ESCAPED.sub(r"\1", quoted[1]) if quoted else sent.strip()
    if len(key) > LONGEST_KEY or not (key if quoted else _BARE_KEY.fullmatch(key)):
        raise ValidationError(
            {KEY_HEADER: [f"Must be 1 to {LONGEST_KEY} ASCII characters, without spaces or in quotes."]}
        )
    return key


def _body(request: Request) -> bytes:
    """The body, of which no more is read than is allowed, whatever its Content-Length says. Raises BodyTooLarge."""
    # Not request.body, which reads all of it; nor DRF's stream, which takes a body without Content-Length for empty.
    body: bytes = request._request.read(MOST_BODY_BYTES + 1)
    if len(body) > MOST_BODY_BYTES:
        raise BodyTooLarge(BodyTooLarge.__doc__)
    return body
