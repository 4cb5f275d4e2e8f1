"""Which table answers for which part of a period: what is rolled up where it can be, hit rows where it must be.

Visitors are told apart within UTC days, so that each UTC day of a period is answered for by itself. Pure, but for
`whats_there`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from enum import Enum
from typing import NamedTuple

from django.db import connection

from counters import days
from counters.sql import load

_WHATS_THERE = load("whats_there")

Span = tuple[datetime, datetime]  # from, to (not included)


class Source(Enum):
    """What can be read: by the UTC day, by the hour, hit by hit."""

    DAYS = "days"
    HOURS = "hours"
    HITS = "hits"


class Kind(Enum):
    """What is asked, by what has been summed up for it."""

    SITE = "site"  # hits and visitors of all paths, by at most one dimension
    PATH = "path"  # the same of one path
    COUNTS = "counts"  # hits by path, of all dimensions
    OTHER = "other"  # all else: what only hit rows can tell


class NotKept(Exception):
    """What is kept of the period cannot answer the question; the message says since when it could."""


class Day(NamedTuple):
    """What there is of a UTC day that has hits, or may have."""

    day: date
    partition: bool  # its hit rows, or those that came when the others had been dropped
    rolled: bool
    late: bool  # what was rolled up of it is not right any more
    chained: bool  # its DailyPaths are right


class There(NamedTuple):
    """What there is: the days, in order, and since when hit rows and hourly figures are kept."""

    days: list[Day]
    hits_since: date
    hours_since: date


Spans = dict[Source, list[Span]]


def whats_there() -> There:
    """What the tables hold, by day."""
    with connection.cursor() as cursor:
        cursor.execute(_WHATS_THERE)
        rows = cursor.fetchall()
    since = {what: day for what, day, *_ in rows if what != "day"}
    found = [Day(*row[1:]) for row in rows if row[0] == "day"]
    return There(found, since.get("hits", date.min), since.get("hours", date.min))


def within(there: There, start: datetime, end: datetime) -> list[Day]:
    """The days of which at least a part lies in [start, end)."""
    return [day for day in there.days if days.midnight(day.day) < end and start < _end_of(day.day)]


def spans(there: There, kind: Kind, start: datetime, end: datetime, bounds: Sequence[datetime] = ()) -> Spans:
    """Where to read what of [start, end), when it is to be divided at `bounds` (sorted). Raises NotKept."""
    found: Spans = {source: [] for source in Source}
    for day in within(there, start, end):
        part = max(start, days.midnight(day.day)), min(end, _end_of(day.day))
        inner = bounds[bisect_right(bounds, part[0]) : bisect_left(bounds, part[1])]
        for source in _sources(there, kind, day, _grain(part, inner)):
            _append(found[source], part)
    return found


def right(there: There, day: Day) -> bool:
    """Whether what is rolled up of the day, with late hits that are not yet added, is all there is of it."""
    return day.rolled and not (day.late and day.day >= there.hits_since)


def _sources(there: There, kind: Kind, day: Day, grain: Source) -> Iterator[Source]:
    """What to read for a part of a day that can be read by `grain`, and is to be added up."""
    kept = day.day >= there.hits_since
    by_hour = grain is not Source.HITS and day.day >= there.hours_since
    if kind is not Kind.OTHER and grain is Source.DAYS and right(there, day):
        yield Source.DAYS
    elif by_hour and (kind is Kind.COUNTS or (kind is Kind.SITE and right(there, day))):
        yield Source.HOURS
        if kind is Kind.COUNTS:  # hours are written with each hit, the late ones too
            return
    elif kept or not day.rolled:
        yield Source.HITS
        return
    else:
        raise NotKept(_not_kept(there, kind))
    if day.partition and not kept:
        yield Source.HITS


def _grain(part: Span, inner: Sequence[datetime]) -> Source:
    """By what a part of a day can be read that is to be divided at `inner` times."""
    if not inner and part == (days.midnight(part[0].date()), _end_of(part[0].date())):
        return Source.DAYS
    return Source.HOURS if all(_is_full_hour(at) for at in (*part, *inner)) else Source.HITS


def _is_full_hour(at: datetime) -> bool:
    return not (at.minute or at.second or at.microsecond)


def _append(spans: list[Span], part: Span) -> None:
    if spans and spans[-1][1] == part[0]:
        spans[-1] = spans[-1][0], part[1]
    else:
        spans.append(part)


def _end_of(day: date) -> datetime:
    return days.midnight(day + days.ONE_DAY) if day < date.max else datetime.max.replace(tzinfo=UTC)


def _not_kept(there: There, kind: Kind) -> str:
    hours = "always" if there.hours_since == date.min else f"since {there.hours_since}"
    kept = f"Single hits are kept since {there.hits_since}, hourly figures {hours} (UTC)"
    return f"{kept}; what is asked of the time before {_ANSWERABLE[kind]}."


_ANSWERABLE: dict[Kind, str] = {
    Kind.SITE: "is known by full hours, and before those by whole UTC days",
    Kind.PATH: "is known of one path by whole UTC days",
    Kind.COUNTS: "is known by full hours, and before those by whole UTC days",
    Kind.OTHER: "is not known: hits and visitors are, of all paths or of one, by one dimension at most (bot aside)",
}
