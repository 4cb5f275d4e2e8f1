"""`manage.py verifycounts`: counter = hour buckets = hit rows = days rolled up, for every path and for all of them."""

import asyncio
import io
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F

from counters.books import MOST_KEPT, Verdict, keep, last_verification, verify
from counters.dimensions import PLAIN, ROLLED_UP, Dimensions, Origin
from counters.hits import counter_id, now
from counters.ingest.writer import PostgresWriter
from counters.maintenance import maintain
from counters.models import Counter, DailyHits, DailyPaths, Hit, HourlyHits, LateDay, RolledDay, Rollup, Verification
from hitcounter.asgi import conninfo
from tests.oracle import drop_days

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HOUR = NOON.replace(minute=0)
DAY = timedelta(days=1)
GERMAN = Origin(Dimensions("GET", country="DE"), b"ann")
STRAY = UUID(int=7)

one_transaction = pytest.mark.django_db


def count(*paths):
    for path in paths:
        Counter.objects.increment(path, at=NOON)


def run():
    """The exit status and the lines printed."""
    out = io.StringIO()
    try:
        call_command("verifycounts", stdout=out)
    except SystemExit as end:
        return end.code, out.getvalue().splitlines()
    return 0, out.getvalue().splitlines()


@one_transaction
@pytest.mark.parametrize(("paths", "said"), [(0, "0 paths"), (1, "1 path"), (3, "3 paths")])
def test_books_that_balance_are_said_to(paths, said):
    count(*(f"/api/{n}/" for n in range(paths)))
    assert run() == (0, [f"{said} checked: the books balance."])


@one_transaction
def test_a_counter_without_hits_balances():
    Counter.objects.create(id=counter_id("/api/a/"), path="/api/a/", hits=0)
    assert run() == (0, ["1 path checked: the books balance."])


def counter_too_high():
    Counter.objects.filter(path="/api/a/").update(hits=1_005)


def bucket_too_low():
    HourlyHits.objects.filter(counter_id=counter_id("/api/a/")).update(hits=4)


def bucket_gone():
    HourlyHits.objects.filter(counter_id=counter_id("/api/a/")).delete()


def hit_row_too_many():
    Hit.objects.create(at=NOON, counter_id=counter_id("/api/a/"), hits=2, dimensions_id=PLAIN.id)


def hit_rows_gone():
    Hit.objects.filter(counter_id=counter_id("/api/a/")).delete()


def counter_gone():
    Counter.objects.filter(path="/api/a/").delete()


def only_a_bucket():
    HourlyHits.objects.create(counter_id=STRAY, hour=HOUR, hits=3)


def only_a_hit_row():
    Hit.objects.create(at=NOON, counter_id=STRAY, hits=3, dimensions_id=PLAIN.id)


def counter_alone():
    Counter.objects.create(id=STRAY, path="/api/stray/", hits=3)


@one_transaction
@pytest.mark.parametrize(
    ("spoil", "line", "paths"),
    [
        (counter_too_high, "/api/a/: counter 1,005, hourly 5, hit rows 5, daily 5", 2),
        (bucket_too_low, "/api/a/: counter 5, hourly 4, hit rows 5, daily 5", 2),
        (bucket_gone, "/api/a/: counter 5, hourly none, hit rows 5, daily 5", 2),
        (hit_row_too_many, "/api/a/: counter 5, hourly 5, hit rows 7, daily 7", 2),
        (hit_rows_gone, "/api/a/: counter 5, hourly 5, hit rows none, daily none", 2),
        (counter_gone, f"(no counter) {counter_id('/api/a/')}: counter none, hourly 5, hit rows 5, daily 5", 2),
        (only_a_bucket, f"(no counter) {STRAY}: counter none, hourly 3, hit rows none, daily none", 3),
        (only_a_hit_row, f"(no counter) {STRAY}: counter none, hourly none, hit rows 3, daily 3", 3),
        (counter_alone, "/api/stray/: counter 3, hourly none, hit rows none, daily none", 3),
    ],
)
def test_each_kind_of_difference_is_shown_with_its_figures(spoil, line, paths):
    Counter.objects.increment("/api/a/", by=5, at=NOON)
    count("/api/b/")
    spoil()
    assert run() == (1, [line, f"1 of {paths} paths differs."])


