"""The writer against PostgreSQL: batches, the ledger, days, and what an error means for a batch."""

import asyncio
import random
import socket
import string
import threading
from collections import Counter as Tally
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection

from counters import days
from counters.dimensions import PLAIN, Origin
from counters.hits import counter_id
from counters.ingest.recorder import BatchConflict, BatchFailed, BatchRefused, ConnectionLost
from counters.ingest.writer import BATCHES_KEPT, PostgresWriter
from counters.models import BatchLedger, Counter, Hit, HourlyHits
from hitcounter.asgi import conninfo

pytestmark = pytest.mark.usefixtures("tables")

BEFORE_MIDNIGHT = datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=UTC)


def with_writer(work: Callable[[PostgresWriter], Awaitable[Any]], **options: Any) -> Any:
    """Run `work` with a connected writer, and close it."""

    async def run() -> Any:
        writer = PostgresWriter(conninfo(), **options)
        await writer.connect()
        try:
            return await work(writer)
        finally:
            await writer.close()

    return asyncio.run(run())


def plain(hits: list[tuple[str, int]]) -> dict[str, list[Origin]]:
    """So many hits of each path, of which nothing is known."""
    return {path: [PLAIN] * n for path, n in hits}


def test_a_batch_returns_each_paths_new_total():
    async def work(writer):
        return [
            await writer.write(1, plain([("/b", 2), ("/a", 1)])),
            await writer.write(2, plain([("/a", 4), ("/c", 1)])),
        ]

    assert with_writer(work) == [{"/a": 1, "/b": 2}, {"/a": 5, "/c": 1}]


def test_a_batch_writes_counter_bucket_hit_row_and_ledger():
    with_writer(lambda writer: writer.write(1, plain([("/a", 3)])), clock=lambda: BEFORE_MIDNIGHT)
    counter = Counter.objects.get()
    assert (counter.id, counter.path, counter.hits) == (counter_id("/a"), "/a", 3)
    assert counter.first_hit == counter.last_hit == BEFORE_MIDNIGHT
    hour = HourlyHits.objects.get()
    assert (hour.counter_id, hour.hour, hour.hits) == (
        counter.id,
        BEFORE_MIDNIGHT.replace(minute=0, second=0, microsecond=0),
        3,
    )
    hit = Hit.objects.get()
    assert (hit.counter_id, hit.at, hit.hits, hit.dimensions.method) == (counter.id, BEFORE_MIDNIGHT, 3, "GET")
    assert list(BatchLedger.objects.values_list("batch", "at", "totals")) == [(1, BEFORE_MIDNIGHT, "3")]


def test_a_batch_number_counts_once_and_is_answered_as_it_was():
    async def work(writer):
        first = await writer.write(1, plain([("/a", 2), ("/b", 1)]))
        await writer.write(2, plain([("/a", 5)]))
        return first, await writer.write(1, plain([("/a", 2), ("/b", 1)]))

    first, again = with_writer(work)
    assert first == again == {"/a": 2, "/b": 1}
    assert dict(Counter.objects.values_list("path", "hits")) == {"/a": 7, "/b": 1}


def test_two_writers_numbers_do_not_meet():
    for _ in range(2):
        with_writer(lambda writer: writer.write(1, plain([("/a", 1)])))
    assert Counter.objects.get().hits == 2


def test_at_midnight_the_next_day_has_its_partition():
    times = iter([BEFORE_MIDNIGHT, BEFORE_MIDNIGHT + timedelta(seconds=1)])

    async def work(writer):
        await writer.write(1, plain([("/a", 1)]))
        await writer.write(2, plain([("/a", 1)]))

    with_writer(work, clock=lambda: next(times))
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM counters_hit ORDER BY at")
        assert [row[0] for row in cursor.fetchall()] == ["counters_hit_20260301", "counters_hit_20260302"]
    assert HourlyHits.objects.count() == 2


def test_two_sessions_may_make_the_same_day_at_once():
    async def make(day: date) -> None:
        async with await psycopg.AsyncConnection.connect(conninfo()) as other:
            await other.execute("SELECT to_regclass('counters_hit_20260401')")
            await other.commit()
            await other.execute(days.make_day(day))
            await asyncio.sleep(0.05)

    async def both() -> None:
        await asyncio.gather(*(make(date(2026, 4, 1)) for _ in range(4)))

    asyncio.run(both())
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhrelid = to_regclass('counters_hit_20260401')")
        assert cursor.fetchone() == (1,)
        cursor.execute("DROP TABLE counters_hit_20260401")


def test_the_ledger_forgets_what_nobody_can_ask_about():
    async def work(writer):
        for number in range(1, BATCHES_KEPT + 2):
            await writer.write(number, plain([("/a", 1)]))

    with_writer(work)
    assert list(BatchLedger.objects.order_by("batch").values_list("batch", flat=True)) == [
        BATCHES_KEPT,
        BATCHES_KEPT + 1,
    ]
    assert Counter.objects.get().hits == BATCHES_KEPT + 1


def test_a_ledger_that_cannot_be_pruned_takes_no_answer_from_the_batch_that_committed():
    statements = """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON counters_batchledger EXECUTE FUNCTION refuse();
    """
    with connection.cursor() as cursor:
        cursor.execute(statements)
    try:
        assert with_writer(lambda writer: writer.write(BATCHES_KEPT, plain([("/a", 1)]))) == {"/a": 1}
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse() CASCADE")


