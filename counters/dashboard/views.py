"""The pages: ask the statistics, show."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.formats import date_format
from django.utils.http import urlencode
from django.utils.translation import gettext

from counters import hits, sharing, stats
from counters.api import queries
from counters.dashboard import panels
from counters.dashboard.charts import chart
from counters.dashboard.narrowing import (
    EVERYTHING,
    Narrowing,
    PathQuery,
    RankingQuery,
    TreeQuery,
    ValuesQuery,
    narrowing,
)
from counters.dashboard.pages import shared_page, shown
from counters.dashboard.pickers import picker
from counters.dashboard.shown import is_addressed, path_shown, value_shown
from counters.hits import COUNTED_PREFIX
from counters.periods import Period
from counters.stats import NotKept, Position

#: The dimensions of the overview, in their order, and those of a page about one path.
OVERVIEW = ("referrer", "country", "browser", "os", "consumer", "status")
ALL = ("referrer", "country", "browser", "os", "device", "consumer", "status", "method", "route", "bot")
ROWS = 10
#: What a search may hold of a path as it was sent.
_AS_SENT = "".join(map(chr, range(0x21, 0x7F)))
#: What pages show encoded where it is sent so, and an escape of what they decode.
_NEVER_ENCODED = "%/?#-._~"
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")
LONG_ROWS = 100
#: So many of a path's parents from the top, and so many from its end, lead back into the tree.
CRUMBS = 8
#: A longer path may not be seen whole in a heading.
SHORT = 200


@shared_page
def overview(request: HttpRequest) -> HttpResponse:
    """How much, where, when and who, and whether it grows."""
    return _answered(request, "overview", narrowing(request), partial(_overview, request))


def _overview(request: HttpRequest, narrowed: Narrowing) -> dict[str, Any]:
    before = next(filter(stats.is_kept, narrowed.before), None)
    found = stats.overview(narrowed.drawn, narrowed.interval, OVERVIEW, ROWS, before)
    return {
        "hits": found.hits,
        "visitors": found.visitors,
        "changes": _changes(found, before),
        "comparison": _comparison(narrowed, before),
        "chart": chart(_until_now(found.series), narrowed.interval),
        "paths": panels.of_paths(narrowed, found.paths, found.hits),
        **_panels(narrowed, "overview", found.dimensions, found.hits),
        "others": [
            (panels.TITLES[name], narrowed.link("values", name)) for name in queries.DIMENSIONS if name not in OVERVIEW
        ],
        "nothing_yet": not found.hits and not narrowed.within and not stats.page(stats.Question(), 1),
        "example": request.build_absolute_uri("/api/hello/world/"),
    }


@shared_page
def path(request: HttpRequest) -> HttpResponse:
    """All about one path."""
    return _answered(request, "path", narrowing(request, PathQuery), partial(_path, request))


def _path(request: HttpRequest, narrowed: Narrowing) -> dict[str, Any]:
    asked = narrowed.question.path
    report = stats.path_report(narrowed.drawn, narrowed.interval)
    parent = asked if asked.endswith("/") else f"{asked}/"
    # The parent itself is among them where it has hits.
    nodes = [node for node in stats.tree(stats.Question(prefix=parent), 1, ROWS + 1) if node.path != parent]
    badge = f"/badge{asked}.svg" if is_addressed(asked) else ""
    return dict(
        **_trail(narrowed, asked),
        path=asked,
        with_raw=asked != path_shown(asked) or len(asked) > SHORT,
        report=report,
        place=None if narrowed.within else stats.place(asked),
        chart=chart(_until_now(report.series), narrowed.interval),
        **_panels(
            narrowed,
            "path",
            {name: [(share.value, share.hits) for share in report.dimensions[name]] for name in ALL},
            report.hits,
        ),
        children=panels.of_nodes(narrowed, nodes[:ROWS]),
        below=narrowed.link("tree", path=None, prefix=parent),
        badge_path=badge,
        badge=f"{request.scheme}://{request.get_host()}{badge}",
        snippet=_snippet(request, asked),
        json=narrowed.export(reverse("stats-path"), interval=narrowed.interval),
    )


@shared_page
def paths(request: HttpRequest) -> HttpResponse:
    """The paths, most requested first; or those that contain what is searched for."""
    if "search" in request.GET:
        if sharing.shared_by(request):
            raise sharing.OutsideShare
        search = request.GET["search"].strip()
        return _found(request, search) if search else redirect("paths")
    return _answered(request, "paths", narrowing(request, RankingQuery), _paths)


def _paths(narrowed: Narrowing) -> dict[str, Any]:
    rows = stats.page(narrowed.question, LONG_ROWS, narrowed.asked["cursor"])
    return {
        "lines": panels.of_paths(narrowed, rows, None),
        "following": _following(narrowed, [Position(hits, path) for path, hits in rows], "paths"),
        "exports": _exports(narrowed, reverse("stats")),
    }


def _found(request: HttpRequest, search: str) -> HttpResponse:
    """The paths that contain a text, as it is read or as it is sent; that begin with it, if it begins with a slash."""
    spelled = _spelled(search)
    if search.startswith("/"):
        prefix = next((text for text in spelled if stats.page(stats.Question(prefix=text), 1)), spelled[0])
        return redirect(f"{reverse('paths')}?{urlencode({'prefix': prefix, 'period': 'all'})}")
    found = {path: hits for text in spelled for path, hits in stats.search(text, LONG_ROWS + 1)}
    rows = sorted(found.items(), key=lambda row: (-row[1], row[0]))
    context = {
        "search": search,
        "searched": value_shown(search),
        "lines": panels.of_paths(EVERYTHING, rows[:LONG_ROWS], None),
        "cut": LONG_ROWS if len(rows) > LONG_ROWS else None,
    }
    return shown(request, "paths", context)


def _spelled(search: str) -> list[str]:
    """How a path may hold what is searched for: as it stands, and percent-encoded in either case."""
    encoded = quote(search, safe=_NEVER_ENCODED)
    upper = _ESCAPE.sub(lambda escape: escape[0].upper(), encoded)
    lower = _ESCAPE.sub(lambda escape: escape[0].lower(), encoded)
    return list(dict.fromkeys([quote(search, safe=_AS_SENT), upper, lower]))


@shared_page
def values(request: HttpRequest, dimension: str) -> HttpResponse:
    """The values of a dimension, most hits first."""
    if dimension not in queries.DIMENSIONS:
        raise Http404
    return _answered(request, "values", narrowing(request, ValuesQuery), partial(_values, dimension), dimension)


def _values(dimension: str, narrowed: Narrowing) -> dict[str, Any]:
    rows = list(stats.by(narrowed.question, dimension, LONG_ROWS, narrowed.asked["cursor"]))
    home = "path" if narrowed.question.path else "overview"
    return {
        "title": panels.TITLES[dimension],
        "dimension": dimension,
        "what": panels.NAMES[dimension],
        "lines": panels.of_shares(narrowed, home, dimension, rows),
        "following": _following(narrowed, [Position(row.hits, row.value) for row in rows], "values", dimension),
        "exports": _exports(narrowed, reverse("stats-by", args=[dimension])),
    }


@shared_page
def tree(request: HttpRequest) -> HttpResponse:
    """The children of a path, with the totals of all that is below them."""
    return _answered(request, "tree", narrowing(request, TreeQuery), _tree)


def _tree(narrowed: Narrowing) -> dict[str, Any]:
    prefix = narrowed.question.prefix or "/"
    question = replace(narrowed.question, prefix=prefix)
    nodes = list(stats.tree(question, 1, LONG_ROWS, narrowed.asked["cursor"]))
    return dict(
        **_trail(narrowed, prefix),
        lines=panels.of_nodes(narrowed, nodes),
        following=_following(narrowed, [Position(node.hits, node.path) for node in nodes], "tree"),
        exports=_exports(narrowed, reverse("stats-tree")),
    )


def _answered(
    request: HttpRequest, name: str, narrowed: Narrowing, answer: Callable[[Narrowing], dict[str, Any]], *parts: str
) -> HttpResponse:
    """The page of this name with what `answer` tells; by whole days where no more is kept, else one that says so."""
    try:
        return _shown(request, name, narrowed, *parts, **answer(narrowed))
    except NotKept:
        by_days = narrowed.by_whole_days()
    try:
        return _shown(request, name, by_days, *parts, **answer(by_days))
    except NotKept as error:
        return _not_kept(request, name, narrowed, error, *parts)


def _not_kept(request: HttpRequest, name: str, narrowed: Narrowing, error: NotKept, *parts: str) -> HttpResponse:
    """A page that says why there is no answer, and leads to the part of the period that has one."""
    since = stats.single_hits_since()
    day, link = narrowed.since(since, name, *parts) if since else (None, "")
    context = {
        "picker": picker(narrowed, name, *parts),
        "sentence": gettext(str(error)),
        "day": date_format(day, "j M Y") if day else "",
        "since": link,
    }
    return shown(request, "notkept", context, narrowed, status=422)


def _shown(request: HttpRequest, name: str, narrowed: Narrowing, *parts: str, **context: Any) -> HttpResponse:
    """The page of this name, with what it is narrowed to and how to narrow it otherwise."""
    return shown(request, name, {"picker": picker(narrowed, name, *parts), **context}, narrowed)


def _panels(narrowed: Narrowing, view: str, values: Mapping[str, Sequence[stats.Row]], total: int) -> dict[str, Any]:
    """The panels of the dimensions of which something is known, and of those of which nothing is."""
    made = [panels.panel(narrowed, view, name, rows, total) for name, rows in values.items()]
    return {"panels": [one for one in made if one.known], "unknown": [one for one in made if not one.known]}


def _following(narrowed: Narrowing, rows: Sequence[Position], view: str, *parts: str) -> str | None:
    """The address of the page that follows one with these rows; None when there are no more."""
    if len(rows) < LONG_ROWS:
        return None
    return narrowed.link(view, *parts, cursor=queries.PositionField().to_representation(rows[-1]))


def _trail(narrowed: Narrowing, path: str) -> dict[str, Any]:
    """A path's parents in the tree, each with its address as far as it may be looked at, and its last segment.

    Of very many, those in the middle are left out: each address holds all that is above it.
    """
    segments = [f"{segment}/" for segment in path.split("/")]
    segments[-1] = segments[-1][:-1]
    if not segments[-1]:
        segments.pop()
    parents = list(zip(segments[:-1], accumulate(map(len, segments)), strict=False))
    left_out = slice(CRUMBS, max(CRUMBS, len(parents) - CRUMBS))
    parents[left_out] = [("", 0)] if parents[left_out] else []
    crumbs = [(path_shown(segment), _parent(narrowed, path[:end])) if end else ("…", "") for segment, end in parents]
    return {"title": path_shown(path), "crumbs": crumbs, "last": path_shown(segments[-1])}


def _parent(narrowed: Narrowing, prefix: str) -> str:
    if not prefix.startswith(narrowed.within):
        return ""
    return narrowed.link("tree", path=None, cursor=None, prefix=prefix)


def _snippet(request: HttpRequest, path: str) -> str:
    """What a shell sends to count the path once: by itself if that counts it, else reported.

    Where the service is not open, that takes an API key.
    """
    here = f"{request.scheme}://{request.get_host()}"
    if path.startswith(COUNTED_PREFIX) and is_addressed(path):
        return f"curl {shlex.quote(here + path)}"
    key = "" if settings.HITCOUNTER_OPEN else '-H "Authorization: Bearer $KEY" '
    return f"curl {key}{here}{reverse('hits')} --json {shlex.quote(json.dumps([{'path': path}]))}"


def _exports(narrowed: Narrowing, address: str) -> dict[str, str]:
    return {form: narrowed.export(address, format=form) for form in ("csv", "json")}


def _until_now(series: Sequence[stats.Point]) -> list[stats.Point]:
    """A series without what has not come yet, but for hits whose clock was fast."""
    now = hits.now()
    return [point for point in series if point.at <= now or point.hits]


def _changes(found: stats.Overview, before: stats.Question | None) -> dict[str, Any] | None:
    """By how many % hits and visitors have changed since the period before; None for what cannot be told."""
    if found.previous is None or before is None:
        return None
    hits, visitors = found.previous
    return {
        "hits": _change(hits, found.hits),
        "visitors": _change(visitors, found.visitors),
        "before": found.previous,
        "compared": gettext("before: %(start)s to %(end)s") % _times(before.period),
    }


def _comparison(narrowed: Narrowing, before: stats.Question | None) -> str:
    """What is to be known of a comparison that is not just of as much before, "" where it is."""
    if before is None:
        return gettext("Of the period before, too little is kept to compare with it.") if narrowed.before else ""
    end, tz = before.period.end, before.period.tz
    over = narrowed.question.period.end
    if end is None or (over and over <= hits.now()):
        return ""
    at = end.astimezone(tz)
    if at.minute or at.second or at.microsecond:
        return ""
    return gettext("Compared with the period before up to %(time)s, the full hour.") % {"time": date_format(at, "H:i")}


def _times(period: Period) -> dict[str, str]:
    """When a period begins and ends, as people write it."""
    times = {"start": period.start, "end": period.end}
    return {name: date_format(at.astimezone(period.tz), "j M Y, H:i") for name, at in times.items() if at}


def _change(before: int, now: int) -> float | None:
    return 100 * (now - before) / before if before else None
