"""What a page is about, as its address says: a period, its intervals, a time zone, and what it is narrowed to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlencode
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from django.urls import reverse
from rest_framework import serializers

from counters import days, hits, periods, stats
from counters.api import queries
from counters.periods import INTERVALS, Period
from counters.stats import Question

#: The periods that have a name last until now; all but the first hit's begin so many days before today.
DAYS_BEFORE_TODAY = {"today": 0, "7d": 6, "30d": 29, "12mo": 364}
NAMED = (*DAYS_BEFORE_TODAY, "all")
#: More intervals than this are no picture of anything.
MOST_POINTS = 400
ZONE_COOKIE = "hitcounter_tz"
#: A form sends these even where nothing is chosen. (Of a dimension, nothing is the unknown value.)
_LEFT_EMPTY = ("period", "first", "last", "interval", "bot", "tz")
#: So many of them make a day, about.
_A_DAY = {"hour": 24, "day": 1, "week": 1 / 7, "month": 1 / 30}
#: A series is by the hour within so many days, by the day, by the week; by the month beyond.
_USUAL_WITHIN = (("hour", 2), ("day", 92), ("week", 400))


class PageQuery(queries.Query):
    """The parameters of every page. A period has a name, or a first and last day, which are taken before a name."""

    period = serializers.ChoiceField(NAMED, required=False, default=None)
    first = serializers.DateField(required=False, default=None)
    last = serializers.DateField(required=False, default=None)
    interval = serializers.ChoiceField(INTERVALS, required=False, default=None)
    prefix = queries.PrefixField(required=False, default="", allow_blank=True)

    #: The name of the period that is shown when none is asked for.
    usual_period = "30d"

    def asked_period(self, asked: dict[str, Any]) -> Period:
        first, last = asked["first"], asked["last"]
        if first and last and last < first:
            raise serializers.ValidationError({"last": ["Must not be before the first day."]})
        try:
            if first or last:
                return _of_days(first, last, asked["tz"])
            return _named(asked["period"] or self.usual_period, asked["tz"])
        except (periods.PeriodInvalid, OverflowError) as error:
            raise serializers.ValidationError({"last": ["The period reaches out of the calendar."]}) from error


class PathQuery(PageQuery):
    """The parameters of a page about one path."""

    path = queries.PathField()


class RankingQuery(PageQuery):
    """The parameters of a list of paths: where its page begins."""

    cursor = queries.PositionField(required=False, default=None)


class TreeQuery(RankingQuery):
    """The parameters of the tree, which is one of all times unless a period is asked for."""

    usual_period = "all"


class ValuesQuery(PageQuery):
    """The parameters of a list of values: where its page begins, and whether it is about one path."""

    path = queries.PathField(required=False)
    cursor = queries.ValuePositionField(required=False, default=None)


@dataclass(frozen=True)
class Narrowing:
    """What a page is about: a question, and the question before it to compare with, None where there is none.

    `given` are the parameters that say so. `period` is its name, "" for days of its
    own; `interval` that of the series, one of `intervals`.
    """

    given: Mapping[str, str]
    asked: Mapping[str, Any]
    question: Question
    before: Question | None
    period: str
    interval: str
    intervals: list[str]

    @property
    def tz(self) -> ZoneInfo:
        return self.question.period.tz

    def link(self, view: str, *parts: str, **changes: str | None) -> str:
        """The address of a page about the same but for these changes; None takes a parameter away."""
        left = {name: value for name, value in {**self.given, **changes}.items() if value is not None}
        return reverse(view, args=parts) + (f"?{urlencode(left)}" if left else "")

    def export(self, address: str, **more: str) -> str:
        """The address of the same among the statistics of the REST API."""
        question = self.question
        asked = {
            "from": question.period.start and question.period.start.astimezone(self.tz).isoformat(),
            "to": question.period.end and question.period.end.astimezone(self.tz).isoformat(),
            "tz": self.tz.key,
            "prefix": question.prefix,
            "path": question.path,
        }
        told = {name: value for name, value in asked.items() if value}
        return f"{address}?{urlencode({**told, **question.filters, **more})}"


#: Narrowed to nothing.
EVERYTHING = Narrowing(
    given={}, asked={}, question=Question(), before=None, period="all", interval="month", intervals=["month"]
)


def narrowing(request: HttpRequest, query: type[PageQuery] = PageQuery) -> Narrowing:
    """What a request's address asks for, by the time zone that it or the reader's cookie names.

    Raises rest_framework's ValidationError, which names each bad parameter.
    """
    given = request.GET.copy()
    for name in _LEFT_EMPTY:
        if given.get(name) == "":
            del given[name]
    if given.get("first") or given.get("last"):
        given.pop("period", None)
    zone = _zone_of_reader(request)
    if zone != "UTC":
        given.setdefault("tz", zone)  # in every link, so that a page that is shared shows what it showed
    asked = queries.checked(given, query)
    question = asked["question"]
    length = _length(question.period)
    return Narrowing(
        given={name: str(value) for name, value in given.items()},
        asked=asked,
        question=question,
        before=_before(question, length),
        period="" if asked["first"] or asked["last"] else asked["period"] or query.usual_period,
        interval=asked["interval"] or next((name for name, most in _USUAL_WITHIN if length <= most), "month"),
        intervals=[name for name in INTERVALS if 1 <= length * _A_DAY[name] <= MOST_POINTS] or [INTERVALS[-1]],
    )


def _zone_of_reader(request: HttpRequest) -> str:
    try:
        return periods.zone(unquote(request.COOKIES.get(ZONE_COOKIE, "UTC"))).key
    except periods.PeriodInvalid:
        return "UTC"


def _named(name: str, tz: ZoneInfo) -> Period:
    if name == "all":
        return Period(None, None, tz)
    first = hits.now().astimezone(tz).date() - timedelta(days=DAYS_BEFORE_TODAY[name])
    return _of_days(first, None, tz)


def _of_days(first: date | None, last: date | None, tz: ZoneInfo) -> Period:
    start = _midnight(first, tz) if first else None
    return Period(start, _midnight(last + timedelta(days=1), tz) if last else None, tz)


def _midnight(day: date, tz: ZoneInfo) -> datetime:
    return periods.moment(day.isoformat(), tz)


def _length(period: Period) -> int:
    """How many days of its calendar it has touched by now, at least 1."""
    start = (period.start or days.midnight(stats.first_day())).astimezone(period.tz)
    now = hits.now()
    # At midnight a day begins; but none does where the period ends.
    last = period.end - timedelta(microseconds=1) if period.end and period.end <= now else now
    end = last.astimezone(period.tz)
    return max(1, (end.date() - start.date()).days + 1)


def _before(question: Question, days: int) -> Question | None:
    """The same of as many days before, up to the same time where the period is not over yet.

    Of more than a day, that is the full hour: what has been summed up by the hour tells it.
    """
    period = question.period
    if period.start is None:
        return None
    until = min(period.end or hits.now(), hits.now()).astimezone(period.tz)
    if days > 1:
        until = until.replace(minute=0, second=0, microsecond=0)
    try:
        start, end = (_back(at.astimezone(period.tz), days) for at in (period.start, until))
    except (periods.PeriodInvalid, OverflowError):
        return None
    return replace(question, period=Period(start, end, period.tz)) if start < end else None


def _back(at: datetime, days: int) -> datetime:
    """So many days before by the clock on the wall."""
    wall = at.replace(tzinfo=None) - timedelta(days=days)
    return periods.moment(wall.isoformat(timespec="microseconds"), ZoneInfo(str(at.tzinfo)))
