"""reset() and `manage.py resetcounts`: hits and history go in one transaction, while other hits keep arriving."""

import asyncio
import io
import logging
import threading
import time
from collections import Counter as Tally
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from counters import reset as resetting
from counters.books import verify
from counters.dimensions import PLAIN
from counters.hits import counter_id
from counters.ingest.recorder import BatchConflict
from counters.ingest.writer import PostgresWriter
from counters.models import Counter, Hit, HourlyHits, path_begins_with
from counters.reset import Gone, ResetBusy, reset, reset_all
from hitcounter.asgi import conninfo

NOON = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
EVENING = datetime(2026, 3, 2, 18, 5, tzinfo=UTC)
WAIT_SECONDS = 30

one_transaction = pytest.mark.django_db
real_transactions = pytest.mark.usefixtures("tables")


def count(*paths, at=NOON):
    for path in paths:
        Counter.objects.increment(path, at=at)


def ids_of(*paths):
    return [counter_id(path) for path in paths]


def hits_of_all():
    return dict(Counter.objects.values_list("path", "hits"))


def assert_books_balance():
    differences = []
    verify(differences.append)
    assert differences == []


def run(*arguments):
    """What the command prints."""
    out = io.StringIO()
    call_command("resetcounts", *arguments, stdout=out)
    return out.getvalue().strip()


def wait_until(condition):
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def waiting_for_a_lock(statement):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction, a second look would show the first
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE %s",
            [f"%{statement}%"],
        )
        return cursor.fetchone() is not None


class InThread(threading.Thread):
    """Runs `work` on a database connection of its own, which is closed at the end; `result` is what it returned."""

    def __init__(self, work):
        super().__init__()
        self.work = work
        self.result = self.error = None

    def run(self):
        try:
            self.result = self.work()
        except Exception as error:
            self.error = error
        finally:
            connection.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.join(WAIT_SECONDS)
        assert not self.is_alive()
        if self.error:
            raise self.error


@one_transaction
def test_hits_hours_and_hit_rows_go_and_the_counter_stays_without_any():
    count("/api/a/", "/api/a/", at=NOON)
    count("/api/a/", at=EVENING)
    assert reset(ids_of("/api/a/")) == [Gone(counter_id("/api/a/"), "/api/a/", 3)]
    counter = Counter.objects.get(path="/api/a/")
    assert (counter.hits, counter.magnitude, counter.first_hit, counter.last_hit) == (0, -1, None, None)
    assert not HourlyHits.objects.exists() and not Hit.objects.exists()


@one_transaction
def test_other_counters_keep_theirs():
    count("/api/a/", "/api/b/", "/api/b/")
    reset(ids_of("/api/a/"))
    assert hits_of_all() == {"/api/a/": 0, "/api/b/": 2}
    assert_books_balance()


@one_transaction
def test_hits_recorded_in_the_past_go_too():
    count("/api/a/", at=EVENING)
    count("/api/a/", at=NOON - timedelta(days=40))
    assert [gone.hits for gone in reset(ids_of("/api/a/"))] == [2]
    assert not Hit.objects.exists()


@one_transaction
def test_a_counter_that_was_reset_counts_again_from_one():
    count("/api/a/")
    reset(ids_of("/api/a/"))
    assert Counter.objects.increment("/api/a/", at=EVENING) == 1
    assert Counter.objects.get(path="/api/a/").first_hit == EVENING
    assert_books_balance()


@one_transaction
def test_it_can_be_done_twice_in_the_callers_transaction_and_takes_nothing_the_second_time():
    count("/api/a/", "/api/a/")
    assert [[gone.hits for gone in reset(ids_of("/api/a/"))] for _ in range(2)] == [[2], [0]]


@one_transaction
def test_ids_without_a_counter_are_passed_over():
    assert reset([uuid4()]) == [] == reset([])


@one_transaction
def test_it_takes_eight_statements_however_many_counters(django_assert_num_queries):
    count(*(f"/api/{n}/" for n in range(30)))
    ids = ids_of(*(f"/api/{n}/" for n in range(30)))
    with django_assert_num_queries(8 + 2):  # and a savepoint
        reset(ids)


@one_transaction
def test_days_before_the_first_hit_and_after_the_last_are_not_read():
    count("/api/old/", at=NOON - timedelta(days=9))
    count("/api/a/", at=NOON)
    count("/api/new/", at=EVENING)
    with connection.cursor() as cursor:
        cursor.execute(resetting._TABLES)
        cursor.execute("EXPLAIN (ANALYZE, COSTS OFF) " + resetting._SEE, {"ids": ids_of("/api/a/")})
        plan = [line for (line,) in cursor.fetchall()]
    read = [line for line in plan if "Scan on counters_hit_" in line and "never executed" not in line]
    assert len(read) == 1 and "counters_hit_20260301" in read[0]


