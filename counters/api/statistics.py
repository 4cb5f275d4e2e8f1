"""The statistics: check what is asked, call, answer."""

import json
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import blake2b
from typing import Any, ClassVar, cast

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase, HttpResponseNotModified
from django.utils.cache import patch_cache_control
from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from counters import hits, stats
from counters.api import answers, queries
from counters.api.formats import LIST_RENDERERS, ErrorsInJSON, ListRenderer, Negotiation, content_type, streamed
from counters.api.schema import StatisticsSchema
from counters.models import Scope
from counters.periods import PeriodInvalid
from counters.stats import Position, Question

Asked = dict[str, Any]
Rows = Iterable[tuple[Any, ...]]


class Statistics(ErrorsInJSON):
    """A question, checked by `query`, and its answer. HEAD checks the question and reads nothing."""

    http_method_names = ["get", "head"]
    scope = Scope.STATS
    content_negotiation_class = Negotiation
    #: The forms of the question and of (a row of) the answer: these are also what the schema tells.
    query: ClassVar[type[queries.PeriodQuery]]
    answered: ClassVar[type[serializers.Serializer[Any]]]
    is_list: ClassVar[bool] = False
    path_parameters: ClassVar[list[OpenApiParameter]] = []
    schema = StatisticsSchema()

    def head(self, request: Request, **kwargs: Any) -> HttpResponse:
        queries.asked_by(request, self.query)
        return HttpResponse(content_type=self.content_type(request))

    def get(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        asked = queries.asked_by(request, self.query)
        etag = _etag(request, asked)
        if etag and etag in parse_etags(request.headers.get("If-None-Match", "")):
            response: HttpResponseBase = HttpResponseNotModified()
        else:
            response = self.answer(request, asked)
        if etag:
            response["ETag"] = etag
        return response

    def content_type(self, request: Request) -> str:
        return str(request.accepted_renderer.media_type)

    def answer(self, request: Request, asked: Asked) -> HttpResponseBase:
        raise NotImplementedError

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        # Figures grow: whoever keeps an answer asks whether it still holds.
        patch_cache_control(response, private=True, no_cache=True)
        return super().finalize_response(request, response, *args, **kwargs)


def _etag(request: Request, asked: Asked) -> str | None:
    """A validator of the answer, found for less than the answer; None where there is none.

    An answer until now, or about two periods, has none. Weak (RFC 9110 section 8.8.1): the same figures, perhaps in
    other bytes.
    """
    if asked["question"].period.end is None or asked.get("compare"):
        return None
    version = stats.version(asked["question"])
    if version is None:
        return None
    code = settings.SPECTACULAR_SETTINGS["VERSION"]  # another version of the service may word an answer otherwise
    named = json.dumps([code, version, request.get_full_path(), request.accepted_renderer.format])
    return f'W/"{blake2b(named.encode(), digest_size=16).hexdigest()}"'


class Listing(Statistics):
    """A plain list, whole or in linked pages, in any of the forms of a list."""

    is_list = True
    renderer_classes = LIST_RENDERERS

    def content_type(self, request: Request) -> str:
        return content_type(cast(ListRenderer, request.accepted_renderer))

    def answer(self, request: Request, asked: Asked) -> HttpResponseBase:
        renderer = cast(ListRenderer, request.accepted_renderer)
        renderer.columns = tuple(self.answered().fields)
        rows = self.rows(asked)
        if asked["limit"] is None:
            return streamed(request._request, renderer, rows)
        page = _taken(rows)
        response = streamed(request._request, renderer, page)
        if len(page) == asked["limit"]:
            response["Link"] = _next_link(request, self.cursor(asked, page[-1]))
        return response

    def rows(self, asked: Asked) -> Rows:
        """The rows of the page that is asked for, or all."""
        raise NotImplementedError

    def cursor(self, asked: Asked, last: tuple[Any, ...]) -> str:
        """Where the page that follows `last` begins."""
        raise NotImplementedError


def _taken(rows: Rows) -> list[tuple[Any, ...]]:
    """The rows of a page, read at once: what they are read from is not kept open while they are sent."""
    if isinstance(rows, list):
        return rows
    with closing(cast(Any, rows)):
        return list(rows)


def _next_link(request: Request, cursor: str) -> str:
    """The address of the page that begins at `cursor`, as RFC 8288 has it."""
    query = request.query_params.copy()
    query["cursor"] = cursor
    return f'<{request.build_absolute_uri(request.path)}?{query.urlencode()}>; rel="next"'


class Ranking(Listing):
    """The paths and their counts, most requested first, ties by path."""

    query = queries.RankingQuery
    answered = answers.Row

    def rows(self, asked: Asked) -> Rows:
        if asked["limit"] is None:
            return stats.ranking(asked["question"])
        return stats.page(asked["question"], asked["limit"], asked["cursor"])

    def cursor(self, asked: Asked, last: tuple[Any, ...]) -> str:
        path, count = last
        return queries.PositionField().to_representation(Position(count, path))


class Series(Listing):
    """Hits and visitors per interval, those without any included, in the order of time."""

    query = queries.SeriesQuery
    answered = answers.Point

    def rows(self, asked: Asked) -> Rows:
        with _naming("interval"):
            points = stats.series(asked["question"], asked["interval"])
        first = asked["cursor"] or 0
        tz = asked["tz"]
        return [
            (answers.local(at, tz), count, visitors)
            for at, count, visitors in points[first : first + (asked["limit"] or len(points))]
        ]

    def cursor(self, asked: Asked, last: tuple[Any, ...]) -> str:
        return str((asked["cursor"] or 0) + asked["limit"])


class Shares(Listing):
    """The values of a dimension with their hits and visitors, most hits first, ties by value."""

    query = queries.SharesQuery
    answered = answers.Share
    path_parameters = [OpenApiParameter("dimension", str, "path", enum=queries.DIMENSIONS)]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.kwargs["dimension"] not in queries.DIMENSIONS:
            raise NotFound(f"There is no such dimension; there are {', '.join(queries.DIMENSIONS)}.")

    def rows(self, asked: Asked) -> Rows:
        return stats.by(asked["question"], self.kwargs["dimension"], asked["limit"], asked["cursor"])

    def cursor(self, asked: Asked, last: tuple[Any, ...]) -> str:
        value, count, _ = last
        return queries.ValuePositionField().to_representation(Position(count, value))


class Tree(Listing):
    """The children of a path with the totals of their subtrees, most hits first, ties by path."""

    query = queries.TreeQuery
    answered = answers.Node

    def rows(self, asked: Asked) -> Rows:
        return stats.tree(asked["question"], asked["depth"], asked["limit"], asked["cursor"])

    def cursor(self, asked: Asked, last: tuple[Any, ...]) -> str:
        path, count, _ = last
        return queries.PositionField().to_representation(Position(count, path))


class Total(Statistics):
    """Hits, visitors and distinct paths of a period; with `compare=previous` those of the period before beside them."""

    query = queries.TotalQuery
    answered = answers.Total

    def answer(self, request: Request, asked: Asked) -> Response:
        question = asked["question"]
        if not asked["compare"]:
            return Response(answers.Figures(stats.total(question)).data)
        question = _ended(question)
        with _naming("compare"):
            before = replace(question, period=question.period.previous())
        figures = stats.total(question)._asdict() | {"previous": stats.total(before)}
        return Response(answers.Total(figures).data)


def _ended(question: Question) -> Question:
    """The question, about a period that ends: now, if it has no other end."""
    period = question.period
    if period.end or not period.start:
        return question
    return replace(question, period=period._replace(end=max(period.start, hits.now())))


class OnePath(Statistics):
    """One path: its count, first and last hit, and what it had in a period: series, and most frequent values."""

    query = queries.PathQuery
    answered = answers.Report

    def answer(self, request: Request, asked: Asked) -> Response:
        with _naming("interval"):
            report = stats.path_report(asked["question"], asked["interval"])
        return Response(answers.Report(report, context={"tz": asked["tz"]}).data)


@contextmanager
def _naming(parameter: str) -> Iterator[None]:
    """Blames a period that cannot be divided or compared on the parameter that asked for it."""
    try:
        yield
    except PeriodInvalid as error:
        raise ValidationError({parameter: [str(error)]}) from error
