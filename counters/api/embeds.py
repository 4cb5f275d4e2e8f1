"""What web pages embed: the pixel and the script that count their views, and the badge that shows a path's count."""

import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.utils.decorators import decorator_from_middleware
from django.utils.http import parse_etags
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.gzip import gzip_page
from django.views.decorators.vary import vary_on_headers
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from counters import pixel, stats
from counters.admission import count_one
from counters.api.errors import DatabaseErrors, detail
from counters.api.views import query_of, refusals_told
from counters.clients import headers_of, origins
from counters.hits import check_path
from counters.middleware.orm import counts_itself
from counters.middleware.request import requested_path
from counters.models import Scope

# Without the indentation, the empty lines and the comment lines, which are for readers of its source.
SCRIPT = re.sub(r"(?m)^\s*(//.*\n)?", "", Path(__file__).with_name("count.js").read_text())
SCRIPT_SECONDS = 86_400
BADGE_SECONDS = 60

# What the characters of a badge's number take, in pixels; whichever type there is, the number is fitted to that.
_DIGIT, _COMMA = 8, 4
_BADGE = re.compile(r"/badge(/.*)\.svg")


@counts_itself
@csrf_exempt
def count_view(request: HttpRequest) -> HttpResponseBase:
    """Count one page view through the ORM: what counters/ingest does as well, and must do with the same result."""
    response = _answer_to_view(request)
    for name, value in pixel.HEADERS.items():
        response[name] = value
    return response


@decorator_from_middleware(DatabaseErrors)  # within the view, so that these answers have its headers, too
def _answer_to_view(request: HttpRequest) -> HttpResponse:
    if request.method not in pixel.METHODS:
        return detail(405, pixel.NOT_ALLOWED.format(request.method), {"Allow": ", ".join(pixel.METHODS)})
    with refusals_told():
        view = pixel.page_view(query_of(request))
        if request.method != "HEAD":
            origin = origins().of(pixel.COUNTED_AS, view.headers(headers_of(request)), request.META.get("REMOTE_ADDR"))
            count_one(view.path, origin)
    if request.method != "POST":
        return HttpResponse(pixel.GIF, content_type="image/gif")
    nothing = HttpResponse(status=204)
    del nothing["Content-Type"]
    return nothing


@vary_on_headers("Accept-Encoding")
@gzip_page
def script(request: HttpRequest) -> HttpResponse:
    """The script that tells the pixel of each view of the page that loads it."""
    if request.method not in ("GET", "HEAD"):
        return detail(405, f"{request.method} is not answered, GET is.", {"Allow": "GET, HEAD"})
    response = _embedded(request, HttpResponse(SCRIPT, content_type="text/javascript; charset=utf-8"))
    response["Cache-Control"] = f"public, max-age={SCRIPT_SECONDS}"
    return response


class Badge(APIView):
    """The count of all times of one path, as a picture in SVG."""

    http_method_names = ["get", "head"]
    scope = Scope.STATS

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """There is one picture, whatever Accept asks for; errors are JSON."""
        return JSONRenderer(), JSONRenderer.media_type

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        path = _path_of_badge(request._request)
        response = _embedded(request._request, HttpResponse(_drawn(path), content_type="image/svg+xml; charset=utf-8"))
        response["Content-Security-Policy"] = "default-src 'none'"
        audience = "public" if settings.HITCOUNTER_OPEN else "private"
        response["Cache-Control"] = f"{audience}, max-age={BADGE_SECONDS}"
        return response


def _path_of_badge(request: HttpRequest) -> str:
    """The path, byte for byte, that the badge is asked for. Raises NotFound, PathTooLong, PathInvalid."""
    address = _BADGE.fullmatch(requested_path(request))
    if not address:
        raise NotFound("A badge is at /badge/<path>.svg.")
    return check_path(address[1])


def _drawn(path: str) -> str:
    count = stats.count(path)
    number = f"{count:,}"
    length = sum(_COMMA if character == "," else _DIGIT for character in number)
    sizes = {"length": length, "right": length + 30, "width": length + 60}
    return render_to_string("counters/badge.svg", {"path": path, "count": count, "number": number, **sizes})


def _embedded(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The answer as pages of any site may embed it, unless the client has it already: then, 304."""
    etag = f'W/"{blake2b(response.content, digest_size=16).hexdigest()}"'
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        response = HttpResponseNotModified()
    response["ETag"] = etag
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
