"""The pages: ask the statistics, show."""

from itertools import accumulate
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from counters import stats
from counters.api import queries
from counters.dashboard import panels
from counters.dashboard.charts import chart
from counters.dashboard.narrowing import Narrowing, PathQuery, RankingQuery, ValuesQuery, narrowing
from counters.dashboard.pages import page
from counters.dashboard.pickers import picker
from counters.dashboard.shown import path_shown
from counters.stats import Position

#: The dimensions of the overview, in their order, and those of a page about one path.
OVERVIEW = ("referrer", "country", "browser", "os", "consumer", "status")
ALL = ("referrer", "country", "browser", "os", "device", "consumer", "status", "method", "route", "bot")
ROWS = 10
LONG_ROWS = 100


@page
def overview(request: HttpRequest) -> HttpResponse:
    """How much, where, when and who, and whether it grows."""
    narrowed = narrowing(request)
    found = stats.overview(narrowed.question, narrowed.interval, OVERVIEW, ROWS, narrowed.before)
    return _shown(
        request,
        "overview",
        narrowed,
        hits=found.hits,
        visitors=found.visitors,
        changes=_changes(found),
        chart=chart(found.series, narrowed.interval),
        paths=panels.of_paths(narrowed, found.paths, found.hits),
        panels=[panels.panel(narrowed, "overview", name, found.dimensions[name], found.hits) for name in OVERVIEW],
        others=[(panels.TITLES[name], narrowed.link("values", name)) for name in queries.DIMENSIONS if name not in OVERVIEW],
        nothing_yet=not found.hits and not stats.page(stats.Question(), 1),
        example=request.build_absolute_uri("/api/hello/world/"),
    )


@page
def path(request: HttpRequest) -> HttpResponse:
    """All about one path."""
    narrowed = narrowing(request, PathQuery)
    asked = narrowed.question.path
    report = stats.path_report(narrowed.question, narrowed.interval)
    below = list(stats.tree(stats.Question(prefix=asked if asked.endswith("/") else f"{asked}/"), 1, ROWS + 1))
    children = [node for node in below if node.path != asked][:ROWS]
    return _shown(
        request,
        "path",
        narrowed,
        path=asked,
        title=path_shown(asked),
        report=report,
        place=stats.place(asked),
        chart=chart(report.series, narrowed.interval),
        panels=[panels.panel(narrowed, "path", name, report.dimensions[name], report.hits) for name in ALL],
        children=panels.of_nodes(narrowed, children),
        crumbs=_crumbs(narrowed, asked),
        badge=request.build_absolute_uri(f"/badge{asked}.svg"),
    )


@page
def paths(request: HttpRequest) -> HttpResponse:
    """The paths, most requested first."""
    narrowed = narrowing(request, RankingQuery)
    rows = stats.page(narrowed.question, LONG_ROWS, narrowed.asked["cursor"])
    following = None
    if len(rows) == LONG_ROWS:
        last, hits = rows[-1]
        cursor = queries.PositionField().to_representation(Position(hits, last))
        following = narrowed.link("paths", cursor=cursor)
    return _shown(request, "paths", narrowed, lines=panels.of_paths(narrowed, rows, None), following=following)


@page
def values(request: HttpRequest, dimension: str) -> HttpResponse:
    """The values of a dimension, most hits first."""
    if dimension not in queries.DIMENSIONS:
        raise Http404
    narrowed = narrowing(request, ValuesQuery)
    rows = list(stats.by(narrowed.question, dimension, LONG_ROWS, narrowed.asked["cursor"]))
    following = None
    if len(rows) == LONG_ROWS:
        cursor = queries.ValuePositionField().to_representation(Position(rows[-1].hits, rows[-1].value))
        following = narrowed.link("values", dimension, cursor=cursor)
    home = "path" if narrowed.question.path else "overview"
    return _shown(
        request,
        "values",
        narrowed,
        dimension,
        title=panels.TITLES[dimension],
        name=panels.NAMES[dimension],
        lines=panels.of_values(narrowed, home, dimension, rows, None),
        following=following,
    )


@page
def tree(request: HttpRequest) -> HttpResponse:
    """The children of a path, with the totals of all that is below them."""
    narrowed = narrowing(request)
    prefix = narrowed.question.prefix or "/"
    nodes = list(stats.tree(narrowed.question, 1, LONG_ROWS))
    return _shown(
        request,
        "tree",
        narrowed,
        title=path_shown(prefix),
        crumbs=_crumbs(narrowed, prefix),
        lines=panels.of_nodes(narrowed, nodes),
        hits=sum(node.hits for node in nodes),
    )


def _shown(request: HttpRequest, name: str, narrowed: Narrowing, *parts: str, **context: Any) -> HttpResponse:
    """The page of this name, with what it is narrowed to and how to narrow it otherwise."""
    shared = {"narrowing": narrowed, "picker": picker(narrowed, name, *parts), "view": name}
    return render(request, f"dashboard/{name}.html", {**shared, **context})


def _crumbs(narrowed: Narrowing, path: str) -> list[tuple[str, str]]:
    """The parents of a path in the tree, and where each is shown."""
    segments = path[: path.rstrip("/").rfind("/") + 1].split("/")[:-1]
    parents = accumulate(f"{segment}/" for segment in segments)
    return [
        (path_shown(f"{segment}/"), narrowed.link("tree", path=None, cursor=None, prefix=parent))
        for segment, parent in zip(segments, parents, strict=True)
    ]


def _changes(found: stats.Overview) -> dict[str, Any] | None:
    """By how many % hits and visitors have changed since the period before; None for what cannot be told."""
    if found.previous is None:
        return None
    hits, visitors = found.previous
    return {"hits": _change(hits, found.hits), "visitors": _change(visitors, found.visitors), "before": found.previous}


def _change(before: int, now: int) -> float | None:
    return 100 * (now - before) / before if before else None