@one_transaction
def test_differences_come_in_the_order_of_their_paths():
    count("/api/b/", "/api/a/", "/api/c/")
    Counter.objects.exclude(path="/api/c/").update(hits=9)
    status, lines = run()
    assert status == 1 and lines[-1] == "2 of 3 paths differ."
    assert [line.partition(":")[0] for line in lines[:-1]] == ["/api/a/", "/api/b/"]


@one_transaction
def test_it_reads_in_one_statement_through_a_cursor_on_the_server(django_assert_num_queries):
    count("/api/a/")
    with django_assert_num_queries(5) as queries:  # and a savepoint, room to sort in, and one for what is rolled up
        assert verify(print) == Verdict(1, 0, 0)
    assert "SAVEPOINT" in queries[0]["sql"] and "FULL JOIN" in queries[2]["sql"]


@pytest.mark.usefixtures("tables")
def test_hits_that_arrive_meanwhile_raise_no_false_alarm():
    done = threading.Event()
    checks = []

    def check_on():
        try:
            while not done.is_set():
                checks.append(run()[0])
        finally:
            connection.close()

    async def send():
        writer = PostgresWriter(conninfo())
        await writer.connect()
        for number in range(1, 301):
            await writer.write(number, {f"/api/{path}/": [PLAIN] * number for path in range(20)})
        await writer.close()

    checker = threading.Thread(target=check_on)
    checker.start()
    try:
        asyncio.run(send())
    finally:
        done.set()
        checker.join(30)
    assert len(checks) > 1 and set(checks) == {0}


# Rolled up


@pytest.fixture
def rolled_up(tables: Callable[[], None]) -> Iterator[Callable[..., None]]:
    """Two days that are rolled up: 5 hits of /api/a/ on the first, 2 of /api/b/ on both; call it to maintain again."""

    def maintain_again(keep_hits_days: int = 30, keep_hours_days: int = 400) -> None:
        list(maintain(NOON + 2 * DAY, keep_hits_days=keep_hits_days, keep_hours_days=keep_hours_days))

    drop_days()
    Counter.objects.increment("/api/a/", 5, origin=GERMAN, at=NOON)
    for at in (NOON, NOON + DAY):
        Counter.objects.increment("/api/b/", 2, at=at)
    maintain_again()
    yield maintain_again
    drop_days()


def rollup(dimension, grain, start):
    return Rollup.objects.filter(dimension=dimension, grain=grain, start=start)


def day_too_high():
    rollup("", "day", NOON.replace(hour=0, minute=0)).update(hits=F("hits") + 1_000)


def day_gone():
    rollup("", "day", NOON.replace(hour=0, minute=0)).delete()


def hour_too_low():
    rollup("", "hour", HOUR + DAY).update(hits=1)


def country_of_a_day_too_low():
    rollup("country", "day", NOON.replace(hour=0, minute=0)).filter(value="DE").update(hits=4)


def country_of_an_hour_gone():
    rollup("country", "hour", HOUR).filter(value="").delete()


def paths_too_many():
    DailyPaths.objects.filter(day=NOON.date(), audience="all").update(paths=9)


def paths_gone():
    DailyPaths.objects.filter(day=NOON.date()).delete()


def test_each_kind_of_rollup_that_differs_is_shown_with_its_figures(rolled_up):
    for spoil, line in (
        (day_too_high, "2026-03-01, hits by the day: 1,007 rolled up, 7 in the days of the paths"),
        (day_gone, "2026-03-01, hits by the day: 0 rolled up, 7 in the days of the paths"),
        (hour_too_low, "2026-03-02, hits by the hour: 1 rolled up, 2 in the days of the paths"),
        (country_of_a_day_too_low, "2026-03-01, hits by the day by country: 6 rolled up, 7 in the days of the paths"),
        (country_of_an_hour_gone, "2026-03-01, hits by the hour by country: 5 rolled up, 7 in the days of the paths"),
        (paths_too_many, "2026-03-01, paths: 9 rolled up, 2 in the days of the paths"),
        (paths_gone, "2026-03-01, paths: 0 rolled up, 2 in the days of the paths"),
    ):
        with transaction.atomic():
            spoil()
            assert run() == (1, [line, "Rolled up of all paths, 1 figure differs."])
            transaction.set_rollback(True)
    assert run() == (0, ["2 paths checked: the books balance."])


