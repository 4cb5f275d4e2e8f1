"""counters/live.py and its view on real tables: what is read, how much for it, and who may."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import AsyncClient

from counters import days, live
from counters.dashboard import events
from counters.hits import counter_id, now
from counters.live import ONE_SECOND, TOP, Moment, by_second, recent
from counters.models import Counter, Hit, LoadTestRun
from hitcounter.asgi import conninfo

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
NOON = MIDNIGHT - timedelta(hours=12)
MANY = 400_000
FILL = """
INSERT INTO counters_hit (at, counter_id, hits, dimensions_id)
SELECT %(first)s + n / 1000 * interval '1 second', %(counter)s, 1, 1 FROM generate_series(0, %(many)s - 1) AS n
"""

pytestmark = pytest.mark.usefixtures("afresh")


def hit(path: str, at: datetime, by: int = 1) -> None:
    Counter.objects.increment(path, by, at=at)


def test_the_hits_of_a_span_are_those_from_its_beginning_until_before_its_end():
    for at, by in ((-1e-6, 1), (0, 10), (0.5, 100), (1 - 1e-6, 1000), (1, 10_000)):
        hit("/a", NOON + timedelta(seconds=at), by)
    assert recent(NOON, NOON + ONE_SECOND) == Moment(1110, [("/a", 1110)])


def test_the_most_requested_paths_come_first_and_all_hits_are_added_up():
    for n in range(TOP + 5):
        hit(f"/{n:02}", NOON, by=1 + n // 2)
    moment = recent(NOON, NOON + ONE_SECOND)
    assert moment.hits == sum(1 + n // 2 for n in range(TOP + 5))
    assert len(moment.paths) == TOP
    assert moment.paths == sorted(moment.paths, key=lambda row: (-row[1], row[0]))
    assert moment.paths[0] == ("/14", 8)


def test_a_span_without_hits_or_without_a_day_is_empty():
    assert recent(NOON, NOON + ONE_SECOND) == Moment(0, [])
    hit("/a", NOON)
    assert recent(NOON + ONE_SECOND, NOON + 2 * ONE_SECOND) == Moment(0, [])


def test_spans_across_midnight_are_of_both_days():
    for n in range(-2, 3):
        hit("/a", MIDNIGHT + n * ONE_SECOND, by=10 + n)
    assert recent(MIDNIGHT - 2 * ONE_SECOND, MIDNIGHT + 2 * ONE_SECOND).hits == 8 + 9 + 10 + 11
    assert by_second(MIDNIGHT - 2 * ONE_SECOND, MIDNIGHT + 3 * ONE_SECOND) == [8, 9, 10, 11, 12]


def test_seconds_without_hits_have_none():
    hit("/a", NOON + 1.999 * ONE_SECOND, by=7)
    assert by_second(NOON, NOON + 4 * ONE_SECOND) == [0, 7, 0, 0]


@pytest.fixture
def grown() -> datetime:
    """A day that has got many hits since it was made, none of which vacuum has seen; the time of the last."""
    Hit.objects.make_days(NOON.date())
    Counter.objects.create(id=counter_id("/a"), path="/a", hits=MANY)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table()} SET (autovacuum_enabled = off)")
        cursor.execute(FILL, {"first": NOON - timedelta(hours=1), "counter": counter_id("/a"), "many": MANY})
    return NOON - timedelta(hours=1) + (MANY // 1000 - 1) * ONE_SECOND


def table() -> str:
    return days.partition(NOON.date()).as_string()


def pages_read(ask: Callable[[], Any]) -> int:
    """How many pages of the day's hits are read."""
    before = pages()
    ask()
    return pages() - before


def pages() -> int:
    """So far, with those of this session, which would keep its figures for a while."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT 1")  # at the end of a statement, they are handed in
        cursor.execute(
            "SELECT heap_blks_read + heap_blks_hit FROM pg_statio_user_tables WHERE relname = %s", [table().strip('"')]
        )
        return int(cursor.fetchone()[0])


def test_a_second_of_a_day_that_was_never_vacuumed_reads_few_pages(grown):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size(%s::regclass) / 8192", [table()])
        [all_pages] = cursor.fetchone()
    assert recent(grown, grown + ONE_SECOND).hits == 1000  # this takes in what is not in the summary yet
    assert 0 < pages_read(lambda: recent(grown, grown + ONE_SECOND)) < all_pages / 20
    assert pages_read(lambda: by_second(grown - 10 * ONE_SECOND, grown + ONE_SECOND)) < all_pages / 10


def test_while_a_vacuum_is_at_it_the_hits_are_found_all_the_same(grown):
    with psycopg.connect(conninfo()) as vacuum:
        vacuum.execute(f"LOCK TABLE {table()} IN SHARE UPDATE EXCLUSIVE MODE")  # type: ignore[arg-type]
        assert recent(grown, grown + ONE_SECOND) == Moment(1000, [("/a", 1000)])


def test_a_look_is_an_event_in_json_with_the_load_test_that_runs(monkeypatch):
    run = LoadTestRun.objects.create(url="http://x", requested=10, concurrency=1, ended=3)
    monkeypatch.setattr(live.runs, "running", lambda: run)
    hit("/a", NOON, by=2)
    assert live.look(NOON) == {
        "at": "2026-03-01T12:00:00+00:00",
        "hits": 2,
        "paths": [{"path": "/a", "count": 2}],
        "loadtest": {"id": str(run.id), "requested": 10, "ended": 3, "started": run.started.isoformat()},
    }


def test_a_feed_reads_the_tables():
    async def listen() -> list[Any]:
        async with aclosing(live.Feed(clock=lambda: NOON + 2 * ONE_SECOND).listen()) as told, asyncio.timeout(20):
            return [await anext(told)]

    hit("/a", NOON, by=2)
    hit("/a", NOON - 59 * ONE_SECOND, by=5)
    [event] = asyncio.run(listen())
    assert (event["hits"], event["history"]) == (2, [5, *[0] * 58, 2])


# The view


async def test_a_closed_service_is_for_those_who_are_logged_in(settings, django_user_model):
    settings.HITCOUNTER_OPEN = False
    client = AsyncClient()
    assert (await client.get("/live/events/")).status_code == 401
    await client.aforce_login(await django_user_model.objects.acreate(username="ann"))
    assert (await client.get("/live/events/")).status_code == 200


async def test_a_stream_ends_after_a_while_so_that_its_reader_is_checked_again(settings, monkeypatch):
    settings.HITCOUNTER_OPEN = True
    monkeypatch.setattr(events, "LONGEST_SECONDS", 0)
    answer = await AsyncClient().get("/live/events/")
    async with asyncio.timeout(20):
        parts = [part async for part in answer.streaming_content]
    assert parts[0] == b"retry: 2000\n\n" and len(parts) == 2
    assert parts[1].startswith(b'data: {"at": "') and parts[1].endswith(b"}\n\n")


def test_without_asgi_it_says_what_it_takes(client, settings):
    settings.HITCOUNTER_OPEN = True
    answer = client.get("/live/events/")
    assert answer.status_code == 501 and "ASGI" in answer.json()["detail"]


def test_the_present_has_a_day():
    hit("/a", now())
    assert recent(now() - timedelta(minutes=1), now() + ONE_SECOND).hits == 1
