"""Periods and calendar intervals, across every kind of change that clocks have gone through."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters.periods import INTERVALS, MOST_BUCKETS, Period, PeriodInvalid, buckets, moment, zone

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # clocks change by half an hour
    "Asia/Kathmandu",  # +05:45
    "Pacific/Apia",  # had no 30 December 2011
    "America/Sao_Paulo",  # clocks changed at midnight: some days begin at one o'clock
    "America/St_Johns",  # clocks changed at one minute past midnight
    "Pacific/Kwajalein",  # had no 21 August 1993
]
zones = st.sampled_from(ZONES).map(ZoneInfo)
instants = st.datetimes(datetime(1985, 1, 1), datetime(2030, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
LENGTHS = {
    "hour": timedelta(days=4),
    "day": timedelta(days=90),
    "week": timedelta(days=400),
    "month": timedelta(days=1200),
}


def shown(at: datetime, zone: str) -> str:
    return at.astimezone(ZoneInfo(zone)).isoformat()


def starts(start: str, end: str, interval: str, zone: str) -> list[str]:
    tz = ZoneInfo(zone)
    return [shown(at, zone) for at in buckets(moment(start, tz), moment(end, tz), interval, tz)]


@given(zones, instants, st.data(), st.sampled_from(INTERVALS))
def test_buckets_tile_the_period(tz, start, data, interval):
    end = start + data.draw(st.timedeltas(timedelta(microseconds=1), LENGTHS[interval]))
    found = buckets(start, end, interval, tz)
    assert found[0] <= start
    assert found[-1] < end
    assert all(one < other for one, other in pairwise(found))
    assert len(found) < 2 or found[1] > start


@given(zones, instants, st.data(), st.sampled_from(INTERVALS))
def test_where_a_bucket_begins_does_not_depend_on_the_period(tz, start, data, interval):
    end = start + data.draw(st.timedeltas(timedelta(microseconds=1), LENGTHS[interval]))
    later = data.draw(st.integers(0, int((end - start).total_seconds())).map(lambda n: start + timedelta(seconds=n)))
    whole, part = buckets(start, end, interval, tz), buckets(later, end, interval, tz)
    assert part == whole[len(whole) - len(part) :]


@given(zones, instants, st.data())
def test_a_days_instants_are_those_with_its_date(tz, start, data):
    """But for the hour before midnight that St. John's had once more when it was past midnight already."""
    end = start + data.draw(st.timedeltas(timedelta(microseconds=1), timedelta(days=3)))
    at = data.draw(st.datetimes(start.replace(tzinfo=None), end.replace(tzinfo=None))).replace(tzinfo=UTC)
    [day] = buckets(at, at + timedelta(microseconds=1), "day", tz)
    local = at.astimezone(tz)
    assert day.astimezone(tz).date() == local.date() or (local.fold and local.hour == 23)


@given(zones, instants)
def test_an_hour_is_at_most_an_hour_and_begins_on_the_hour_or_with_other_clocks(tz, at):
    found = buckets(at, at + timedelta(hours=3), "hour", tz)
    assert all(other - one <= timedelta(hours=1) for one, other in pairwise(found))
    for one in found:
        before, local = (one - timedelta(seconds=1)).astimezone(tz), one.astimezone(tz)
        assert (local.minute, local.second, local.microsecond) == (0, 0, 0) or before.utcoffset() != local.utcoffset()


@given(zones, instants)
def test_weeks_begin_on_monday_and_months_on_the_first(tz, at):
    [week] = buckets(at, at + timedelta(microseconds=1), "week", tz)
    [month] = buckets(at, at + timedelta(microseconds=1), "month", tz)
    assert week.astimezone(tz).weekday() == 0
    assert month.astimezone(tz).day == 1


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("Australia/Lord_Howe", date(2026, 10, 4), 24),  # one of them of half the length
        ("Australia/Lord_Howe", date(2026, 4, 5), 25),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),
        ("America/Sao_Paulo", date(2018, 2, 17), 25),
        ("Asia/Kathmandu", date(2026, 3, 29), 24),
    ],
)
def test_a_day_has_the_hours_that_pass_in_it(zone, day, hours):
    assert len(starts(f"{day}", f"{day + timedelta(days=1)}", "hour", zone)) == hours


def test_an_hour_that_the_clocks_show_twice_is_two():
    assert starts("2026-10-25T01:30", "2026-10-25T03:30", "hour", "Europe/Berlin") == [
        "2026-10-25T01:00:00+02:00",
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]


def test_half_an_hour_put_forward_or_back_ends_an_hour():
    assert starts("2026-10-04T01:00", "2026-10-04T04:00", "hour", "Australia/Lord_Howe") == [
        "2026-10-04T01:00:00+10:30",
        "2026-10-04T02:30:00+11:00",
        "2026-10-04T03:00:00+11:00",
    ]
    assert starts("2026-04-05T01:00", "2026-04-05T03:00", "hour", "Australia/Lord_Howe") == [
        "2026-04-05T01:00:00+11:00",
        "2026-04-05T01:30:00+10:30",
        "2026-04-05T02:00:00+10:30",
    ]


def test_hours_are_full_on_the_local_clock():
    assert starts("2026-03-01T00:20", "2026-03-01T01:20", "hour", "Asia/Kathmandu") == [
        "2026-03-01T00:00:00+05:45",
        "2026-03-01T01:00:00+05:45",
    ]


def test_a_day_that_the_calendar_skipped_is_none():
    assert starts("2011-12-29", "2012-01-01", "day", "Pacific/Apia") == [
        "2011-12-29T00:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
    ]


