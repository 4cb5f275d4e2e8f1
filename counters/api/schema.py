"""The REST API described (OpenAPI 3.1) at /schema/, and a page to read and try it at /docs/."""

from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.renderers import OpenApiJsonRenderer2
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from counters import pixel, reports
from counters.api import answers
from counters.api.formats import ErrorsInJSON
from counters.dimensions import LONGEST_ROUTE
from counters.hits import COUNTED_PREFIX, MAX_PATH_BYTES, MOST_HITS_AT_ONCE
from counters.models import Scope
from counters.origins import LONGEST_CONSUMER

JSON = "application/json"
NDJSON = "application/x-ndjson"
PROBLEM = {
    "type": "object",
    "properties": {"detail": {"type": "string"}},
    "required": ["detail"],
    "additionalProperties": False,
}
#: What is wrong with each parameter, or with the request as a whole.
BAD_REQUEST = {
    "anyOf": [
        PROBLEM,
        {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}, "minProperties": 1},
    ]
}


def problems(*statuses: int) -> dict[Any, OpenApiResponse]:
    """The error answers with these statuses, as drf-spectacular takes them."""
    return {
        (status, JSON): OpenApiResponse(BAD_REQUEST if status == 400 else PROBLEM, description=_MEANINGS[status])
        for status in statuses
    }


_MEANINGS = {
    400: "A parameter is unknown, given twice or out of range",
    401: "This is not open to everybody; or the API key is unknown, expired or revoked",
    403: "This is not open to this user or this API key, or to another site's page",
    404: "There is no such thing",
    406: "Nothing that Accept asks for",
    409: "Another load test is running",
    413: "More than 10,000 hits, or more than 8 MB",
    414: "The path is longer than 2,048 bytes; in plain text: the address is longer than the web server takes",
    415: "Neither a JSON list nor NDJSON, or an encoded body",
    422: "What is kept of the period cannot answer the question",
    503: "The database is away or behind; Retry-After says when to ask again",
}


class StatisticsSchema(AutoSchema):
    """Describes a view of counters.api.statistics by its `query` and its `row` or `object`."""

    def get_operation_id(self) -> str:
        return "_".join(self._tokenize_path())

    def get_override_parameters(self) -> list[Any]:
        etag = OpenApiParameter(
            "ETag", location="header", response=[200, 304], description="where the period is over: for If-None-Match"
        )
        view: Any = self.view
        return [*view.path_parameters, view.query, etag, *([_LINK] if view.is_list else [])]

    def get_response_serializers(self) -> Any:
        view: Any = self.view
        found: dict[Any, Any] = {(200, JSON): view.answered(many=True) if view.is_list else view.answered}
        if view.is_list:
            found |= {(200, "text/csv"): str, (200, "application/x-ndjson"): str}
        found[414, "text/plain"] = OpenApiResponse(str, description=_MEANINGS[414])
        found[304] = OpenApiResponse(description="The answer that has this ETag still holds")
        return found | problems(400, 401, 403, 404, 406, 422, 503)


_LINK = OpenApiParameter(
    "Link", location="header", response=[200], description='the next page: <address>; rel="next" (RFC 8288)'
)

LOAD_TEST = extend_schema(
    operation_id="load_test",
    request=None,
    parameters=[
        OpenApiParameter(
            "requests",
            {"type": "integer", "minimum": 1, "maximum": settings.HITCOUNTER_MAX_LOADTEST},
            "path",
            description="how many requests to send",
        )
    ],
    responses={200: answers.LoadTestReport} | problems(400, 401, 403, 404, 406, 409, 503),
)


def _optional(**schema: Any) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def _label(longest: int) -> dict[str, Any]:
    """A text without control characters; its length is in bytes, but JSON Schema counts characters."""
    return _optional(type="string", maxLength=longest, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")


_HIT = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "maxLength": MAX_PATH_BYTES, "pattern": "^/[!-~]*$"},
        "at": _optional(type="string", format="date-time", description="1970 to an hour ahead; null: now"),
        "n": _optional(type="integer", minimum=1, maximum=MOST_HITS_AT_ONCE, description="like hits; null: 1"),
        "method": _optional(type="string", pattern=f"^{reports.METHOD.pattern}$"),
        "status": _optional(type="integer", minimum=100, maximum=599),
        "consumer": _label(LONGEST_CONSUMER),
        "referrer": _optional(type="string", description="address; kept without user, query and fragment"),
        "user_agent": _optional(type="string"),
        "visitor": _label(reports.LONGEST_VISITOR) | {"description": "told apart within a UTC day; kept as a hash"},
        "country": _optional(type="string", pattern=f"^{reports.COUNTRY.pattern}$", description="ISO 3166-1"),
        "route": _label(LONGEST_ROUTE) | {"description": "URL pattern, like /product/<int:id>/"},
    },
    "required": ["path"],
    "additionalProperties": False,
}
_BAD_HIT = {
    "type": "object",
    "properties": {"detail": {"type": "string"}, "index": {"type": "integer", "minimum": 0}},
    "required": ["detail", "index"],
    "additionalProperties": False,
}
_KEY_REUSED = "This Idempotency-Key came with another body before"

HITS = extend_schema(
    operation_id="hits",
    request={
        JSON: {"type": "array", "items": _HIT, "minItems": 1, "maxItems": reports.MOST_HITS},
        NDJSON: {"type": "string", "description": "such an object per line"},
    },
    parameters=[
        OpenApiParameter(
            "Idempotency-Key",
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]*$"},
            "header",
            description="with the same key and body, hits are counted once; remembered for 7 days",
        )
    ],
    responses={
        200: answers.Counted,
        (400, JSON): OpenApiResponse({"anyOf": [_BAD_HIT, *BAD_REQUEST["anyOf"]]}, description="What, and which hit"),
        (422, JSON): OpenApiResponse(PROBLEM, description=_KEY_REUSED),
    }
    | problems(401, 403, 404, 406, 413, 415, 503),
)