@pytest.mark.parametrize(
    ("hits", "too_few", "path"),
    [
        (1, 4, "/api/a/: counter 5, hourly 5, hit rows 5, daily 1"),
        (None, 5, "/api/a/: counter 5, hourly 5, hit rows 5, daily none"),
    ],
)
def test_a_paths_day_that_differs_is_shown_as_the_paths_and_as_all_that_it_is_a_part_of(rolled_up, hits, too_few, path):
    day = DailyHits.objects.filter(counter_id=counter_id("/api/a/"))
    day.update(hits=hits) if hits else day.delete()
    figures = ["hits by the day", *(f"hits by the day by {name}" for name in ROLLED_UP)]
    figures = sorted(figures + [figure.replace("day", "hour") for figure in figures])
    lines = [f"2026-03-01, {figure}: 7 rolled up, {7 - too_few} in the days of the paths" for figure in figures]
    if not hits:
        lines.append("2026-03-01, paths: 2 rolled up, 1 in the days of the paths")
    said = [path, *lines, "1 of 2 paths differs.", f"Rolled up of all paths, {len(lines)} figures differ."]
    assert run() == (1, said)


def test_figures_that_await_maintenance_are_not_said_to_differ(rolled_up):
    RolledDay.objects.filter(day=NOON.date()).update(chained=False)
    paths_gone()
    LateDay.objects.create(day=(NOON + DAY).date())
    hour_too_low()
    assert run() == (0, ["2 paths checked: the books balance."])
    rolled_up()
    assert not RolledDay.objects.filter(chained=False).exists() and not LateDay.objects.exists()
    assert run() == (0, ["2 paths checked: the books balance."])


@pytest.mark.parametrize("keep", [(1, 400), (1, 1)], ids=["hits dropped", "hours dropped too"])
def test_books_of_which_a_part_is_not_kept_any_more_balance(rolled_up, keep):
    balanced = (0, ["2 paths checked: the books balance."])
    rolled_up(*keep)
    assert not Hit.objects.filter(at__lt=NOON + DAY / 2).exists()
    assert HourlyHits.objects.filter(hour=HOUR).exists() == (keep[1] > 1)
    assert run() == balanced
    Counter.objects.increment("/api/a/", 3, origin=GERMAN, at=NOON)  # late, for a day whose hit rows are gone
    assert run() == balanced
    rolled_up(*keep)
    assert not Hit.objects.filter(at__lt=NOON + DAY / 2).exists()
    assert run() == balanced


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (counter_too_high, "/api/a/: counter 1,005, hourly 5, hit rows 5, daily 5"),
        (only_a_hit_row, f"(no counter) {STRAY}: counter none, hourly 3, hit rows 3, daily 3"),
    ],
)
def test_paths_that_differ_are_shown_when_only_their_days_are_kept(rolled_up, spoil, line):
    rolled_up(1, 1)
    Hit.objects.make_days(NOON.date())
    spoil()
    status, lines = run()
    assert (status, lines[0]) == (1, line)


# What is kept


@one_transaction
def test_a_run_leaves_what_it_found():
    assert last_verification() is None
    count("/api/a/", "/api/b/")
    before = now()
    run()
    good = last_verification()
    assert (good.checked, good.differing, good.rollups_differing) == (2, 0, 0)
    assert before <= good.at <= now()
    Counter.objects.filter(path="/api/a/").update(hits=5)
    run()
    bad = last_verification()
    assert (bad.checked, bad.differing) == (2, 1) and bad.at > good.at


@one_transaction
def test_the_last_hundred_are_kept():
    for n in range(MOST_KEPT + 5):
        keep(Verdict(n, 0, 0), NOON + n * DAY)
    assert sorted(Verification.objects.values_list("checked", flat=True)) == list(range(5, MOST_KEPT + 5))
