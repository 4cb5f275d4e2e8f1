"""counters/maintenance.py: what is due is done once, whatever comes between; no hit is lost or counted twice."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import DataError, connection

from counters import books, days, maintenance, stats
from counters.dimensions import PLAIN, Dimensions, Origin
from counters.hits import counter_id, now
from counters.ingest.writer import PostgresWriter
from counters.models import (
    BatchLedger,
    Counter,
    DailyHits,
    DimensionSet,
    Hit,
    HourlyHits,
    LateDay,
    Retention,
    RolledDay,
    Verification,
    VisitorSalt,
)
from counters.periods import Period
from counters.questions import ALWAYS, Question
from hitcounter.asgi import conninfo
from tests.oracle import DAY, Made, contents, through_the_orm, through_the_writer

pytestmark = pytest.mark.usefixtures("afresh")

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
SECOND, THIRD, FOURTH = FIRST + DAY, FIRST + 2 * DAY, FIRST + 3 * DAY
PERSON = Origin(Dimensions("GET", 200, country="DE"), b"ann")
PROGRAM = Origin(Dimensions("GET", 404, browser="curl", bot=True), b"bob")
ONE_HOUR = timedelta(hours=1)
LATER = FOURTH + ONE_HOUR


def maintain(at: datetime, keep_hits_days: int = 30, keep_hours_days: int = 400) -> list[str]:
    return list(maintenance.maintain(at, keep_hits_days=keep_hits_days, keep_hours_days=keep_hours_days))


def three_days() -> None:
    """Some hits on each of three days, with visitors that are the same each time."""
    VisitorSalt.objects.bulk_create(VisitorSalt(day=(FIRST + n * DAY).date(), salt=bytes([n]) * 32) for n in range(5))
    through_the_writer(
        [
            Made(FIRST + ONE_HOUR, "/a", PERSON, 2),
            Made(FIRST + 2 * ONE_HOUR, "/a", PERSON),
            Made(FIRST + 2 * ONE_HOUR, "/b", PROGRAM),
            Made(SECOND + ONE_HOUR, "/a", PROGRAM, 3),
            Made(SECOND + 5 * ONE_HOUR, "/c", PLAIN),
            Made(THIRD + ONE_HOUR, "/b", PERSON),
        ]
    )
    BatchLedger.objects.all().delete()


def of(start: datetime, end: datetime | None = None, **more: Any) -> Question:
    """What is asked of one day, or more."""
    return Question(Period(start, end or start + DAY, ALWAYS.tz), **more)


@contextmanager
def before(statement: str, work: Callable[[], Any]) -> Iterator[None]:
    """Do something once, before the first statement that has this in it is executed."""
    due = [work]

    def wrapper(execute: Any, asked: Any, *more: Any) -> Any:
        if due and statement in str(asked):
            due.pop()()
        return execute(asked, *more)

    with connection.execute_wrapper(wrapper):
        yield
    assert not due, f"no statement had {statement!r} in it"


class Killed(Exception):
    """Stands for the end of the process."""


@contextmanager
def killed_at(number: int) -> Iterator[list[str]]:
    """Let only so many statements through, and give those."""
    executed: list[str] = []

    def wrapper(execute: Any, asked: Any, *more: Any) -> Any:
        executed.append(str(asked))
        if len(executed) == number:
            raise Killed
        return execute(asked, *more)

    with connection.execute_wrapper(wrapper):
        yield executed
    with connection.cursor() as cursor:  # as when the session ends
        cursor.execute("SELECT pg_advisory_unlock_all()")


# What is due


def test_the_days_ahead_have_partitions():
    maintain(FIRST + ONE_HOUR)
    assert set(maintenance.partitions()) == {FIRST.date(), SECOND.date()}


@pytest.mark.parametrize(("minutes", "seconds", "rolled"), [(0, 0, False), (4, 59, False), (5, 0, True)])
def test_a_day_is_closed_five_minutes_after_its_end(minutes, seconds, rolled):
    three_days()
    said = maintain(SECOND + timedelta(minutes=minutes, seconds=seconds))
    assert ("Rolled up 2026-03-01." in said) == rolled
    assert RolledDay.objects.filter(day=FIRST.date()).exists() == rolled
    assert maintenance.partitions()[FIRST.date()] == rolled


def test_days_that_are_over_are_rolled_up_and_others_not():
    three_days()
    assert maintain(THIRD + ONE_HOUR) == [
        "Rolled up 2026-03-01.",
        "Rolled up 2026-03-02.",
        "Counted the paths of 2026-03-01.",
        "Counted the paths of 2026-03-02.",
    ]
    assert not DailyHits.objects.filter(day=THIRD.date()).exists()


def all_of_it() -> list[Any]:
    """What must never change by maintenance."""
    return [stats.total(Question()), list(stats.ranking(Question())), list(Counter.objects.order_by("id").values())]


def test_what_need_not_be_kept_is_dropped_and_totals_stay():
    three_days()
    everything = all_of_it()
    by_day = [stats.total(of(day)) for day in (FIRST, SECOND, THIRD)]
    said = maintain(LATER, keep_hits_days=1, keep_hours_days=2)
    assert said[-3:] == [
        "Dropped the hit rows of 2026-03-01.",
        "Dropped the hit rows of 2026-03-02.",
        "Dropped the hourly figures of 2026-03-01.",
    ]
    assert not Hit.objects.filter(at__lt=THIRD).exists() and Hit.objects.filter(at__gte=THIRD).exists()
    assert {hour.date() for hour in HourlyHits.objects.values_list("hour", flat=True)} == {SECOND.date(), THIRD.date()}
    assert dict(Retention.objects.values_list("what", "since")) == {"hits": THIRD.date(), "hours": SECOND.date()}
    assert all_of_it() == everything
    assert by_day == [stats.total(of(day)) for day in (FIRST, SECOND, THIRD)]
    with pytest.raises(stats.NotKept):
        stats.total(of(FIRST, FIRST + ONE_HOUR))
    assert stats.total(of(SECOND, SECOND + 2 * ONE_HOUR)) == (3, 1, 1)


def test_what_nobody_asks_about_is_pruned():
    three_days()
    at = LATER
    BatchLedger.objects.create(writer=uuid4(), batch=1, at=at - timedelta(days=8), totals="1")
    BatchLedger.objects.create(writer=uuid4(), batch=2, at=at - timedelta(days=6), totals="1")
    maintain(at, keep_hits_days=1)
    assert sorted(VisitorSalt.objects.values_list("day", flat=True)) == [FOURTH.date(), FOURTH.date() + DAY]
    assert set(DimensionSet.objects.values_list("id", flat=True)) == {PERSON.id}
    assert list(BatchLedger.objects.values_list("batch", flat=True)) == [2]


def test_combinations_older_than_the_oldest_day_are_pruned_before_any_day_is_dropped():
    three_days()
    known = set(DimensionSet.objects.values_list("id", flat=True))
    DimensionSet.objects.create(id=1, seen=FIRST.date() - DAY, **PERSON.dimensions._asdict())
    maintain(LATER)
    assert not Retention.objects.exists()
    assert set(DimensionSet.objects.values_list("id", flat=True)) == known


def test_a_salt_is_not_pruned_while_its_day_is_not_closed():
    three_days()
    maintain(SECOND + timedelta(minutes=4))
    assert FIRST.date() in VisitorSalt.objects.values_list("day", flat=True)


# Twice, or not to the end


def test_a_second_run_changes_nothing():
    three_days()
    maintain(LATER, keep_hits_days=1, keep_hours_days=2)
    before_it = contents()
    assert maintain(LATER, keep_hits_days=1, keep_hours_days=2) == []
    assert contents() == before_it


def killed_anywhere(prepare: Callable[[], None], afresh: Callable[[], None], **keep: int) -> None:
    """Kill maintenance at each of its statements, run it again, and compare with a run that was not disturbed."""
    afresh()
    prepare()
    with killed_at(0) as executed:
        maintain(LATER, **keep)
    undisturbed = contents()
    for number in range(1, len(executed) + 1):
        if executed[number - 1].startswith(("SELECT", "SAVEPOINT", "RELEASE", "SET")):
            continue  # a kill at the next statement leaves the same
        afresh()
        prepare()
        with pytest.raises(Killed), killed_at(number):
            maintain(LATER, **keep)
        maintain(LATER, **keep)
        assert contents() == undisturbed, f"killed at {number}: {executed[number - 1]}"


def test_whatever_it_is_killed_at_the_next_run_leaves_the_same(afresh):
    killed_anywhere(three_days, afresh, keep_hits_days=1, keep_hours_days=2)


def late_hits_for_dropped_days() -> None:
    three_days()
    maintain(LATER, keep_hits_days=2, keep_hours_days=3)
    VisitorSalt.objects.create(day=FIRST.date(), salt=bytes(32))
    through_the_writer([Made(FIRST + 3 * ONE_HOUR, "/a", PERSON, 5), Made(FIRST + 4 * ONE_HOUR, "/d", PROGRAM)])
    BatchLedger.objects.all().delete()


def test_late_hits_are_added_once_whatever_it_is_killed_at(afresh):
    killed_anywhere(late_hits_for_dropped_days, afresh, keep_hits_days=2, keep_hours_days=3)
    assert stats.total(of(FIRST)) == (10, 4, 3)


# Others at the same time


def test_one_runs_at_a_time():
    three_days()
    with psycopg.connect(conninfo()) as other:
        other.execute(maintenance._LOCK)
        with pytest.raises(maintenance.MaintenanceBusy):
            maintain(LATER)
        other.execute(maintenance._UNLOCK)  # a server's process may be there for a moment after its client has left
    assert not RolledDay.objects.exists()
    assert "Rolled up 2026-03-01." in maintain(LATER)


def test_the_lock_is_given_back_when_a_run_is_cut_short():
    three_days()
    run = maintenance.maintain(LATER, keep_hits_days=30, keep_hours_days=400)
    next(run)
    run.close()
    with psycopg.connect(conninfo()) as other:
        assert other.execute(maintenance._LOCK).fetchone() == (True,)


def test_a_batch_that_comes_late_for_a_closed_day_is_told_at_once_and_rolled_up_next_time():
    three_days()
    maintain(LATER)
    assert stats.total(of(FIRST)) == (4, 2, 2)
    through_the_writer([Made(FIRST + 23 * ONE_HOUR, "/late", PROGRAM, 2)])
    assert stats.total(of(FIRST)) == (6, 3, 3)
    assert stats.version(of(FIRST)) is None
    assert [f"{day}" for day in LateDay.objects.values_list("day", flat=True)] == ["2026-03-01"]
    assert maintain(LATER) == [
        "Rolled up 2026-03-01.",
        "Counted the paths of 2026-03-01.",
        "Counted the paths of 2026-03-02.",
        "Counted the paths of 2026-03-03.",
    ]
    assert not LateDay.objects.exists()
    assert stats.total(of(FIRST)) == (6, 3, 3)
    assert stats.version(of(FIRST)) is not None


def test_a_late_hit_that_is_undone_leaves_no_note():
    three_days()
    maintain(LATER)
    with psycopg.connect(conninfo()) as other:
        other.execute(*late_row(FIRST))
        other.rollback()
    assert not LateDay.objects.exists()


def late_row(at: datetime) -> tuple[Any, list[Any]]:
    """The statement that adds a hit of /a at a time, as a batch does."""
    statement = "INSERT INTO counters_hit (at, counter_id, hits, dimensions_id) VALUES (%s, %s, 1, %s)"
    return statement, [at, counter_id("/a"), PERSON.id]


def insert(at: datetime) -> None:
    """Add a hit row over another session, and commit it."""
    with psycopg.connect(conninfo()) as other:
        other.execute(*late_row(at))


@pytest.mark.parametrize(
    "statement", ["counters_lateday", "INSERT INTO counters_rollup", "INSERT INTO counters_dailyhits", "VACUUM"]
)
def test_a_hit_that_comes_while_its_day_is_rolled_up_is_not_lost(statement):
    three_days()
    maintain(LATER)
    insert(FIRST)
    with before(statement, lambda: insert(FIRST)):
        maintain(LATER)
    assert stats.total(of(FIRST)).hits == 6
    maintain(LATER)
    assert stats.total(of(FIRST)).hits == 6
    assert not LateDay.objects.exists()


def test_a_late_hit_that_is_committed_when_its_day_has_been_rolled_up_again_is_not_lost():
    three_days()
    maintain(LATER)
    insert(FIRST)  # leaves a note that the next one finds
    with psycopg.connect(conninfo()) as other:
        other.execute(*late_row(FIRST))
        maintain(LATER)
        other.commit()
    assert stats.total(of(FIRST)).hits == 6
    maintain(LATER)
    assert stats.total(of(FIRST)).hits == 6


def test_a_day_for_which_a_hit_comes_just_before_it_is_dropped_is_rolled_up_first():
    three_days()
    maintain(LATER)
    with before("ACCESS EXCLUSIVE", lambda: insert(FIRST)):
        said = maintain(LATER, keep_hits_days=1)
    assert [one for one in said if "Dropped" in one] == []
    assert stats.total(of(FIRST)).hits == 5
    maintain(LATER, keep_hits_days=1)
    assert stats.total(of(FIRST)).hits == 5
    assert [day for day in maintenance.partitions() if day < THIRD.date()] == []


def test_a_drop_gives_way_to_a_reader_and_is_done_the_next_time():
    three_days()
    with psycopg.connect(conninfo()) as reader:
        reader.execute("SELECT count(*) FROM counters_hit")
        began = now()
        said = maintain(LATER, keep_hits_days=1)
        assert now() - began < timedelta(seconds=10)
    assert not [one for one in said if "Dropped" in one]
    assert maintenance.kept_since(Retention.What.HITS) == date.min
    assert stats.total(of(FIRST)) == (4, 2, 2)
    assert maintain(LATER, keep_hits_days=1) == [
        "Dropped the hit rows of 2026-03-01.",
        "Dropped the hit rows of 2026-03-02.",
    ]


def test_a_day_is_closed_when_those_who_write_to_it_are_done():
    three_days()
    with psycopg.connect(conninfo()) as writing:
        writing.execute(*late_row(FIRST))
        [said] = maintain(SECOND + ONE_HOUR)
        assert isinstance(said, maintenance.PutOff) and said.startswith("2026-03-01 is left to the next maintenance")
        writing.commit()
    assert maintain(SECOND + ONE_HOUR)[0] == "Rolled up 2026-03-01."
    assert stats.total(of(FIRST)).hits == 5


def test_late_hits_that_cannot_be_added_yet_are_added_the_next_time():
    three_days()
    maintain(LATER, keep_hits_days=1)
    through_the_writer([Made(FIRST + ONE_HOUR, "/a", Origin(Dimensions("GET", country="FR")), 7)])
    with psycopg.connect(conninfo()) as writing:
        writing.execute("LOCK TABLE counters_hit_20260301 IN ROW EXCLUSIVE MODE")
        assert {type(said) for said in maintain(LATER, keep_hits_days=1)} == {maintenance.PutOff}
    assert stats.total(of(FIRST)).hits == 11
    assert "Added late hits of 2026-03-01." in maintain(LATER, keep_hits_days=1)
    assert stats.total(of(FIRST)).hits == 11
    assert {share.value: share.hits for share in stats.by(of(FIRST), "country")} == {"FR": 7, "DE": 3, "": 1}


def test_late_hits_of_a_program_are_added_when_it_has_committed():
    three_days()
    maintain(LATER, keep_hits_days=1, keep_hours_days=1)
    through_the_orm([Made(FIRST + ONE_HOUR, "/a", PERSON, 7)])
    assert stats.total(of(FIRST)) == (11, 3, 2)
    assert maintain(LATER, keep_hits_days=1, keep_hours_days=1)[0] == "Added late hits of 2026-03-01."
    assert stats.total(of(FIRST)) == (11, 3, 2)
    assert not HourlyHits.objects.filter(hour__lt=SECOND).exists()
    assert FIRST.date() not in maintenance.partitions()


def test_no_hit_is_refused_while_maintenance_runs():
    three_days()
    done, written, refused = threading.Event(), [0], []

    async def write() -> None:
        clocks = [FIRST, SECOND, THIRD, FOURTH]
        writers = [PostgresWriter(conninfo(), clock=lambda at=at: at + ONE_HOUR) for at in clocks]
        for writer in writers:
            await writer.connect()
        while not done.is_set():
            for number, writer in enumerate(writers):
                try:
                    await writer.write(written[0], {"/busy": [PERSON, PROGRAM]})
                    written[0] += 1
                except Exception as error:
                    refused.append((number, error))
                    await writer.connect()
        for writer in writers:
            await writer.close()

    thread = threading.Thread(target=lambda: asyncio.run(write()))
    thread.start()
    try:
        for hours in range(6):
            maintain(FOURTH + hours * ONE_HOUR, keep_hits_days=30 if hours < 3 else 1)
    finally:
        done.set()
        thread.join()
    # A day that is dropped takes its partition from under a writer, which the recorder has write again.
    assert {type(error).__name__ for _, error in refused} <= {"ConnectionLost"}
    assert not [number for number, _ in refused if number > 1], refused
    assert Counter.objects.get(path="/busy").hits == 2 * written[0]
    maintain(FOURTH + 7 * ONE_HOUR, keep_hits_days=1)
    assert stats.total(Question(Period(FIRST, FOURTH + DAY, ALWAYS.tz), path="/busy")).hits == 2 * written[0]
    assert days.due(FOURTH.date())[0] in maintenance.partitions()


def test_a_day_that_cannot_be_rolled_up_holds_up_neither_the_other_days_nor_the_end_of_salts(
    tables: Callable[[], None], monkeypatch: pytest.MonkeyPatch
):
    for at in (FIRST, SECOND):
        Counter.objects.increment("/a", at=at, origin=Origin(Dimensions(), b"somebody"))
    roll = maintenance._roll

    def fail_on_the_first(day: date) -> None:
        if day == FIRST.date():
            raise DataError("a value is too large")
        roll(day)

    monkeypatch.setattr(maintenance, "_roll", fail_on_the_first)
    later = FIRST + 60 * DAY + timedelta(hours=1)
    said = list(maintenance.maintain(later, keep_hits_days=30, keep_hours_days=400))
    assert [one for one in said if isinstance(one, maintenance.Failed)] == [f"{FIRST.date()}: a value is too large"]
    assert list(RolledDay.objects.filter(day__lte=SECOND.date()).values_list("day", flat=True)) == [SECOND.date()]
    assert not VisitorSalt.objects.filter(day__lt=later.date()).exists()
    assert Hit.objects.count() == 2, "nothing is dropped before it is rolled up, nor what came after it"


def test_the_salts_of_today_and_tomorrow_are_made_ahead(tables: Callable[[], None]):
    list(maintenance.maintain(FIRST, keep_hits_days=30, keep_hours_days=400))
    assert set(VisitorSalt.objects.values_list("day", flat=True)) == {FIRST.date(), SECOND.date()}


def test_what_is_not_kept_of_days_before_a_paths_first_hit_takes_no_question_from_it():
    """As those of an old log of another site; nor does the path's series begin there."""
    Counter.objects.increment("/old", at=FIRST - 4000 * DAY)
    maintain(LATER)
    Counter.objects.increment("/shop/a", at=THIRD, origin=PERSON)
    german = {"country": "DE", "status": "200"}
    with pytest.raises(stats.NotKept):
        stats.total(Question(filters=german))
    for question in (Question(prefix="/shop/", filters=german), Question(path="/shop/a", filters=german)):
        assert stats.total(question).hits == 1
        series = stats.series(question, "day")
        assert (series[0].at, series[0].hits) == (THIRD, 1)
    assert stats.path_report(Question(path="/shop/a"), "day").series[0].at == THIRD