def test_writers_on_overlapping_paths_neither_deadlock_nor_lose():
    paths = [f"/api/{n}/" for n in range(40)]

    async def writing(seed: int) -> Tally[str]:
        draw, sent = random.Random(seed), Tally()
        writer = PostgresWriter(conninfo())
        await writer.connect()
        for number in range(1, 101):
            batch = [(path, draw.randint(1, 3)) for path in draw.sample(paths, 15)]
            await writer.write(number, plain(batch))
            sent.update(dict(batch))
        await writer.close()
        return sent

    async def all_of_them() -> list[Tally[str]]:
        return await asyncio.gather(*(writing(seed) for seed in range(4)))

    sent = sum(asyncio.run(all_of_them()), Tally())
    assert dict(Counter.objects.values_list("path", "hits")) == sent


def test_a_value_that_the_database_refuses_is_known_to_be_rolled_back():
    # Longer than an entry of a btree may be, and not to be compressed: what check_path keeps out.
    refused = "/api/" + "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=9000))

    async def work(writer):
        with pytest.raises(BatchRefused, match="index row"):
            await writer.write(1, plain([("/api/a", 1), (refused, 1)]))
        return await writer.write(2, plain([("/api/a", 1)]))

    assert with_writer(work) == {"/api/a": 1}
    assert Counter.objects.get().hits == 1


def test_a_missing_table_is_a_failure_that_may_pass():
    async def work(writer):
        await writer.write(1, plain([("/a", 1)]))
        await rename("counters_hourlyhits", "mislaid")
        with pytest.raises(BatchFailed, match="does not exist"):
            await writer.write(2, plain([("/a", 1)]))
        await rename("mislaid", "counters_hourlyhits")
        return await writer.write(3, plain([("/a", 1)]))

    async def rename(old: str, new: str) -> None:
        async with await psycopg.AsyncConnection.connect(conninfo(), autocommit=True) as other:
            await other.execute(f"ALTER TABLE {old} RENAME TO {new}")

    assert with_writer(work) == {"/a": 2}


async def terminate_writers() -> None:
    async with await psycopg.AsyncConnection.connect(conninfo(), autocommit=True) as other:
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hitcounter writer'"
        )


def test_a_terminated_session_leaves_the_batch_in_doubt_and_the_writer_can_connect_again():
    async def work(writer):
        await writer.write(1, plain([("/a", 1)]))
        await terminate_writers()
        with pytest.raises(ConnectionLost):
            await writer.write(2, plain([("/a", 1)]))
        await writer.connect()
        return await writer.write(2, plain([("/a", 1)]))

    assert with_writer(work) == {"/a": 2}


def test_a_lost_session_leaves_the_socket_alone_that_has_its_number_now():
    async def work(writer):
        number = writer._session._socket
        await terminate_writers()
        while not writer._session.lost:
            await asyncio.sleep(0.001)
        pairs = [socket.socketpair() for _ in range(20)]
        heir, peer = next(
            (a, b) if a.fileno() == number else (b, a) for a, b in pairs if number in (a.fileno(), b.fileno())
        )
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(heir, readable.set)
        await writer.connect()
        peer.sendall(b"still mine")
        await asyncio.wait_for(readable.wait(), 5)
        asyncio.get_running_loop().remove_reader(heir)
        for one in (end for pair in pairs for end in pair):
            one.close()

    with_writer(work)


def test_without_a_server_there_is_no_connection():
    async def work() -> None:
        with pytest.raises(ConnectionLost):
            await PostgresWriter("host=127.0.0.1 port=1 dbname=x").connect()

    asyncio.run(work())


def test_a_deadlock_with_another_transaction_is_a_conflict():
    with_writer(lambda writer: writer.write(1, plain([("/a", 1), ("/b", 1)])))
    first, second = sorted(["/a", "/b"], key=counter_id)
    took_second, done = threading.Event(), threading.Event()

    def other() -> None:
        with psycopg.connect(conninfo()) as rival:
            # The batch must be the one that PostgreSQL gives up: it notices first, as the rival waits longer to look.
            rival.execute("SET deadlock_timeout = '60s'")
            rival.execute("SELECT 1 FROM counters_counter WHERE id = %s FOR UPDATE", [counter_id(second)])
            took_second.set()
            while not done.is_set() and not waiting(rival):
                pass
            rival.execute("SELECT 1 FROM counters_counter WHERE id = %s FOR UPDATE", [counter_id(first)])

    def waiting(rival: psycopg.Connection[Any]) -> bool:
        row = rival.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
        return bool(row and row[0])

    thread = threading.Thread(target=other)
    thread.start()
    took_second.wait()

    async def work(writer):
        with pytest.raises(BatchConflict, match="deadlock"):
            await writer.write(1, plain([("/a", 1), ("/b", 1)]))
        for _ in range(4):  # at once, as the recorder does: the batch may get the first counter before the rival again
            with suppress(BatchConflict):
                return await writer.write(1, plain([("/a", 1), ("/b", 1)]))
        return await writer.write(1, plain([("/a", 1), ("/b", 1)]))

    try:
        assert with_writer(work) == {"/a": 2, "/b": 2}
    finally:
        done.set()
        thread.join()


def test_a_batch_of_megabytes_is_sent_whole():
    paths = [f"/api/{n:05}/{'x' * 2000}" for n in range(5000)]
    totals = with_writer(lambda writer: writer.write(1, plain([(path, 1) for path in paths])))
    assert totals == dict.fromkeys(paths, 1)


def test_a_commit_is_durable_whatever_the_roles_default():
    async def work(writer):
        [value] = await writer._session.execute(b"SELECT current_setting('synchronous_commit')")
        return value

    with connection.cursor() as cursor:
        cursor.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
    try:
        assert with_writer(work) == b"on"
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER ROLE CURRENT_USER RESET synchronous_commit")
