"""Migrations: what was written before them means the same afterwards."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from django.db import connection

from counters import stats
from counters.books import Verdict, verify
from counters.dimensions import PLAIN, Dimensions, Origin
from counters.hits import counter_id
from counters.maintenance import maintain
from counters.models import Counter, DailyHits, DimensionSet, Hit, Rollup
from counters.periods import Period
from counters.questions import ALWAYS, Question
from tests.oracle import DAY, contents

pytestmark = pytest.mark.usefixtures("afresh")

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
NOON = FIRST + DAY / 2
ANN = Origin(Dimensions("GET", consumer='"route":'), b"ann")
BOT = Origin(Dimensions("GET", bot=True), b"bot")


@contextmanager
def migrated_to(migration: str) -> Iterator[None]:
    call_command("migrate", "counters", migration, verbosity=0)
    try:
        yield
    finally:
        call_command("migrate", "counters", verbosity=0)


def rolled_up(*origins: Origin) -> None:
    """A hit of each on either of two days, rolled up; of the first, the hit rows are gone."""
    for at in (NOON, NOON + DAY / 12, NOON + DAY):
        for origin in origins:
            Counter.objects.increment("/a", origin=origin, at=at)
    list(maintain(FIRST + 2 * DAY + DAY / 2, keep_hits_days=1, keep_hours_days=400))
    assert not Hit.objects.filter(at__lt=FIRST + DAY).exists()


def by_route() -> list[stats.Share]:
    return list(stats.by(Question(Period(FIRST, FIRST + 2 * DAY, ALWAYS.tz)), "route"))


def test_hits_from_before_there_were_dimensions_have_their_method_and_nothing_else():
    with migrated_to("0003"):
        Hit.objects.make_days(FIRST.date())
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO counters_hit (at, counter_id, hits, method) VALUES (%s, %s, 2, 'GET')",
                [NOON, counter_id("/a")],
            )
    [hit] = Hit.objects.select_related("dimensions")
    assert hit.dimensions_id == PLAIN.id
    assert Dimensions(*[getattr(hit.dimensions, name) for name in Dimensions._fields]) == PLAIN.dimensions


def test_days_that_were_rolled_up_before_there_were_routes_are_as_if_rolled_up_with_them():
    rolled_up(ANN, BOT)
    before = contents()
    with migrated_to("0005"):
        assert not Rollup.objects.filter(dimension="route").exists()
    assert contents() == before
    assert verify(print) == Verdict(1, 0, 0)
    assert by_route() == [stats.Share("", 6, 4)]


def test_workers_that_know_no_routes_yet_can_write_on():
    columns = "id, seen, method, consumer, country, referrer, referrer_url, browser, os, device, bot"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO counters_dimensionset ({columns})"  # noqa: S608
            " VALUES (1, '2026-03-01', 'GET', '', '', '', '', '', '', '', false)"
        )
    assert DimensionSet.objects.get().route == ""


def test_routes_that_are_known_are_forgotten_when_they_are_undone():
    rolled_up(ANN, BOT, Origin(ANN.dimensions._replace(route="/<name>/"), b"bob"))
    assert by_route() == [stats.Share("", 6, 4), stats.Share("/<name>/", 3, 2)]
    before = [json.loads(known) for known in DailyHits.objects.order_by("day").values_list("dimensions", flat=True)]
    assert all(known.pop("route") for known in before)
    with migrated_to("0005"):
        after = DailyHits.objects.order_by("day").values_list("dimensions", flat=True)
        assert [json.loads(known) for known in after] == before
    assert verify(print) == Verdict(1, 0, 0)
    assert by_route() == [stats.Share("", 9, 6)]
