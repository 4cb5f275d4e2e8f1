"""What the statistics answer: figures, and how those of one path's days are added up. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from counters.dimensions import NAMES

Row = tuple[str, int]  # path, hits
Values = defaultdict[tuple[str, str], list[int]]  # dimension and value -> hits, visitors


class Total(NamedTuple):
    """Hits, visitors (told apart within each UTC day, and added up over days) and distinct paths."""

    hits: int
    visitors: int
    paths: int


class Point(NamedTuple):
    """The hits and visitors of the interval that begins at `at`, in the question's time zone."""

    at: datetime
    hits: int
    visitors: int


class Share(NamedTuple):
    """The hits and visitors of one value of a dimension, "" for the unknown."""

    value: str
    hits: int
    visitors: int


class Node(NamedTuple):
    """A child in the tree of paths: the hits of all paths that begin with it, and how many these are.

    One that ends with a slash has all that is below it; another is a path by itself.
    """

    path: str
    hits: int
    paths: int


@dataclass(frozen=True)
class Overview:
    """What is asked at a glance: a period's figures, its series, and what was seen most."""

    hits: int
    visitors: int
    previous: tuple[int, int] | None  # hits and visitors of the period before, None when not asked for or not kept
    series: list[Point]
    paths: list[Row]
    dimensions: dict[str, list[Row]]  # of each, the values with most hits, and their hits


class Place(NamedTuple):
    """The place of a path among the counters with hits, 1 for the most requested, and how many there are."""

    place: int
    of: int


@dataclass(frozen=True)
class PathReport:
    """All about one path: its count, and what came in the period, by interval and by the values most seen."""

    path: str
    count: int
    first_hit: datetime | None
    last_hit: datetime | None
    hits: int
    visitors: int
    series: list[Point]
    dimensions: dict[str, list[Share]]


def values_of_days(days: Iterable[tuple[Any, ...]], bot: str | None) -> Values:
    """Add up what models.DailyHits knows of days, of bots ("true"), people ("false") or all (None).

    A day is hits, visitors, bot hits, bot visitors and the dimensions as JSON.
    """
    found: Values = defaultdict(lambda: [0, 0])
    for day in days:
        _add_day(found, bot, *day)
    return found


def _add_day(found: Values, bot: str | None, hits: int, visitors: int, *rest: Any) -> None:
    *bots, known = rest
    everything = {"": [hits, visitors, *bots]}
    told_apart = {"true": [*bots, *bots], "false": [hits - bots[0], visitors - bots[1]]}
    day = {**dict.fromkeys(NAMES, everything), **json.loads(known), "bot": told_apart}
    for name, values in day.items():
        for value, figures in values.items():
            of_audience = _of_audience(figures, bot) if bot else figures
            added = found[name, value]
            added[0] += of_audience[0]
            added[1] += of_audience[1]


def _of_audience(figures: list[int], bot: str) -> tuple[int, int]:
    of_all, of_bots = figures[:2], figures[2:] or [0, 0]
    return (of_bots[0], of_bots[1]) if bot == "true" else (of_all[0] - of_bots[0], of_all[1] - of_bots[1])