def test_a_day_without_midnight_begins_when_the_clocks_have_skipped_it():
    assert starts("2018-11-03", "2018-11-05", "day", "America/Sao_Paulo") == [
        "2018-11-03T00:00:00-03:00",
        "2018-11-04T01:00:00-02:00",
    ]


def test_an_empty_period_has_no_buckets():
    assert starts("2026-03-01", "2026-03-01", "hour", "UTC") == []


def test_too_many_buckets_are_refused():
    with pytest.raises(PeriodInvalid, match="100,000"):
        starts("1990-01-01", "2026-01-01", "hour", "UTC")
    start = datetime(2000, 1, 1, tzinfo=UTC)
    assert len(buckets(start, start + timedelta(hours=MOST_BUCKETS), "hour", ZoneInfo("UTC"))) == MOST_BUCKETS


@pytest.mark.parametrize(
    ("text", "zone", "meant"),
    [
        ("2026-03-01", "UTC", "2026-03-01T00:00:00+00:00"),
        ("2026-03-01", "Europe/Berlin", "2026-03-01T00:00:00+01:00"),
        ("2026-03-01T14:30", "Europe/Berlin", "2026-03-01T14:30:00+01:00"),
        ("2026-03-01 14:30:01.5", "Europe/Berlin", "2026-03-01T14:30:01.500000+01:00"),
        ("2026-03-01T14:30Z", "Europe/Berlin", "2026-03-01T15:30:00+01:00"),
        ("2026-03-01T14:30-05:00", "Europe/Berlin", "2026-03-01T20:30:00+01:00"),
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29T03:00:00+02:00"),  # skipped
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T02:30:00+02:00"),  # shown twice
        ("2018-11-04", "America/Sao_Paulo", "2018-11-04T01:00:00-02:00"),
        ("2011-12-30", "Pacific/Apia", "2011-12-31T00:00:00+14:00"),
    ],
)
def test_a_moment_is_meant_as_the_clocks_have_it(text, zone, meant):
    at = moment(text, ZoneInfo(zone))
    assert at.tzinfo is UTC
    assert shown(at, zone) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "today",
        "2026",
        "2026-3-1",
        "20260301",
        "2026-W10-1",
        "2026-02-29",
        "2026-03-01T",
        "2026-03-01T25:00",
        "2026-03-01T14:30 01:00",
        "2026-03-01T14:30+25:00",
        "2026-03-01x14:30",
        "2026-03-01T14:30:00.1234567",
        "२०२६-०३-०१",
        "0000-01-01",
        "2026-03-01\n",
    ],
)
def test_what_is_no_moment_is_refused(text):
    with pytest.raises(PeriodInvalid):
        moment(text, ZoneInfo("Europe/Berlin"))


@given(
    zones,
    st.dates(date(1, 1, 1), date(1, 3, 1)) | st.dates(date(9999, 10, 1)),
    st.integers(0, 23),
    st.sampled_from(["", "Z", "+14:00", "-12:00"]),
    st.sampled_from(INTERVALS),
)
def test_at_the_ends_of_the_calendar_nothing_but_a_value_error_is_raised(tz, day, hour, offset, interval):
    try:
        start = moment(f"{day.isoformat()}T{hour:02}:00{offset}", tz)
    except PeriodInvalid:
        return
    for end in (datetime.max.replace(tzinfo=UTC), start):
        with suppress(ValueError):
            buckets(start, end, interval, tz)
        with suppress(ValueError):
            assert Period(start, end, tz).previous().end == start


@pytest.mark.parametrize(
    "name", ["", "Berlin", "europe/berlin", "../../../etc/passwd", "/etc/passwd", "UTC\x00", "Europe"]
)
def test_a_time_zone_is_one_that_has_a_name(name):
    assert zone("Europe/Berlin") == ZoneInfo("Europe/Berlin")
    with pytest.raises(PeriodInvalid):
        zone(name)


@pytest.mark.parametrize(
    ("name", "start", "end", "before"),
    [
        ("Europe/Berlin", "2026-03-30", "2026-03-31", "2026-03-29T00:00:00+01:00"),  # a day of 23 hours
        ("Europe/Berlin", "2026-03-29", "2026-03-30", "2026-03-28T00:00:00+01:00"),
        ("Europe/Berlin", "2026-03-01", "2026-04-01", "2026-01-29T00:00:00+01:00"),
        ("UTC", "2026-03-01T12:00", "2026-03-01T18:00", "2026-03-01T06:00:00+00:00"),
        ("Europe/Berlin", "2026-10-25T02:30+02:00", "2026-10-25T02:15+01:00", "2026-10-25T01:45:00+02:00"),
        ("UTC", "2026-03-01", "2026-03-01", "2026-03-01T00:00:00+00:00"),
    ],
)
def test_the_period_before_is_as_long_by_the_clock(name, start, end, before):
    tz = ZoneInfo(name)
    asked = Period(moment(start, tz), moment(end, tz), tz)
    previous = asked.previous()
    assert (shown(previous.start, name), previous.end) == (before, asked.start)


@given(zones, instants, st.timedeltas(timedelta(microseconds=1), timedelta(days=800)))
def test_the_period_before_is_no_empty_one(tz, start, length):
    previous = Period(start, start + length, tz).previous()
    assert previous.start < previous.end == start


@pytest.mark.parametrize("missing", ["start", "end"])
def test_only_a_period_with_both_ends_has_one_before_it(missing):
    at = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(PeriodInvalid):
        Period(at, at, ZoneInfo("UTC"))._replace(**{missing: None}).previous()