def add_plain_views(result: dict[str, Any], **context: Any) -> dict[str, Any]:
    """Postprocessing hook of drf-spectacular: what is not answered by a view of Django REST framework."""
    result["paths"] |= {
        f"{COUNTED_PREFIX}{{path}}": {"get": _COUNT_HIT},
        pixel.ADDRESS: {"get": _PIXEL, "post": _BEACON},
        "/count.js": {"get": _SCRIPT},
        "/badge/{path}.svg": {"get": _BADGE | {"security": result["paths"]["/stats/"]["get"]["security"]}},
        "/metrics": {"get": _METRICS | {"security": result["paths"]["/stats/"]["get"]["security"]}},
        "/healthz/live": {"get": _health("live", "Whether this process answers.")},
        "/healthz/ready": {"get": _health("ready", "Whether a hit that comes now would be counted.", 503)},
    }
    return result


def _plain(operation: str, description: str, answers: dict[str, Any], *statuses: int) -> dict[str, Any]:
    """An operation that anybody may ask for, with its answers by status, and the statuses of its errors."""
    return {
        "operationId": operation,
        "description": description,
        "tags": [operation.partition("_")[0]],
        "security": [{}],
        "responses": answers | {str(status): _problem(status) for status in statuses},
    }


def _answer(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"description": "", "content": {media_type: {"schema": schema}}}}


def _problem(status: int) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": BAD_REQUEST if status == 400 else PROBLEM}}
    if status == 414:
        content["text/plain"] = {"schema": {"type": "string"}}
    return {"description": _MEANINGS[status], "content": content}


def _exactly(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _health(name: str, description: str, *statuses: int) -> dict[str, Any]:
    return _plain(f"healthz_{name}", description, _answer(JSON, _exactly({"status": {"const": name}})), 400, *statuses)


def _rest_of_address(characters: int, example: str) -> dict[str, Any]:
    """The parameter `path`: what follows in the address, slashes included."""
    return {
        "name": "path",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[!-~]+$", "maxLength": characters},
        "example": example,
    }


_COUNT_HIT = _plain(
    "api_count",
    "Counts one hit of this path, everything after the host and before the query, byte for byte as it was sent.",
    _answer(
        JSON,
        _exactly(
            {
                "path": {"type": "string"},
                "count": {"type": "integer", "minimum": 1, "description": "this hit's own place"},
            }
        ),
    ),
    400,
    414,
    503,
) | {"parameters": [_rest_of_address(MAX_PATH_BYTES - len(COUNTED_PREFIX), "hello/world/")]}

_IMAGE: dict[str, Any] = {"type": "string", "format": "binary"}
_TEXT: dict[str, Any] = {"type": "string"}

_PAGE_VIEW = {
    "parameters": [
        {
            "name": "path",
            "in": "query",
            "required": True,
            "schema": {"type": "string", "pattern": "^/[!-~]*$", "maxLength": MAX_PATH_BYTES},
            "description": "the page's path, byte for byte; percent-encoded once more, as any parameter",
            "example": "/blog/post/",
        },
        {
            "name": "referrer",
            "in": "query",
            "schema": {"type": "string"},
            "description": "where the page was come to from; the Referer header, which is the page itself, is not read",
        },
    ]
}
_PIXEL = _plain("pixel_get", "Counts one view of a page.", _answer("image/gif", _IMAGE), 400, 414, 503) | _PAGE_VIEW
_BEACON = (
    _plain(
        "pixel_post",
        "Counts one view of a page, as navigator.sendBeacon tells it; a body is not read.",
        {"204": {"description": "It is counted"}},
        400,
        414,
        503,
    )
    | _PAGE_VIEW
)
_SCRIPT = _plain(
    "script", "The script that counts the views of the page that loads it.", _answer("text/javascript", _TEXT), 400
)
_BADGE = _plain(
    "badge",
    "The count of all times of this path, after /badge and before .svg, byte for byte.",
    _answer("image/svg+xml", _TEXT),
    400,
    401,
    403,
    404,
    414,
    503,
) | {"parameters": [_rest_of_address(MAX_PATH_BYTES - 1, "api/hello/world/")]}

_METRICS = _plain(
    "metrics",
    "What the service measures of itself, as Prometheus reads it.",
    _answer("text/plain", _TEXT),
    400,
    401,
    403,
)


@cache
def schema() -> dict[str, Any]:
    """The whole description, which is the same for everybody; made once."""
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return made


class Schema(ErrorsInJSON):
    """The description as JSON."""

    http_method_names = ["get", "head"]
    scope = Scope.STATS
    renderer_classes = [OpenApiJsonRenderer2]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        return Response(schema())


class Docs(ErrorsInJSON, SpectacularSwaggerSplitView):
    """The page: Swagger UI, whose files come from this service; neither its script nor its style stands in the page."""

    template_name = "counters/docs.html"
    http_method_names = ["get", "head"]
    scope = Scope.STATS

    def handle_exception(self, exc: Exception) -> Any:
        """Whoever might log in is asked to, as this is a page; a bad key is told in JSON, as everywhere."""
        if isinstance(exc, NotAuthenticated):
            return redirect_to_login(self.request.get_full_path())
        return super().handle_exception(exc)
