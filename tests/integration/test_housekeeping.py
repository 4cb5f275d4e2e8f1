"""hitcounter/housekeeping.py: maintenance in a thread of the service, that neither disturbs it nor holds up its end."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection

from counters import maintenance
from counters.hits import now
from counters.models import Counter
from hitcounter import housekeeping
from hitcounter.asgi import conninfo
from hitcounter.housekeeping import Housekeeping
from tests.oracle import drop_days

TWO_DAYS_AGO = timedelta(days=2)
WAIT_SECONDS = 20
#: Nothing that is cancelled takes longer.
AT_ONCE = 1.5
#: Some other session's, that maintenance has to wait for until it is cancelled: nothing bounds its wait for this one.
HOLD_UP = "LOCK TABLE counters_retention IN ACCESS EXCLUSIVE MODE"


@pytest.fixture(autouse=True)
def day(tables: Callable[[], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """The UTC day of a hit, which is over and not rolled up; housekeeping looks after it again and again."""
    monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    drop_days()
    at = now() - TWO_DAYS_AGO
    Counter.objects.increment("/api/a/", at=at)
    yield at.date()
    drop_days()


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    """Another session."""
    with psycopg.connect(conninfo(), autocommit=True) as session:
        yield session


def at_work(scenario: Callable[[Housekeeping], Any]) -> None:
    """Run a scenario while housekeeping goes on, in an event loop as the service's."""

    async def run() -> None:
        keeping = Housekeeping()
        keeping.start()
        try:
            await scenario(keeping)
        finally:
            await keeping.close()

    asyncio.run(run())


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def rolled_up(session: psycopg.Connection[Any]) -> set[date]:
    return {day for (day,) in session.execute("SELECT day FROM counters_rolledday")}


def waiting(session: psycopg.Connection[Any]) -> list[int]:
    """The server processes of this database that wait for a lock."""
    session.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction, a second look would show the first
    return [
        pid
        for (pid,) in session.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    ]


@contextmanager
def held_up(session: psycopg.Connection[Any]) -> Iterator[None]:
    with session.transaction():
        session.execute(HOLD_UP)
        yield


def told(caplog: pytest.LogCaptureFixture, least: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= least]


def test_it_does_what_maintenance_does_for_as_long_as_the_settings_say_and_tells_it(day, other, caplog, settings):
    settings.HITCOUNTER_KEEP_HITS_DAYS = 1
    at_work(lambda _: until(lambda: f"Dropped the hit rows of {day}." in told(caplog, logging.INFO)))
    assert f"Rolled up {day}." in told(caplog, logging.INFO)
    assert day in rolled_up(other) and told(caplog) == []


def test_it_goes_on_with_what_comes_later(day, other):
    async def scenario(_: Housekeeping) -> None:
        await until(lambda: day in rolled_up(other))
        other.execute("INSERT INTO counters_lateday (day) VALUES (%s)", [day])
        await until(lambda: not other.execute("SELECT FROM counters_lateday").fetchall())

    at_work(scenario)


def test_the_event_loop_is_not_held_up(other):
    async def scenario(_: Housekeeping) -> None:
        with held_up(other):
            await until(lambda: waiting(other))
            begun = time.monotonic()
            for _ in range(10):
                await asyncio.sleep(0.001)
            assert time.monotonic() - begun < AT_ONCE

    at_work(scenario)


def test_it_gives_way_without_a_word_to_another_that_is_at_it_and_takes_over_when_that_is_done(day, other, caplog):
    async def scenario(_: Housekeeping) -> None:
        with psycopg.connect(conninfo()) as elsewhere:
            elsewhere.execute(maintenance._LOCK)
            await asyncio.sleep(0.3)
            assert rolled_up(other) == set()
        await until(lambda: day in rolled_up(other))

    at_work(scenario)
    assert told(caplog) == []


