"""counters/bulk.py: many hits in one transaction, all or none. That the rows are right is shown in test_parity.py."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest
from django.db import DataError, OperationalError, connection, transaction

from counters import bulk, days, maintenance
from counters.books import verify
from counters.bulk import Load, kept_salt_of, record, salt_of
from counters.dimensions import PLAIN, Dimensions, Origin
from counters.hits import MOST_HITS_AT_ONCE, counter_id, now
from counters.models import Counter, DimensionSet, Hit, LateDay, Retention, VisitorSalt
from hitcounter.asgi import conninfo
from tests.oracle import DAY

FIRST = datetime(2026, 3, 1, 8, tzinfo=UTC)
ANN, BEN = Origin(Dimensions("GET", 200), b"ann"), Origin(Dimensions("GET", 404), b"ben")
pytestmark = pytest.mark.usefixtures("afresh")


@pytest.fixture
def other() -> Iterator[psycopg.Connection]:
    """Another session."""
    with psycopg.connect(conninfo(), autocommit=True) as session:
        yield session


def load_of(*hits: tuple[datetime, str, Origin, int]) -> Load:
    load = Load(kept_salt_of)
    for hit in hits:
        load.count(*hit)
    return load


def nothing() -> None:
    """Nothing belongs to the hits."""


def counts() -> dict[str, int]:
    return dict(Counter.objects.values_list("path", "hits"))


def balance() -> bool:
    return verify(lambda difference: pytest.fail(str(difference)))[1:] == (0, 0)


def test_hits_of_many_days_are_counted_with_what_belongs_to_them_in_one_transaction():
    load = load_of((FIRST, "/a", ANN, 2), (FIRST + DAY, "/a", BEN, 1), (FIRST - 40 * DAY, "/b", ANN, MOST_HITS_AT_ONCE))
    assert (load.hits, len(load)) == (MOST_HITS_AT_ONCE + 3, 3)
    assert record(load, lambda: connection.in_atomic_block and "an answer") == "an answer"
    assert counts() == {"/a": 3, "/b": MOST_HITS_AT_ONCE}
    assert balance()


def test_an_empty_load_writes_what_belongs_to_it():
    record(load_of(), lambda: Counter.objects.increment("/noted"))
    assert counts() == {"/noted": 1}


def test_first_and_last_hit_widen_whatever_the_order():
    record(load_of((FIRST, "/a", ANN, 1)), nothing)
    record(load_of((FIRST + DAY, "/a", ANN, 1), (FIRST - DAY, "/a", ANN, 1)), nothing)
    counter = Counter.objects.get(path="/a")
    assert (counter.hits, counter.first_hit, counter.last_hit) == (3, FIRST - DAY, FIRST + DAY)


def test_when_what_belongs_to_the_hits_fails_nothing_is_counted():
    def refuse() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record(load_of((FIRST, "/a", ANN, 1)), refuse)
    assert counts() == {} and not Hit.objects.exists()


def test_when_a_hit_cannot_be_counted_none_is():
    record(load_of((FIRST, "/full", ANN, 1)), nothing)
    Counter.objects.filter(path="/full").update(hits=2**63 - 2)
    with pytest.raises(DataError):
        record(load_of((FIRST, "/a", ANN, 1), (FIRST, "/full", ANN, 2)), nothing)
    assert counts() == {"/full": 2**63 - 2}


def test_a_time_in_another_zone_is_that_of_utc():
    record(load_of((datetime.fromisoformat("2026-03-02T00:30:00+02:00"), "/a", ANN, 1)), nothing)
    assert Hit.objects.get().at == datetime(2026, 3, 1, 22, 30, tzinfo=UTC)


# Others in the way


def test_a_deadlock_is_tried_again(other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch):
    """Another session holds a combination of dimensions and then wants the counter: one of the two is undone."""
    record(load_of((FIRST, "/a", ANN, 1)), nothing)
    DimensionSet.objects.update(seen=date(2020, 1, 1))
    attempts = []
    with other.transaction():
        other.execute("SELECT FROM counters_dimensionset FOR UPDATE")
        other.execute("SET LOCAL deadlock_timeout = '1h'")  # so that the load is the one that is undone
        thread = threading.Thread(target=_in_a_thread, args=[lambda: attempts.append(1)])
        thread.start()
        _wait_for_a_lock()
        other.execute("UPDATE counters_counter SET hits = hits")
    thread.join()
    assert len(attempts) == 2 and counts() == {"/a": 2}
    assert balance()


def _in_a_thread(first: Callable[[], object]) -> None:
    try:
        record(load_of((FIRST, "/a", ANN, 1)), first)
    finally:
        connection.close()


def _wait_for_a_lock() -> None:
    with psycopg.connect(conninfo(), autocommit=True) as session:
        for _ in range(2000):
            [waiting] = session.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            ).fetchone()
            if waiting:
                return
            session.execute("SELECT pg_sleep(0.005)")
    raise AssertionError("nobody waits")


def test_a_day_whose_partition_was_dropped_meanwhile_gets_it_again(other: psycopg.Connection):
    """As maintenance does with an empty one of a day long past, between making it and writing to it."""
    dropped = []

    def drop() -> None:
        if not dropped:
            dropped.append(other.execute(f"DROP TABLE counters_hit_{FIRST:%Y%m%d}"))

    record(load_of((FIRST, "/a", ANN, 1)), drop)
    assert dropped and counts() == {"/a": 1}
    assert balance()


def test_what_fails_for_good_is_raised(monkeypatch: pytest.MonkeyPatch):
    def cancelled() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 1; SELECT pg_sleep(10)")

    with pytest.raises(OperationalError):
        record(load_of((FIRST, "/a", ANN, 1)), cancelled)


# Days that are over


def maintain(at: datetime, keep_hits_days: int = 100) -> list[str]:
    return list(maintenance.maintain(at, keep_hits_days=keep_hits_days, keep_hours_days=400))


def test_a_day_that_was_rolled_up_is_rolled_up_again():
    record(load_of((FIRST, "/a", ANN, 1)), nothing)
    maintain(FIRST + 2 * DAY)
    record(load_of((FIRST + timedelta(hours=1), "/a", BEN, 2)), nothing)
    assert LateDay.objects.filter(day=FIRST.date()).exists()
    assert "Rolled up 2026-03-01." in maintain(FIRST + 2 * DAY)
    assert balance()


def test_hits_of_a_day_whose_hit_rows_are_gone_are_added_once():
    record(load_of((FIRST, "/a", ANN, 1)), nothing)
    maintain(FIRST + 40 * DAY, keep_hits_days=30)
    assert Retention.objects.get().since == date(2026, 3, 2)
    record(load_of((FIRST, "/a", BEN, 2)), nothing)
    assert "Added late hits of 2026-03-01." in maintain(FIRST + 40 * DAY, keep_hits_days=30)
    assert counts() == {"/a": 3} and balance()


# Visitors


def test_the_salt_of_a_day_that_is_over_is_kept_for_a_week_so_that_the_rest_finds_the_same_visitors():
    today = now()
    yesterday = today.date() - DAY
    salt = salt_of(yesterday)
    maintain(today)
    assert salt_of(yesterday) == salt
    maintain(today + bulk.SALTS_KEPT)
    assert VisitorSalt.objects.filter(day=yesterday).exists()
    maintain(today + bulk.SALTS_KEPT + DAY)
    assert not VisitorSalt.objects.filter(day=yesterday).exists()


def test_the_salt_of_today_is_that_of_live_hits_and_is_kept_only_when_that_is_asked_for():
    today = now()
    salt = VisitorSalt.objects.salt(today.date())
    assert salt_of(today.date()) == salt
    maintain(today + DAY)
    assert not VisitorSalt.objects.filter(day=today.date()).exists()
    salt = VisitorSalt.objects.salt(today.date())
    assert kept_salt_of(today.date()) == salt
    maintain(today + DAY)
    assert kept_salt_of(today.date()) == salt


def test_like_visitors_of_two_loads_are_one():
    for _ in range(2):
        record(load_of((FIRST, "/a", ANN, 1)), nothing)
    assert len(set(Hit.objects.values_list("visitor", flat=True))) == 1
    record(load_of((FIRST, "/a", PLAIN, 1)), nothing)
    assert Hit.objects.filter(visitor=None).count() == 1


# Locks


def test_counters_are_locked_in_the_order_of_their_keys():
    """As in every batch; else two that share paths would deadlock."""
    paths = [f"/{n}" for n in range(50)]
    record(load_of(*[(FIRST, path, ANN, 1) for path in paths]), nothing)
    with transaction.atomic(), connection.cursor() as cursor:
        load_of(*[(FIRST, path, ANN, 1) for path in paths]).write()
        cursor.execute("SELECT id FROM counters_counter WHERE hits = 2 ORDER BY ctid")
        assert [row[0] for row in cursor.fetchall()] == sorted(map(counter_id, paths))


def test_partitions_are_made_only_for_days_that_have_none(django_assert_num_queries):
    wanted = [FIRST.date(), FIRST.date() + DAY]
    with django_assert_num_queries(3):
        Hit.objects.make_days(*wanted)
    with django_assert_num_queries(1):
        Hit.objects.make_days(*wanted)
    assert all(day in maintenance.partitions() for day in wanted)
    assert days.HIT_TABLE in connection.introspection.table_names()
