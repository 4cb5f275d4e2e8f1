"""What a page is about, as its address says: a period, its intervals, a time zone, and what it is narrowed to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlencode
from zoneinfo import ZoneInfo

from django.http import HttpRequest, QueryDict
from django.urls import reverse
from rest_framework import serializers

from counters import days, hits, periods, sharing, stats
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
#: What mailings and networks add to a link that is clicked; it asks for nothing.
_DECORATION = ("fbclid", "gclid", "msclkid")
_DECORATION_BEGINS = "utm_"
#: So many of them make a day, about.
_A_DAY = {"hour": 24, "day": 1, "week": 1 / 7, "month": 1 / 30}
#: In fewer days there are no two of them.
_LEAST_DAYS = {"hour": 1, "day": 2, "week": 7, "month": 30}
#: A series is by the hour within so many days, by the day, by the week; by the month beyond.
_USUAL_WITHIN = (("hour", 2), ("day", 92), ("week", 400))
#: Of so many days, what came before can be told to the minute: the hits of one day are looked at one by one for it.
_EXACT_DAYS = 7
_UTC = ZoneInfo("UTC")


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
    """What a page is about: a question, and what to compare its answer with, the best first.

    `given` are the parameters that say so. `period` is its name, "" for days of its own; `interval` that of the
    series, one of `intervals`. `drawn` is the question without what lies before the first day that has hits and after
    the last: its figures are the same. By `whole_days`, the period is made of days of UTC. Of a page that is shared,
    nothing is shown but what lies `within` the link's prefix.
    """

    given: Mapping[str, str]
    asked: Mapping[str, Any]
    question: Question
    drawn: Question
    before: Sequence[Question]
    period: str
    interval: str
    intervals: Sequence[str]
    whole_days: bool = False
    within: str = ""

    @property
    def tz(self) -> ZoneInfo:
        """The time zone that is asked for."""
        zone: ZoneInfo = self.asked.get("tz", self.question.period.tz)
        return zone

    def by_whole_days(self) -> "Narrowing":
        """The same by days of UTC, which are kept when their hits and hours are not any more."""
        start, end, tz = self.question.period
        period = Period(_utc_day(start, tz), _utc_day(end, tz), _UTC)
        question = replace(self.question, period=period)
        return replace(_about(self.given, self.asked, self.period, question, whole_days=True), within=self.within)

    def since(self, day: date, view: str, *parts: str) -> tuple[date, str]:
        """The first day of the zone that this day of UTC has all of, and the address of the same since then."""
        first = day if _midnight(day, self.tz) >= days.midnight(day) else day + days.ONE_DAY
        last = self.asked["last"]
        changes = {"first": first.isoformat(), "last": last.isoformat() if last and last >= first else None}
        return first, self.link(view, *parts, **changes, period=None, interval=None, cursor=None)

    def link(self, view: str, *parts: str, **changes: str | None) -> str:
        """The address of a page about the same but for these changes; None takes a parameter away."""
        left = {name: value for name, value in {**self.given, **changes}.items() if value is not None}
        return reverse(view, args=parts) + (f"?{urlencode(left)}" if left else "")

    def export(self, address: str, **more: str) -> str:
        """The address of the same among the statistics of the REST API."""
        question = self.question
        # In UTC, since zones have had offsets with seconds, which RFC 3339 has not.
        asked = {
            "from": question.period.start and question.period.start.astimezone(UTC).isoformat(),
            "to": question.period.end and question.period.end.astimezone(UTC).isoformat(),
            "tz": question.period.tz.key,
            "prefix": question.prefix,
            "path": question.path,
        }
        told = {name: value for name, value in asked.items() if value}
        return f"{address}?{urlencode({**told, **question.filters, **more})}"


#: Narrowed to nothing.
EVERYTHING = Narrowing(
    given={},
    asked={},
    question=Question(),
    drawn=Question(),
    before=(),
    period="all",
    interval="month",
    intervals=("month",),
)


def narrowing(request: HttpRequest, query: type[PageQuery] = PageQuery) -> Narrowing:
    """What a request's address asks for, by the time zone that it or the reader's cookie names.

    Of a page that is shared, it is about the prefix of the link, or about a part of that. Raises rest_framework's
    ValidationError, which names each bad parameter, and sharing.OutsideShare.
    """
    given = _given(request)
    # The zone and the period are in every link: a page that is shared shows what it showed, and so does one whose
    # usual period is another.
    given.setdefault("tz", _zone_of_reader(request))
    link = sharing.shared_by(request)
    if link:
        sharing.confine(link, given)
    asked = queries.checked(given, query)
    if link:
        sharing.check(link, asked["question"])
    period = "" if asked["first"] or asked["last"] else asked["period"] or query.usual_period
    if period:
        given["period"] = period
    found = _about({name: str(value) for name, value in given.items()}, asked, period, asked["question"])
    return replace(found, within=link.prefix) if link else found


def _given(request: HttpRequest) -> QueryDict:
    """The parameters that ask for something."""
    given = request.GET.copy()
    for name in request.GET:
        if name.startswith(_DECORATION_BEGINS) or name in _DECORATION:
            del given[name]
    for name in _LEFT_EMPTY:
        if given.get(name) == "":
            del given[name]
    if given.get("first") or given.get("last"):
        given.pop("period", None)
    return given


def _about(
    given: Mapping[str, str], asked: Mapping[str, Any], period: str, question: Question, whole_days: bool = False
) -> Narrowing:
    first, last = stats.days_with_hits()
    drawn = _drawn(question.period, first, last)
    length = _days_of(drawn.start or days.midnight(first), drawn.end, drawn.tz)
    intervals = _intervals(length, whole_days)
    usual = next((name for name, most in _USUAL_WITHIN if length <= most and name in intervals), intervals[-1])
    return Narrowing(
        given=given,
        asked=asked,
        question=question,
        drawn=replace(question, period=drawn),
        before=_before(question),
        period=period,
        interval=asked["interval"] if asked["interval"] in intervals else usual,
        intervals=intervals,
        whole_days=whole_days,
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


def _utc_day(at: datetime | None, tz: ZoneInfo) -> datetime | None:
    """The midnight of UTC of the day that the calendar of a zone shows."""
    return at and days.midnight(at.astimezone(tz).date())


def _drawn(period: Period, first: date, last: date) -> Period:
    """The period without what lies before the first of these days (of UTC) and after the last."""
    start, end, tz = period
    if end and end >= days.midnight(last + days.ONE_DAY) and end > hits.now():
        end = None
    if start:
        start = max(start, min(days.midnight(first), end or hits.now()))
    return Period(start, end, tz)


def _days_of(start: datetime, end: datetime | None, tz: ZoneInfo) -> int:
    """How many days of the calendar a period touches, at least 1; without an end, by now."""
    # At midnight a day begins; but none does where the period ends. In UTC: a midnight may be no time of the zone's.
    last = end.astimezone(UTC) - timedelta(microseconds=1) if end else hits.now()
    return max(1, (last.astimezone(tz).date() - start.astimezone(tz).date()).days + 1)


def _intervals(days: int, whole_days: bool) -> list[str]:
    """Those that make a picture of so many days."""
    fit = [name for name in INTERVALS if _LEAST_DAYS[name] <= days <= MOST_POINTS / _A_DAY[name]]
    if whole_days:
        fit = [name for name in fit if name != "hour"] or ["day"]
    return fit or [INTERVALS[-1]]


def _before(question: Question) -> list[Question]:
    """The same of as many days before; up to the same time where the period is not over yet, or to the full hour.

    What has been summed up by the hour tells the latter.
    """
    start, end, tz = question.period
    if start is None:
        return []
    now = hits.now()
    over = end if end and end <= now else None
    back = timedelta(days=_days_of(start, over, tz))
    try:
        first = _midnight(start.astimezone(tz).date() - back, tz)
        ends = [_midnight(over.astimezone(tz).date() - back, tz)] if over else _ends(now, back, tz)
    except (periods.PeriodInvalid, OverflowError):
        return []
    return [replace(question, period=Period(first, end, tz)) for end in ends if first < end]


def _ends(now: datetime, back: timedelta, tz: ZoneInfo) -> list[datetime]:
    """So many days before now by the clock on the wall: to the same time, if that is not too dear; to the full hour."""
    wall = now.astimezone(tz).replace(tzinfo=None, fold=0) - back
    exact = [wall] if back.days <= _EXACT_DAYS else []
    full_hour = wall.replace(minute=0, second=0, microsecond=0)
    times = dict.fromkeys([*exact, full_hour])
    return [periods.moment(at.isoformat(timespec="microseconds"), tz) for at in times]