@one_transaction
def test_a_large_selection_is_reset_in_parts(monkeypatch):
    monkeypatch.setattr(resetting, "COUNTERS_AT_ONCE", 2)
    count(*(f"/api/{n}/" for n in range(5)))
    assert [len(gone) for gone in reset_all(Counter.objects.all())] == [2, 2, 1]
    assert set(hits_of_all().values()) == {0}


@one_transaction
def test_a_prefix_is_a_range_of_the_index_on_the_path():
    count("/api/a", "/api/a/", "/api/a~", "/api/b/", "/api/A/")
    assert set(Counter.objects.filter(path_begins_with("/api/a")).values_list("path", flat=True)) == {
        "/api/a",
        "/api/a/",
        "/api/a~",
    }
    # Among so many, to walk along another index is no choice, whatever is known of the table.
    count(*(f"/api/{n}/" for n in range(500)))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE counters_counter")
    assert "counter_path" in Counter.objects.filter(path_begins_with("/api/a")).explain()


@real_transactions
def test_hits_that_are_committed_after_the_snapshot_stay_and_are_found_by_the_next_reset():
    count("/api/a/", "/api/a/", at=NOON)
    with transaction.atomic():
        late = NOON + timedelta(minutes=10)
        count("/api/a/", at=late)  # not committed yet: the reset does not see it, and waits for the counter
        thread = InThread(lambda: reset(ids_of("/api/a/")))
        thread.start()
        wait_until(lambda: waiting_for_a_lock("FOR UPDATE OF c"))
    thread.__exit__()
    assert [gone.hits for gone in thread.result] == [2]
    counter = Counter.objects.get(path="/api/a/")
    assert (counter.hits, counter.last_hit) == (1, late)
    # No later than what stayed, or the next reset would not find it; no earlier than its hour.
    assert counter.first_hit == NOON
    assert_books_balance()
    assert [gone.hits for gone in reset(ids_of("/api/a/"))] == [1]
    assert_books_balance()


@real_transactions
def test_a_bucket_that_was_made_after_the_snapshot_stays():
    count("/api/a/", at=NOON)
    with transaction.atomic():
        count("/api/a/", at=EVENING)
        thread = InThread(lambda: reset(ids_of("/api/a/")))
        thread.start()
        wait_until(lambda: waiting_for_a_lock("FOR UPDATE OF c"))
    thread.__exit__()
    assert list(HourlyHits.objects.values_list("hour", "hits")) == [(EVENING.replace(minute=0), 1)]
    assert Counter.objects.get(path="/api/a/").first_hit == EVENING.replace(minute=0)
    assert_books_balance()


@real_transactions
def test_hits_are_counted_while_hit_rows_are_deleted():
    count("/api/a/", "/api/a/")
    with transaction.atomic():
        list(Hit.objects.select_for_update().values_list("at"))  # holds up the deletion
        thread = InThread(lambda: reset(ids_of("/api/a/")))
        thread.start()
        wait_until(lambda: waiting_for_a_lock("DELETE FROM counters_hit"))
        with InThread(lambda: Counter.objects.increment("/api/a/", at=NOON)) as hit:
            hit.join(WAIT_SECONDS)
            assert hit.result == 3 and thread.is_alive()
    thread.__exit__()
    assert hits_of_all() == {"/api/a/": 1}
    assert_books_balance()


@real_transactions
def test_a_second_reset_is_refused_while_one_runs():
    count("/api/a/")
    with transaction.atomic():
        reset(ids_of("/api/a/"))
        with pytest.raises(ResetBusy, match="Another reset"), InThread(lambda: reset(ids_of("/api/a/"))):
            pass


@real_transactions
def test_what_was_undone_is_not_logged(caplog):
    caplog.set_level(logging.INFO, "counters.reset")
    count("/api/a/")
    with transaction.atomic():
        reset(ids_of("/api/a/"))
        transaction.set_rollback(True)
    assert not caplog.records and hits_of_all() == {"/api/a/": 1}


@real_transactions
@pytest.mark.parametrize(
    ("logged_one_by_one", "lines"),
    [
        (2, {"Reset /api/a/: 1 hits were removed.", "Reset /api/b/: 2 hits were removed."}),
        (1, {"Reset 2 counters: 3 hits were removed."}),
    ],
)
def test_old_figures_are_logged_one_by_one_or_in_total(caplog, monkeypatch, logged_one_by_one, lines):
    monkeypatch.setattr(resetting, "LOGGED_ONE_BY_ONE", logged_one_by_one)
    caplog.set_level(logging.INFO, "counters.reset")
    count("/api/a/", "/api/b/", "/api/b/")
    reset(ids_of("/api/a/", "/api/b/"))
    assert {record.getMessage() for record in caplog.records} == lines


