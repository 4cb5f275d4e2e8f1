"""The most requested paths of a period, without adding up all: Fagin's threshold algorithm (docs/adr/0011-leaders.md).

Each rolled-up day is a list that an index holds in the order of hits. What stands at the top of the lists is looked up
in all of them; once it has more hits than any path that has not been seen can have, it is what was asked for.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any, NamedTuple

from psycopg import sql

from counters import tallies
from counters.days import midnight
from counters.sources import Source, Spans
from counters.sql import load
from counters.tallies import Scope

_LEADERS = sql.SQL(load("leaders"))
_UNREAD = sql.SQL(load("leaders_unread"))

#: Of how many paths it is worth while.
MOST = 1_000
#: As many times what is asked for is read of each list at first: days differ a little.
_AT_FIRST = 2
_DEEPER = 8
#: As many times what is asked for is looked up of the paths that have most hits of all times, before any list is read.
KNOWN = 10
#: Of how many paths that is worth while.
MOST_KNOWN = 100
#: Of all lists together.
MOST_ROWS = 50_000


class Lists(NamedTuple):
    """The days that are lists, and what else there is to read."""

    days: list[date]
    parts: Spans


class Found(NamedTuple):
    """The paths with most hits of those that were seen, and how many hits another can have at most."""

    rows: list[tuple[str, int]]
    of_days: int
    of_rest: int

    def settles(self, limit: int) -> bool:
        """Whether no path that was not seen can be among the first; one with as many hits may come first by name."""
        return self.of_days + self.of_rest < max(1, self.least(limit))

    def least(self, limit: int) -> int:
        """How many hits the last of them has; 0 when there are fewer than are asked for."""
        return self.rows[-1][1] if len(self.rows) == limit else 0


def lists(scope: Scope) -> Lists | None:
    """What to read for all paths of a period; None when it can only be added up. Raises NotKept."""
    question = scope.question
    if question.path or scope.ids is not None or question.prefix not in ("", "/") or question.filters.keys() - {"bot"}:
        return None
    parts = tallies.parts_of_counts(scope)
    days = [
        day.day for day in scope.there.days for start, end in parts[Source.DAYS] if start <= midnight(day.day) < end
    ]
    return Lists(days, parts) if days else None


def first_depth(limit: int) -> int:
    """How far to read each list at first."""
    return _AT_FIRST * limit


def deeper(depth: int, lists: Lists) -> Iterator[int]:
    """How far to read each list if that was not far enough."""
    while (depth := depth * _DEEPER) * len(lists.days) <= MOST_ROWS:
        yield depth


def best(scope: Scope, lists: Lists, limit: int, depth: int) -> sql.Composable:
    """A statement whose rows `found` reads: the first `depth` of each list are looked up in all."""
    return _LEADERS.format(
        days=lists.days,
        depth=depth,
        limit=limit,
        hits=tallies.HITS_OF_DAYS[scope.question.filters.get("bot")],
        on_days=tallies.on_days(sql.SQL("d.day"), lists.parts[Source.DAYS]),
        rest=tallies.counts_of(scope, {**lists.parts, Source.DAYS: []}),
    )


def unread(lists: Lists, depth: int) -> sql.Composable:
    """A statement that tells how many hits a path can have that is not among the first `depth` of any day."""
    return _UNREAD.format(days=lists.days, depth=depth)


def found(rows: list[Any]) -> Found:
    """What the rows of `best` say."""
    _, _, of_days, of_rest = rows[0]
    return Found([(path, hits) for path, hits, *_ in rows if path is not None], of_days, of_rest)