# The books


def verified() -> list[datetime]:
    return list(Verification.objects.order_by("at").values_list("at", flat=True))


def test_the_books_are_verified_once_a_day_when_the_day_before_has_been_rolled_up():
    three_days()
    for minutes in (-600, 0, 4, 5, 6, 600):
        maintain(FOURTH + timedelta(minutes=minutes))
    assert verified() == [FOURTH - timedelta(minutes=600), FOURTH + timedelta(minutes=5)]
    assert RolledDay.objects.filter(day=THIRD.date()).exists()
    kept = Verification.objects.latest("at")
    assert (kept.checked, kept.differing, kept.rollups_differing) == (3, 0, 0)


def test_what_differs_is_a_warning_and_holds_up_nothing(caplog):
    three_days()
    Counter.objects.filter(path="/a").update(hits=99)
    assert "Rolled up 2026-03-01." in maintain(LATER)
    assert Verification.objects.get().differing == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "1 of 3 paths differ, and 0 of the figures" in caplog.text


def test_large_books_are_not_verified_by_the_way(monkeypatch):
    three_days()
    monkeypatch.setattr(maintenance, "MOST_BYTES_VERIFIED", books.size() - 1)
    maintain(SECOND)
    assert verified() == []
    monkeypatch.setattr(maintenance, "MOST_BYTES_VERIFIED", books.size() + 2**20)
    maintain(SECOND)
    assert verified() == [SECOND]


def test_books_grow_with_every_table_that_is_read():
    sizes = [books.size()]
    three_days()
    sizes.append(books.size())
    maintain(LATER)
    sizes.append(books.size())
    assert sizes[0] < sizes[1] < sizes[2]