PATHS = [f"/api/{n}/" for n in range(40)]


async def _send(batches, sent, conflicts):
    """Write batches of overlapping paths as a service's worker does; `sent` is what was acknowledged."""
    writer = PostgresWriter(conninfo())
    await writer.connect()
    try:
        for number in range(1, batches + 1):
            hits = [(path, 1 + number % 3) for path in PATHS[number % 5 :]]
            try:
                await writer.write(number, {path: [PLAIN] * n for path, n in hits})
            except BatchConflict as error:
                conflicts.append(str(error))
            else:
                sent.update(dict(hits))
    finally:
        await writer.close()


def _deadlocks():
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]


@real_transactions
def test_under_load_nothing_is_lost_nothing_deadlocks_and_the_books_balance():
    sent, conflicts, removed, resets = Tally(), [], Tally(), 0
    before = _deadlocks()
    tallies = [Tally() for _ in range(3)]
    writers = [InThread(lambda tally=tally: asyncio.run(_send(150, tally, conflicts))) for tally in tallies]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        chosen = PATHS if resets % 2 else PATHS[:: 1 + resets % 7]
        for gone in reset(ids_of(*reversed(chosen))):
            removed[gone.path] += gone.hits
        assert_books_balance()
        resets += 1
    for writer in writers:
        writer.__exit__()
    for tally in tallies:
        sent.update(tally)
    assert resets > 3 and removed.total() > 0
    assert {path: removed[path] + hits for path, hits in hits_of_all().items()} == dict(sent)
    assert_books_balance()
    assert conflicts == [] and _deadlocks() == before


# The command


@one_transaction
def test_path_resets_that_path_alone():
    count("/api/a/", "/api/a/", "/api/a")
    assert run("--path", "/api/a/") == "Reset 1 counter with 2 hits."
    assert hits_of_all() == {"/api/a/": 0, "/api/a": 1}


@one_transaction
def test_prefix_resets_all_below_it():
    count("/api/shop/a", "/api/shop/b", "/api/shopping")
    assert run("--prefix", "/api/shop/", "--yes") == "Reset 2 counters with 2 hits."
    assert hits_of_all() == {"/api/shop/a": 0, "/api/shop/b": 0, "/api/shopping": 1}


@one_transaction
@pytest.mark.parametrize("which", [["--all"], ["--prefix", "/api/"]])
def test_what_resets_several_asks_and_says_what_goes(monkeypatch, which):
    count("/api/a/", "/api/b/", "/api/b/")
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "yes")
    assert run(*which) == "Reset 2 counters with 3 hits."
    assert asked == ["2 counters with 3 hits are to be removed for good. Type yes to go on: "]


def _end_of_input(question):
    raise EOFError


@one_transaction
@pytest.mark.parametrize("which", [["--all"], ["--prefix", "/api/"]])
@pytest.mark.parametrize("answer", [lambda _: "", lambda _: "y", _end_of_input])
def test_nothing_of_several_is_reset_without_a_yes(monkeypatch, answer, which):
    count("/api/a/")
    monkeypatch.setattr("builtins.input", answer)
    with pytest.raises(CommandError, match="Nothing was reset"):
        run(*which)
    assert hits_of_all() == {"/api/a/": 1}


@one_transaction
@pytest.mark.parametrize("counted", [0, 2])
def test_yes_asks_nothing(monkeypatch, counted):
    monkeypatch.setattr("builtins.input", _end_of_input)
    count(*(f"/api/{n}/" for n in range(counted)))
    assert run("--all", "--yes") == f"Reset {counted} counters with {counted} hits."


@one_transaction
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--path", "/api/none/"], "There is no counter of /api/none/"),
        (["--prefix", "/api/none/", "--yes"], "There is no counter whose path begins with /api/none/"),
        (["--prefix", "/api/none/"], "There is no counter whose path begins with /api/none/"),
        (["--path", "api/"], "--path 'api/' is no counted path: A path starts with a slash"),
        (["--path", ""], "--path '' is no counted path"),
        (["--prefix", "/api/é"], "--prefix '/api/é' is no counted path"),
        (["--path", "/" + "x" * 2048], "longer than 2,048 bytes"),
        ([], "one of the arguments --path --prefix --all is required"),
        (["--path", "/api/a/", "--all"], "not allowed with argument"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments, reason):
    count("/api/a/")
    with pytest.raises(CommandError, match=reason):
        run(*arguments)
    assert hits_of_all() == {"/api/a/": 1}


@real_transactions
def test_while_another_reset_runs_the_command_says_so():
    count("/api/a/")
    with transaction.atomic():
        reset([])
        with pytest.raises(CommandError, match="Another reset is running"), InThread(lambda: run("--all", "--yes")):
            pass
