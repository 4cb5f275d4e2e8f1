"""What an address says a page is about: days of the reader's zone, compared with as many days before."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from counters.dashboard.narrowing import MOST_POINTS, ZONE_COOKIE, Narrowing, PageQuery, PathQuery, narrowing
from counters.periods import INTERVALS, buckets

BERLIN, KOLKATA, LORD_HOWE = "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"
ZONES = [BERLIN, KOLKATA, LORD_HOWE, "UTC", "America/New_York", "Pacific/Apia"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def asked(now: str | datetime = "2026-03-18T10:45", cookie: str = "", **query: Any) -> Narrowing:
    """What a page is about that is asked for at this time (in UTC)."""
    with pytest.MonkeyPatch.context() as patch:
        instant = at(now) if isinstance(now, str) else now
        patch.setattr("counters.hits.now", lambda: instant)
        request = RequestFactory().get("/", query)
        request.COOKIES[ZONE_COOKIE] = cookie or "UTC"
        return narrowing(request, PathQuery if "path" in query else PageQuery)


def refused(**query: Any) -> dict[str, Any]:
    with pytest.raises(ValidationError) as error:
        asked(**query)
    return error.value.detail


def begun(found: Narrowing) -> datetime | None:
    return found.question.period.start and found.question.period.start.astimezone(UTC)


def compared(found: Narrowing) -> tuple[datetime, datetime] | None:
    if found.before is None:
        return None
    period = found.before.period
    assert period.start and period.end
    return period.start.astimezone(UTC), period.end.astimezone(UTC)


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
    assert asked(cookie="Asia/Tokyo").link("paths") == "/paths/?tz=Asia%2FTokyo"
    assert asked(cookie="UTC").link("paths") == "/paths/"


def test_days_of_its_own_go_before_a_name():
    found = asked(first="2026-03-01", last="2026-03-03", period="7d")
    assert (found.period, begun(found), found.question.period.end) == ("", at("2026-03-01"), at("2026-03-04"))
    assert "period" not in found.given


def test_what_a_form_leaves_empty_is_not_asked_but_for_a_dimension_where_it_is_the_unknown():
    found = asked(first="", last="", period="7d", bot="", tz="", interval="", country="")
    assert found.given == {"period": "7d", "country": ""}
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
        ({"period": "today"}, ["hour", "day"]),
        ({"period": "7d"}, ["hour", "day", "week"]),
        ({"period": "30d"}, ["day", "week", "month"]),
        ({"period": "12mo"}, ["day", "week", "month"]),
        ({"first": "2000-01-01"}, ["month"]),
        ({"first": "1900-01-01"}, ["month"]),
    ],
)
def test_the_intervals_on_offer_are_those_that_make_a_picture(query, offered):
    assert asked(**query).intervals == offered


@given(st.dates(min_value=datetime(2000, 1, 1).date(), max_value=datetime(2026, 3, 18).date()), st.sampled_from(ZONES))
def test_no_interval_on_offer_makes_more_points_than_fit(first, zone):
    found = asked(first=first.isoformat(), tz=zone)
    assert found.interval in INTERVALS
    start = found.question.period.start
    assert start
    for interval in found.intervals:
        assert len(buckets(start, at("2026-03-18T10:45"), interval, ZoneInfo(zone))) <= MOST_POINTS + 2


# The period before


@pytest.mark.parametrize(
    ("now", "query", "start", "end"),
    [
        # A day up to now: the day before up to the same time.
        ("2026-03-18T10:45", {"period": "today"}, "2026-03-17", "2026-03-17T10:45"),
        # More days: up to the full hour.
        ("2026-03-18T10:45", {"period": "7d"}, "2026-03-05", "2026-03-11T10:00"),
        ("2026-03-18T10:45", {"period": "30d"}, "2026-01-18", "2026-02-16T10:00"),
        # Days that are over.
        ("2026-03-18T10:45", {"first": "2026-03-01", "last": "2026-03-01"}, "2026-02-28", "2026-03-01"),
        ("2026-03-18T10:45", {"first": "2026-03-01", "last": "2026-03-10"}, "2026-02-19", "2026-03-01"),
        # Days that are not, up to now.
        ("2026-03-18T10:45", {"first": "2026-03-17", "last": "2026-03-31"}, "2026-03-15", "2026-03-16T10:00"),
        ("2026-03-18T10:45", {"first": "2026-03-18"}, "2026-03-17", "2026-03-17T10:45"),
        # Clocks are put forward on 29 March, at 02:00.
        ("2026-03-29T10:30", {"period": "today", "tz": BERLIN}, "2026-03-27T23:00", "2026-03-28T11:30"),
        ("2026-03-30T00:30", {"period": "today", "tz": BERLIN}, "2026-03-28T23:00", "2026-03-29T01:00"),
        ("2026-03-31T10:30", {"period": "7d", "tz": BERLIN}, "2026-03-17T23:00", "2026-03-24T11:00"),
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
        ("2026-03-18T10:45", {"period": "7d", "tz": KOLKATA}, "2026-03-04T18:30", "2026-03-11T10:30"),
    ],
)
def test_what_is_shown_is_compared_with_as_many_days_before_by_the_clock_on_the_wall(now, query, start, end):
    assert compared(asked(now, **query)) == (at(start), at(end))


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
    assert compared(asked(**query)) is None


@given(
    st.datetimes(min_value=datetime(2024, 1, 1), max_value=datetime(2027, 1, 1)),
    st.sampled_from(["today", "7d", "30d", "12mo"]),
    st.sampled_from(ZONES),
)
def test_a_comparison_is_of_the_days_next_before_and_never_overlaps(now, period, zone):
    found = asked(now.replace(tzinfo=UTC), period=period, tz=zone)
    both = compared(found)
    if both is None:  # in the first minutes of the day
        return
    start, tz = begun(found), ZoneInfo(zone)
    assert start and both[0] < both[1] <= start
    length = {"today": 1, "7d": 7, "30d": 30, "12mo": 365}[period]
    assert start.astimezone(tz).date() - both[0].astimezone(tz).date() == timedelta(days=length)
    assert found.before and found.before.filters == found.question.filters


# Addresses


def test_a_link_changes_what_it_names_and_keeps_the_rest():
    found = asked(period="7d", country="DE", prefix="/shop/")
    assert found.link("overview", country=None) == "/?period=7d&prefix=%2Fshop%2F"
    assert found.link("values", "browser", bot="false") == (
        "/by/browser/?period=7d&country=DE&prefix=%2Fshop%2F&bot=false"
    )


def test_an_export_asks_the_api_the_same():
    found = asked(first="2026-03-01", last="2026-03-02", country="", prefix="/shop/", tz=BERLIN)
    assert found.export("/stats/", format="csv") == (
        "/stats/?from=2026-03-01T00%3A00%3A00%2B01%3A00&to=2026-03-03T00%3A00%3A00%2B01%3A00"
        "&tz=Europe%2FBerlin&prefix=%2Fshop%2F&country=&format=csv"
    )
