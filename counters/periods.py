"""Periods of time and the calendar intervals within them, in any time zone. Pure.

Everything is computed, compared and returned in UTC. Python compares two times of one zone by what their clocks show,
so that the two hours 02:00 of an autumn night would be the same.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

INTERVALS = ("hour", "day", "week", "month")
#: How many intervals one answer may have: eleven years by the hour, 270 by the day.
MOST_BUCKETS = 100_000
_TOO_MANY = f"The period has more than {MOST_BUCKETS:,} such intervals."

_HOUR = timedelta(hours=1)
_LONGEST = {"hour": _HOUR, "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=31)}
_SECOND = timedelta(seconds=1)
#: ISO 8601 as RFC 3339 narrows it, and less of it where less will do. Years below 1000 have their zeros.
MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)


class PeriodInvalid(ValueError):
    """There is no such time or period, or it has too many intervals; the message says which."""


class Period(NamedTuple):
    """From `start` (included) to `end` (not included), both aware; its days are those of `tz`."""

    start: datetime | None  # None: since the first hit
    end: datetime | None  # None: until now
    tz: ZoneInfo

    def previous(self) -> "Period":
        """The period as long as this one that ends where it starts.

        As long by the clock on the wall: what precedes a day is the day before, which may have had 23 or 25 hours.
        Raises PeriodInvalid for a period without start or end, or when the year 1 is too late for it.
        """
        if self.start is None or self.end is None:
            raise PeriodInvalid("Only a period with a beginning and an end has one before it.")
        try:
            length = _wall(self.end, self.tz) - _wall(self.start, self.tz)
            if length <= timedelta():  # within an hour that the clocks show twice
                length = self.end - self.start
            return Period(_instant(_wall(self.start, self.tz) - length, self.tz), self.start, self.tz)
        except OverflowError as error:
            raise PeriodInvalid("The period before it is out of the calendar.") from error


def zone(name: str) -> ZoneInfo:
    """The time zone of this IANA name. Raises PeriodInvalid."""
    if name not in _zones():
        raise PeriodInvalid("There is no such time zone; one is called like Europe/Berlin.")
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    """The names there are. ZoneInfo itself takes a name for a file's, and looks for it on disk."""
    return frozenset(available_timezones())


def moment(text: str, tz: ZoneInfo) -> datetime:
    """The instant that an ISO date (its first) or time names, in UTC; on the clocks of `tz` where it has no offset.

    A time that the clocks skip is the one they skip to; one that they show twice is the first. Raises PeriodInvalid.
    """
    if not MOMENT.fullmatch(text):
        raise PeriodInvalid(
            "Must be a date like 2026-03-01 or a time like 2026-03-01T14:30 or 2026-03-01T14:30:00+01:00"
            " (in an address, + is written %2B)."
        )
    try:
        at = datetime.fromisoformat(text)
        at = at.astimezone(UTC) if at.tzinfo else _instant(at, tz)
        at.astimezone(tz)  # so that every moment can be shown in its zone
        return at
    except (ValueError, OverflowError) as error:
        raise PeriodInvalid("There is no such date or time.") from error


def buckets(start: datetime, end: datetime, interval: str, tz: ZoneInfo) -> list[datetime]:
    """When each interval that touches [`start`, `end`) begins by the calendar and clocks of `tz`, in UTC, in order.

    Each ends where the next begins. A week begins on Monday (ISO 8601). An hour is a real one, begins when the clock
    shows a full hour, and ends early when the clock is put forward or back within it: a day may have 23 or 25, and on
    Lord Howe, where the clocks change by half an hour, one of half the length. Raises PeriodInvalid for more than
    MOST_BUCKETS of them, or when they reach out of the calendar.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if end - start > MOST_BUCKETS * _LONGEST[interval]:
        raise PeriodInvalid(_TOO_MANY)
    try:
        starts = list(_starts(start, end, interval, tz)) if start < end else []
    except (ValueError, OverflowError) as error:
        raise PeriodInvalid("The period reaches out of the calendar.") from error
    if len(starts) > MOST_BUCKETS:
        raise PeriodInvalid(_TOO_MANY)
    return starts


def _starts(start: datetime, end: datetime, interval: str, tz: ZoneInfo) -> Iterator[datetime]:
    if interval == "hour":
        yield from _hours(start, end, tz)
    else:
        yield from _days(start, end, tz, *_CALENDAR[interval])


def _hours(start: datetime, end: datetime, tz: ZoneInfo) -> Iterator[datetime]:
    at = start - _into_hour(start, tz)
    if _offset(at, tz) != _offset(start, tz):
        at = _change(at, start, tz)
    while at < end:
        yield at
        following = at + _HOUR - _into_hour(at, tz)
        # A change on the full hour itself is where the hour ends anyway.
        if _offset(following - _SECOND, tz) != _offset(at, tz):
            following = _change(at, following, tz)
        at = following


def _days(
    start: datetime, end: datetime, tz: ZoneInfo, first: Callable[[date], date], after: Callable[[date], date]
) -> Iterator[datetime]:
    day = first(_wall(start, tz).date())
    at = _instant(datetime.combine(day, time()), tz)
    while at < end:
        day = after(day)
        following = _instant(datetime.combine(day, time()), tz)
        if following > max(at, start):  # else it is a day that the calendar skips, or one that is over
            yield at
        at = following


_CALENDAR: dict[str, tuple[Callable[[date], date], Callable[[date], date]]] = {
    "day": (lambda day: day, lambda day: day + timedelta(days=1)),
    "week": (lambda day: day - timedelta(days=day.weekday()), lambda day: day + timedelta(days=7)),
    "month": (lambda day: day.replace(day=1), lambda day: (day + timedelta(days=31)).replace(day=1)),
}


def _instant(wall: datetime, tz: ZoneInfo) -> datetime:
    """The first instant at which the clocks of `tz` show `wall` (naive) or later, in UTC."""
    at = wall.replace(tzinfo=tz).astimezone(UTC)
    if _wall(at, tz) == wall:
        return at
    # The clocks skip it. `fold` says by which offset a time is meant (PEP 495): the change lies between the two.
    return _change(wall.replace(tzinfo=tz, fold=1).astimezone(UTC), at, tz)


def _change(before: datetime, after: datetime, tz: ZoneInfo) -> datetime:
    """The instant between two at which the offset from UTC changes; zone files have it to the second."""
    before = before.replace(microsecond=0)
    old, first, last = _offset(before, tz), 0, int((after - before).total_seconds())
    while last - first > 1:
        middle = (first + last) // 2
        if _offset(before + middle * _SECOND, tz) == old:
            first = middle
        else:
            last = middle
    return before + last * _SECOND


def _wall(at: datetime, tz: ZoneInfo) -> datetime:
    """What the clocks of `tz` show, naive."""
    return at.astimezone(tz).replace(tzinfo=None, fold=0)


def _offset(at: datetime, tz: ZoneInfo) -> timedelta | None:
    return at.astimezone(tz).utcoffset()


def _into_hour(at: datetime, tz: ZoneInfo) -> timedelta:
    wall = _wall(at, tz)
    return wall - wall.replace(minute=0, second=0, microsecond=0)
