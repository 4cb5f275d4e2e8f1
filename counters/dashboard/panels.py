"""Figures as the pages show them: rows with a label, a bar and a link. No aggregation of its own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext, gettext_lazy

from counters.dashboard.narrowing import Narrowing
from counters.dashboard.shown import path_shown, paths_shown, value_shown
from counters.stats import Node, Row, Share

#: What the dimensions are called, in the order of the pages.
TITLES: dict[str, str | Promise] = {
    "referrer": gettext_lazy("Referrers"),
    "country": gettext_lazy("Countries"),
    "browser": gettext_lazy("Browsers"),
    "os": gettext_lazy("Systems"),
    "device": gettext_lazy("Devices"),
    "consumer": gettext_lazy("Consumers"),
    "status": gettext_lazy("Status codes"),
    "method": gettext_lazy("Methods"),
    "route": gettext_lazy("Routes"),
    "bot": gettext_lazy("Bots"),
    "referrer_url": gettext_lazy("Referring pages"),
}
#: What one value of them is.
NAMES: dict[str, str | Promise] = {
    "referrer": gettext_lazy("Referrer"),
    "country": gettext_lazy("Country"),
    "browser": gettext_lazy("Browser"),
    "os": gettext_lazy("System"),
    "device": gettext_lazy("Device"),
    "consumer": gettext_lazy("Consumer"),
    "status": gettext_lazy("Status"),
    "method": gettext_lazy("Method"),
    "route": gettext_lazy("Route"),
    "bot": gettext_lazy("Bots"),
    "referrer_url": gettext_lazy("Referring page"),
}


class Line(NamedTuple):
    """A row: what is counted, its figures, its bar in % of the longest, its share in % of all, where it leads."""

    label: str
    hits: int
    bar: float
    share: float | None
    link: str
    visitors: int | None = None
    paths: int | None = None
    title: str = ""


@dataclass(frozen=True)
class Panel:
    """A dimension's most frequent values; `known` is whether there is any but the unknown one."""

    dimension: str
    title: str
    lines: list[Line]
    more: str
    known: bool


class Chip(NamedTuple):
    """Something that a page is narrowed to, and the address of the page without it."""

    name: str
    value: str
    without: str


def of_paths(narrowing: Narrowing, rows: Iterable[Row], total: int | None) -> list[Line]:
    """Paths, each leading to its own page."""
    rows = list(rows)
    most = max((hits for _, hits in rows), default=0)
    return [
        Line(
            label,
            hits,
            bar=_percent(hits, most),
            share=_percent(hits, total) if total else None,
            link=narrowing.link("path", path=path, prefix=None, cursor=None, search=None),
            title=path,
        )
        for (path, hits), label in zip(rows, paths_shown([path for path, _ in rows]), strict=True)
    ]


def of_nodes(narrowing: Narrowing, nodes: Sequence[Node]) -> list[Line]:
    """Children in the tree: what has more below leads on into the tree, a path by itself to its page.

    The parent is one of them where it has hits of its own, and by itself.
    """
    most = max((node.hits for node in nodes), default=0)
    return [
        Line(
            label,
            node.hits,
            bar=_percent(node.hits, most),
            share=None,
            link=narrowing.link("tree", path=None, prefix=node.path, cursor=None)
            if node.path.endswith("/") and node.path != (narrowing.question.prefix or "/")
            else narrowing.link("path", path=node.path, prefix=None, cursor=None),
            paths=node.paths,
            title=node.path,
        )
        for node, label in zip(nodes, paths_shown([node.path for node in nodes]), strict=True)
    ]


def of_shares(narrowing: Narrowing, page: str, dimension: str, shares: Sequence[Share]) -> list[Line]:
    """Values of a dimension with their visitors, each leading to this page narrowed to it."""
    lines = of_values(narrowing, page, dimension, [(share.value, share.hits) for share in shares])
    return [line._replace(visitors=share.visitors) for line, share in zip(lines, shares, strict=True)]


def of_values(
    narrowing: Narrowing, page: str, dimension: str, values: Sequence[Row], total: int | None = None
) -> list[Line]:
    """Values of a dimension, each leading to this page narrowed to it."""
    most = max((hits for _, hits in values), default=0)
    return [
        Line(
            label(dimension, value),
            hits,
            bar=_percent(hits, most),
            share=_percent(hits, total) if total else None,
            link=narrowing.link(page, cursor=None, **{dimension: value}),
            title=label(dimension, value) if dimension == "bot" else value,
        )
        for value, hits in values
    ]


def panel(narrowing: Narrowing, page: str, dimension: str, values: Sequence[Row], total: int) -> Panel:
    """The panel of a dimension on a page."""
    return Panel(
        dimension,
        str(TITLES[dimension]),
        of_values(narrowing, page, dimension, values, total),
        narrowing.link("values", dimension),
        known=any(value for value, _ in values),
    )


def label(dimension: str, value: str) -> str:
    """A value as people read it."""
    if dimension == "bot":
        return gettext("Bots") if value == "true" else gettext("People")
    return value_shown(value) or gettext("(unknown)")


def chips(narrowing: Narrowing, page: str, *parts: str) -> list[Chip]:
    """All that a page is narrowed to besides its period, and bots or people, which stand among its choices."""
    found = [
        Chip(str(NAMES[name]), label(name, value), narrowing.link(page, *parts, cursor=None, **{name: None}))
        for name, value in narrowing.question.filters.items()
        if name != "bot"
    ]
    if narrowing.question.prefix and page != "tree":
        without = narrowing.link(page, *parts, cursor=None, prefix=None)
        # Of a page that is shared, there is none without.
        without = "" if narrowing.question.prefix == narrowing.within else without
        found.insert(0, Chip(gettext("Begins with"), path_shown(narrowing.question.prefix), without))
    if narrowing.question.path and page != "path":
        without = narrowing.link(page, *parts, cursor=None, path=None)
        found.insert(0, Chip(gettext("Path"), path_shown(narrowing.question.path), without))
    return found


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0