def test_an_error_of_the_database_is_one_line_in_the_log_and_the_work_is_done_the_next_time(day, other, caplog):
    async def scenario(_: Housekeeping) -> None:
        with held_up(other):
            await until(lambda: waiting(other))
            for pid in waiting(other):
                other.execute("SELECT pg_terminate_backend(%s)", [pid])
            await until(lambda: told(caplog))
        await until(lambda: day in rolled_up(other))

    at_work(scenario)
    [line] = [record for record in caplog.records if record.name == "hitcounter.housekeeping" and record.levelno >= 30]
    assert line.getMessage().startswith("Maintenance was cut short, and is tried again: ")
    assert "\n" not in line.getMessage() and line.exc_info is None


def test_without_a_database_it_says_so_in_one_line_and_goes_on_when_there_is_one(day, other, caplog, monkeypatch):
    def refuse() -> None:
        monkeypatch.setattr(housekeeping, "connection", connection)
        raise OperationalError("connection failed:\n  is the server running?")

    monkeypatch.setattr(housekeeping, "connection", SimpleNamespace(ensure_connection=refuse, close=lambda: None))
    at_work(lambda _: until(lambda: day in rolled_up(other)))
    assert told(caplog) == ["Maintenance was cut short, and is tried again: connection failed: is the server running?"]
    assert not any(record.exc_info for record in caplog.records)


def test_what_is_not_foreseen_is_told_with_its_traceback_and_the_work_is_done_the_next_time(
    day, other, caplog, monkeypatch
):
    def fail(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(housekeeping, "maintain", maintenance.maintain)
        raise ZeroDivisionError

    monkeypatch.setattr(housekeeping, "maintain", fail)
    at_work(lambda _: until(lambda: day in rolled_up(other)))
    [line] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert line.exc_info and line.exc_info[0] is ZeroDivisionError


# The end


def seconds(keeping: Housekeeping) -> Any:
    """How long it takes to close it."""

    async def measured() -> float:
        begun = time.monotonic()
        await keeping.close()
        return time.monotonic() - begun

    return measured()


def test_it_ends_at_once_while_a_long_statement_is_under_way_which_is_cancelled_and_done_by_the_next(
    day, other, caplog
):
    async def scenario(keeping: Housekeeping) -> None:
        with held_up(other):
            await until(lambda: waiting(other))
            assert await seconds(keeping) < AT_ONCE
            assert waiting(other) == []

    at_work(scenario)
    assert told(caplog) == [] and rolled_up(other) == set()
    at_work(lambda _: until(lambda: day in rolled_up(other)))


def test_it_ends_at_once_when_the_long_statement_begins_only_just_then(caplog, monkeypatch):
    """Between two statements there is nothing to cancel, and then there is."""
    begun, closing = threading.Event(), threading.Event()

    def long_work(*_: Any, **__: Any) -> Iterator[str]:
        begun.set()
        closing.wait(WAIT_SECONDS)
        time.sleep(0.1)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")
        yield "Slept."

    async def scenario(keeping: Housekeeping) -> None:
        await until(begun.is_set)
        closing.set()
        assert await seconds(keeping) < AT_ONCE

    monkeypatch.setattr(housekeeping, "maintain", long_work)
    at_work(scenario)
    assert told(caplog) == []


def test_it_ends_at_once_when_nothing_is_under_way(day, other, monkeypatch):
    async def scenario(keeping: Housekeeping) -> None:
        monkeypatch.setattr(housekeeping, "EVERY_SECONDS", 60)
        await until(lambda: day in rolled_up(other))
        await asyncio.sleep(0.2)
        assert await seconds(keeping) < AT_ONCE

    at_work(scenario)


def test_it_can_end_before_it_has_begun():
    async def scenario(keeping: Housekeeping) -> None:
        assert await seconds(keeping) < AT_ONCE

    at_work(scenario)
    asyncio.run(Housekeeping().close())


def test_its_end_cuts_a_verification_of_the_books_short(day, other, caplog):
    async def scenario(keeping: Housekeeping) -> None:
        await until(lambda: day in rolled_up(other))
        await until(lambda: other.execute("DELETE FROM counters_verification RETURNING at").fetchall())
        with other.transaction():
            other.execute("LOCK TABLE counters_counter IN ACCESS EXCLUSIVE MODE")
            await until(lambda: waiting(other))
            assert await seconds(keeping) < AT_ONCE

    at_work(scenario)
    assert told(caplog) == []
    assert other.execute("SELECT FROM counters_verification").fetchall() == []
