"""`manage.py verifycounts`: counter = sum of the hour buckets = sum of the hit rows, for every path."""

import asyncio
import io
import threading
from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection

from counters.books import Verdict, verify
from counters.dimensions import PLAIN
from counters.hits import counter_id
from counters.ingest.writer import PostgresWriter
from counters.models import Counter, Hit, HourlyHits
from hitcounter.asgi import conninfo

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HOUR = NOON.replace(minute=0)
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
