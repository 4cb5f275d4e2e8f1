"""What an address says a page is about: days of the reader's zone, compared with as many days before."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from counters.dashboard.narrowing import MOST_POINTS, ZONE_COOKIE, Narrowing, PageQuery, PathQuery, TreeQuery, narrowing
from counters.periods import INTERVALS, buckets

BERLIN, KOLKATA, LORD_HOWE = "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"
SANTIAGO = "America/Santiago"
ZONES = [BERLIN, KOLKATA, LORD_HOWE, "UTC", "America/New_York", "Pacific/Apia"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def asked(
    now: str | datetime = "2026-03-18T10:45",
    cookie: str = "",
    hits: tuple[str, str] = ("2000-01-01", "2026-03-19"),
    query_type: type[PageQuery] | None = None,
    whole_days: bool = False,
    **query: Any,
) -> Narrowing:
    """What a page is about that is asked for at this time (in UTC), where these are the first and last day of hits."""
    with pytest.MonkeyPatch.context() as patch:
        instant = at(now) if isinstance(now, str) else now
        patch.setattr("counters.hits.now", lambda: instant)
        patch.setattr("counters.stats.days_with_hits", lambda: tuple(map(date.fromisoformat, hits)))
        request = RequestFactory().get("/", query)
        request.COOKIES[ZONE_COOKIE] = cookie or "UTC"
        found = narrowing(request, query_type or (PathQuery if "path" in query else PageQuery))
        return found.by_whole_days() if whole_days else found


def refused(**query: Any) -> dict[str, Any]:
    with pytest.raises(ValidationError) as error:
        asked(**query)
    return error.value.detail


def begun(found: Narrowing) -> datetime | None:
    return found.question.period.start and found.question.period.start.astimezone(UTC)


def compared(found: Narrowing) -> list[tuple[datetime, datetime]]:
    """The periods to compare with, the best first."""
    both = [(question.period.start, question.period.end) for question in found.before]
    return [(start.astimezone(UTC), end.astimezone(UTC)) for start, end in both if start and end]


# Periods


def test_usually_a_page_is_about_the_last_thirty_days():
    found = asked()
    assert (found.period, found.interval, begun(found)) == ("30d", "day", at("2026-02-17"))
    assert found.question.period.end is None


@pytest.mark.parametrize(
    ("period", "first", "interval"),
    [
        ("today", "2026-03-18", "hour"),
        ("7d", "2026-03-12", "day"),
        ("30d", "2026-02-17", "day"),
        ("12mo", "2025-03-19", "week"),
    ],
)
def test_a_period_of_a_name_is_so_many_days_up_to_now(period, first, interval):
    found = asked(period=period)
    assert (found.period, begun(found), found.interval) == (period, at(first), interval)


def test_a_day_is_one_of_the_time_zone():
    assert begun(asked("2026-03-18T20:00", period="today", tz="Asia/Tokyo")) == at("2026-03-18T15:00")
    assert begun(asked("2026-03-18T20:00", period="today", cookie="Asia%2FTokyo")) == at("2026-03-18T15:00")


def test_the_address_goes_before_the_cookie_and_a_zone_that_there_is_not_is_no_cookie_at_all():
    assert asked(tz=BERLIN, cookie="Asia/Tokyo").tz.key == BERLIN
    for nonsense in ("Mars/Olympus", "../../etc/passwd", "%00", "%FF", "x" * 5000):
        assert asked(cookie=nonsense).tz.key == "UTC"


def test_each_link_carries_the_zone_of_the_reader_so_that_a_page_that_is_shared_shows_the_same():
    assert asked(cookie="Asia/Tokyo").link("paths") == "/paths/?tz=Asia%2FTokyo&period=30d"
    assert asked(cookie="UTC").link("paths") == "/paths/?tz=UTC&period=30d"
    shared = parse_qs(urlsplit(asked(cookie="UTC", period="7d").link("overview")).query)
    assert asked(cookie=BERLIN, **{name: value for name, [value] in shared.items()}).tz.key == "UTC"


def test_each_link_carries_the_period_in_force_whatever_is_usual_on_the_page_that_it_leads_to():
    assert "period=30d" in asked(consumer="acme").link("tree")
    assert "period=all" in asked(query_type=TreeQuery).link("overview")
    assert "period" not in asked(first="2026-03-01").link("tree")


@pytest.mark.parametrize("name", ["utm_source", "utm_campaign", "utm_", "fbclid", "gclid", "msclkid"])
def test_what_decorates_a_link_asks_for_nothing_and_goes_no_further(name):
    found = asked(period="7d", **{name: ["x", "y"]})
    assert found.link("paths") == "/paths/?period=7d&tz=UTC"


@pytest.mark.parametrize("name", ["utm", "UTM_source", "xfbclid", "fbclid2", "ref"])
def test_what_only_looks_like_it_is_refused(name):
    assert list(refused(**{name: "x"})) == [name]


def test_days_of_its_own_go_before_a_name():
    found = asked(first="2026-03-01", last="2026-03-03", period="7d")
    assert (found.period, begun(found), found.question.period.end) == ("", at("2026-03-01"), at("2026-03-04"))
    assert "period" not in found.given


def test_what_a_form_leaves_empty_is_not_asked_but_for_a_dimension_where_it_is_the_unknown():
    found = asked(first="", last="", period="7d", bot="", tz="", interval="", country="")
    assert found.given == {"period": "7d", "country": "", "tz": "UTC"}
    assert found.question.filters == {"country": ""}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"period": "week"}, "period"),
        ({"interval": "minute"}, "interval"),
        ({"tz": "Mars/Olympus"}, "tz"),
        ({"tz": "europe/berlin"}, "tz"),
        ({"first": "2026-02-30"}, "first"),
        ({"first": "yesterday"}, "first"),
        ({"first": "2026-03-02", "last": "2026-03-01"}, "last"),
        ({"last": "9999-12-31"}, "last"),
        ({"first": "0001-01-01", "tz": "Asia/Tokyo"}, "last"),
        ({"prefix": "api"}, "prefix"),
        ({"prefix": "/a b"}, "prefix"),
        ({"prefix": "/" + "a" * 2048}, "prefix"),
        ({"country": "D\x00"}, "country"),
        ({"status": "99"}, "status"),
        ({"bot": "maybe"}, "bot"),
        ({"referrer": "x" * 2049}, "referrer"),
        ({"path": "/a", "prefix": "/a"}, "path"),
        ({"path": ""}, "path"),
    ],
)
def test_what_there_is_not_is_refused_by_its_name(query, named):
    assert list(refused(**query)) == [named]


def test_all_that_is_wrong_is_told_at_once():
    assert set(refused(tz="Mars", period="week", interval="x")) == {"tz", "period", "interval"}


# Intervals


@pytest.mark.parametrize(
    ("query", "offered"),
    [
        ({"period": "today"}, ["hour"]),
        ({"first": "2026-03-17"}, ["hour", "day"]),
        ({"period": "7d"}, ["hour", "day", "week"]),
        ({"period": "30d"}, ["day", "week", "month"]),
        ({"period": "12mo"}, ["day", "week", "month"]),
        ({"first": "2000-01-01"}, ["month"]),
        ({"first": "1900-01-01"}, ["month"]),
    ],
)
def test_the_intervals_on_offer_are_those_that_make_a_picture(query, offered):
    assert asked(**query).intervals == offered


def points(found: Narrowing, interval: str, now: datetime) -> int:
    """How many points a series has."""
    start, end, tz = found.drawn.period
    assert start
    return len(buckets(start, end or max(now, start), interval, tz))


DAYS = st.dates(min_value=date(1000, 1, 1), max_value=date(2999, 12, 30))


@given(DAYS, st.none() | DAYS, st.sampled_from(ZONES), st.sampled_from([None, *INTERVALS]))
def test_no_period_makes_more_points_than_fit_whatever_interval_is_asked_for(first, last, zone, interval):
    last = last and max(first, last)
    query = {name: value for name, value in (("last", last), ("interval", interval)) if value}
    found = asked(first=first.isoformat(), tz=zone, **query)
    assert found.interval in found.intervals
    for interval in found.intervals:
        assert points(found, interval, at("2026-03-18T10:45")) <= MOST_POINTS + 2


@pytest.mark.parametrize(
    ("query", "interval"),
    [
        ({"first": "2016-01-01", "interval": "hour"}, "month"),
        ({"period": "12mo", "interval": "hour"}, "week"),
        ({"period": "today", "interval": "day"}, "hour"),
        ({"period": "7d", "interval": "hour"}, "hour"),
    ],
)
def test_an_interval_that_does_not_fit_the_period_gives_way_to_the_usual_one(query, interval):
    assert asked(**query).interval == interval


def drawn(found: Narrowing) -> tuple[datetime | None, datetime | None]:
    return found.drawn.period.start, found.drawn.period.end


def test_what_is_drawn_begins_with_the_first_day_of_hits_and_ends_now():
    found = asked(first="1000-01-01", last="2099-12-31", hits=("2026-03-16", "2026-03-19"))
    assert drawn(found) == (at("2026-03-16"), None)
    assert (found.interval, found.intervals) == ("day", ["hour", "day"])
    assert (found.question.period.start, found.question.period.end) == (at("1000-01-01"), at("2100-01-01"))


def test_what_is_drawn_is_no_more_than_is_asked_for():
    assert drawn(asked(first="2026-03-01", last="2026-03-02")) == (at("2026-03-01"), at("2026-03-03"))
    assert drawn(asked(last="2026-03-02")) == (None, at("2026-03-03"))
    # All of it before the first hit, or to come.
    early, late = asked(first="1000-01-01", last="1000-01-31"), asked(first="2030-01-01")
    assert drawn(early) == (at("1000-02-01"), at("1000-02-01"))
    assert drawn(late) == (at("2030-01-01"), None)


def test_hits_by_a_clock_that_was_fast_are_not_left_out():
    found = asked(first="2026-03-17", last="2026-12-31", hits=("2026-03-01", "2030-01-01"))
    assert drawn(found) == (at("2026-03-17"), at("2027-01-01"))


# Whole days


def test_by_whole_days_a_page_is_about_the_same_days_in_UTC():
    query = {"first": "2026-03-01", "last": "2026-03-02", "tz": KOLKATA, "interval": "hour", "country": "DE"}
    found, whole = asked(**query), asked(whole_days=True, **query)
    assert whole.question.period == (at("2026-03-01"), at("2026-03-03"), ZoneInfo("UTC"))
    assert (whole.interval, whole.intervals, whole.whole_days) == ("day", ["day"], True)
    assert whole.question.filters == {"country": "DE"}
    # Links and forms are as before.
    assert whole.tz.key == KOLKATA
    assert whole.link("paths") == found.link("paths")


def test_by_whole_days_all_remains_all_and_a_day_is_a_day():
    assert asked(whole_days=True, tz=BERLIN, period="all").question.period == (None, None, ZoneInfo("UTC"))
    day = asked(whole_days=True, first="2026-03-01", last="2026-03-01", tz=BERLIN)
    assert (day.interval, day.intervals) == ("day", ["day"])


@pytest.mark.parametrize(
    ("zone", "first"), [("UTC", "2026-02-16"), ("America/New_York", "2026-02-16"), (BERLIN, "2026-02-17")]
)
def test_the_same_since_a_day_begins_with_the_first_day_that_it_has_all_of(zone, first):
    day, link = asked(period="all", tz=zone, country="DE", interval="month").since(date(2026, 2, 16), "overview")
    assert day.isoformat() == first
    assert parse_qs(urlsplit(link).query) == {"country": ["DE"], "tz": [zone], "first": [first]}


def test_the_same_since_a_day_ends_where_it_ended_if_that_is_after_it():
    def last(day: str) -> list[str] | None:
        link = asked(first="2026-01-01", last=day).since(date(2026, 2, 16), "overview")[1]
        return parse_qs(urlsplit(link).query).get("last")

    assert (last("2026-02-16"), last("2026-02-15")) == (["2026-02-16"], None)


# The period before


@pytest.mark.parametrize(
    ("now", "query", "start", "end"),
    [
        # A day up to now: the day before up to the same time.
        ("2026-03-18T10:45", {"period": "today"}, "2026-03-17", "2026-03-17T10:45"),
        # As many as a week too; more days up to the full hour.
        ("2026-03-18T10:45", {"period": "7d"}, "2026-03-05", "2026-03-11T10:45"),
        ("2026-03-18T10:45", {"first": "2026-03-11"}, "2026-03-03", "2026-03-10T10:00"),
        ("2026-03-18T10:45", {"period": "30d"}, "2026-01-18", "2026-02-16T10:00"),
        # Days that are over.
        ("2026-03-18T10:45", {"first": "2026-03-01", "last": "2026-03-01"}, "2026-02-28", "2026-03-01"),
        ("2026-03-18T10:45", {"first": "2026-03-01", "last": "2026-03-10"}, "2026-02-19", "2026-03-01"),
        # Days that are not, up to now.
        ("2026-03-18T10:45", {"first": "2026-03-17", "last": "2026-03-31"}, "2026-03-15", "2026-03-16T10:45"),
        ("2026-03-18T10:45", {"first": "2026-03-18"}, "2026-03-17", "2026-03-17T10:45"),
        # Clocks are put forward on 29 March, at 02:00.
        ("2026-03-29T10:30", {"period": "today", "tz": BERLIN}, "2026-03-27T23:00", "2026-03-28T11:30"),
        ("2026-03-30T00:30", {"period": "today", "tz": BERLIN}, "2026-03-28T23:00", "2026-03-29T01:00"),
        ("2026-03-31T10:30", {"period": "7d", "tz": BERLIN}, "2026-03-17T23:00", "2026-03-24T11:30"),
        (
            "2026-04-10T10:30",
            {"first": "2026-03-29", "last": "2026-03-29", "tz": BERLIN},
            "2026-03-27T23:00",
            "2026-03-28T23:00",
        ),
        (
            "2026-04-10T10:30",
            {"first": "2026-03-30", "last": "2026-03-30", "tz": BERLIN},
            "2026-03-28T23:00",
            "2026-03-29T22:00",
        ),
        # And back on 25 October, at 03:00: an hour is shown twice.
        ("2026-10-26T01:30", {"period": "today", "tz": BERLIN}, "2026-10-24T22:00", "2026-10-25T00:30"),
        ("2026-10-25T01:30", {"period": "today", "tz": BERLIN}, "2026-10-23T22:00", "2026-10-24T00:30"),
        # Where the hours of the clock are not those of UTC.
        ("2026-03-18T10:45", {"period": "7d", "tz": KOLKATA}, "2026-03-04T18:30", "2026-03-11T10:45"),
        ("2026-03-18T10:45", {"period": "30d", "tz": KOLKATA}, "2026-01-17T18:30", "2026-02-16T10:30"),
        # Where the clocks are put forward at midnight, 6 September begins at 01:00.
        (
            "2026-10-01",
            {"first": "2026-09-05", "last": "2026-09-05", "tz": SANTIAGO},
            "2026-09-04T04:00",
            "2026-09-05T04:00",
        ),
        (
            "2026-10-01",
            {"first": "2026-09-06", "last": "2026-09-06", "tz": SANTIAGO},
            "2026-09-05T04:00",
            "2026-09-06T04:00",
        ),
        (
            "2026-10-01",
            {"first": "2026-09-07", "last": "2026-09-07", "tz": SANTIAGO},
            "2026-09-06T04:00",
            "2026-09-07T03:00",
        ),
        (
            "2026-10-01",
            {"first": "2026-09-01", "last": "2026-09-05", "tz": SANTIAGO},
            "2026-08-27T04:00",
            "2026-09-01T04:00",
        ),
    ],
)
def test_what_is_shown_is_compared_with_as_many_days_before_by_the_clock_on_the_wall(now, query, start, end):
    assert compared(asked(now, **query))[0] == (at(start), at(end))


def test_where_the_minute_is_not_kept_the_full_hour_may_be():
    assert compared(asked(period="7d")) == [
        (at("2026-03-05"), at("2026-03-11T10:45")),
        (at("2026-03-05"), at("2026-03-11T10:00")),
    ]
    assert compared(asked(period="30d")) == [(at("2026-01-18"), at("2026-02-16T10:00"))]
    # In the first hour of a day there is none.
    assert compared(asked("2026-03-18T00:45", period="today")) == [(at("2026-03-17"), at("2026-03-17T00:45"))]


@pytest.mark.parametrize(
    "query",
    [
        {"first": "2026-03-19"},
        {"first": "2030-01-01", "last": "2030-01-31"},
        {"first": "0001-01-01", "last": "0001-01-01"},
        {"first": "0001-01-01"},
    ],
)
def test_what_has_nothing_before_it_is_compared_with_nothing(query):
    assert compared(asked(**query)) == []


@given(
    st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2027, 1, 1)),
    st.sampled_from(["today", "7d", "30d", "12mo"]),
    st.sampled_from(ZONES),
)
def test_a_comparison_is_of_the_days_next_before_and_never_overlaps(now, period, zone):
    found = asked(now.replace(tzinfo=UTC), period=period, tz=zone)
    start, tz = begun(found), ZoneInfo(zone)
    length = {"today": 1, "7d": 7, "30d": 30, "12mo": 365}[period]
    for first, end in compared(found):  # none in the first moments of the day
        assert start and first < end <= start
        assert start.astimezone(tz).date() - first.astimezone(tz).date() == timedelta(days=length)
    assert all(question.filters == found.question.filters for question in found.before)


# Addresses


def test_a_link_changes_what_it_names_and_keeps_the_rest():
    found = asked(period="7d", country="DE", prefix="/shop/")
    assert found.link("overview", country=None) == "/?period=7d&prefix=%2Fshop%2F&tz=UTC"
    assert found.link("values", "browser", bot="false") == (
        "/by/browser/?period=7d&country=DE&prefix=%2Fshop%2F&tz=UTC&bot=false"
    )


def test_an_export_asks_the_api_the_same():
    found = asked(first="2026-03-01", last="2026-03-02", country="", prefix="/shop/", tz=BERLIN)
    assert found.export("/stats/", format="csv") == (
        "/stats/?from=2026-02-28T23%3A00%3A00%2B00%3A00&to=2026-03-02T23%3A00%3A00%2B00%3A00"
        "&tz=Europe%2FBerlin&prefix=%2Fshop%2F&country=&format=csv"
    )


def test_an_export_has_no_offset_with_seconds():
    link = asked(first="1880-01-01", tz=BERLIN).export("/stats/")  # whose clocks were 53 minutes and 28 seconds ahead
    assert parse_qs(urlsplit(link).query)["from"] == ["1879-12-31T23:06:32+00:00"]
