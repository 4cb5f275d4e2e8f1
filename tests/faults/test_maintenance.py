"""Housekeeping, imports, forgetting and backups are killed under load and repeated: the books balance afterwards."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import psycopg
import pytest

from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.faults.takings import Takings, done, holder, is_amid, kill_amid, of, queries, started, times_amid
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.processes import kill, wait_until, workers
from tests.service import Service, put_database

pytestmark = pytest.mark.long

DAYS = 8
KEPT = {"HITCOUNTER_KEEP_HITS_DAYS": "3", "HITCOUNTER_KEEP_HOURS_DAYS": "5"}
DAY = timedelta(days=1)
ANOTHER = "globex"


@pytest.fixture
def session(database: PrivatePostgres) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.url, autocommit=True) as connected:
        yield connected


class PastLoad(KeyedLoad):
    """Hits of the last days, which arrive late, some of consumers; `days` are the hits sent of each, by path."""

    def __init__(self, service: Service, prefix: str, trial: Trial) -> None:
        super().__init__(service, prefix, trial.seed, connections=4)
        self._today = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
        self.days: Counter[date] = Counter()
        self.consumers: Counter[str] = Counter()
        #: Whose hits some of them are; the rest are another's.
        self.consumer = "acme"

    def make(self) -> tuple[str, list[dict[str, Any]]]:
        key, hits = super().make()
        for hit in hits:
            at = self._today - self._draw.randint(1, DAYS) * DAY - timedelta(minutes=self._draw.randint(0, 600))
            hit |= {"at": at.isoformat(), "consumer": self._draw.choice([self.consumer, ANOTHER])}
            self.days[at.date()] += hit["n"]
            self.consumers[hit["consumer"]] += hit["n"]
        return key, hits

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Batches are sent meanwhile; each is answered in the end."""
        stop, failures = threading.Event(), []

        def send() -> None:
            try:
                self.keep_sending(stop.is_set)
            except AssertionError as failure:
                failures.append(failure)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert not failures, failures

    def wait_for(self, acknowledged: int) -> None:
        goal = self.acknowledged.total() + acknowledged
        wait_until(lambda: self.acknowledged.total() >= goal)


def rolled_up(session: psycopg.Connection[Any]) -> dict[date, int]:
    """The hits of each day, as they are rolled up of all paths."""
    statement = "SELECT day, sum(hits)::bigint FROM counters_dailyhits GROUP BY day"
    return dict(session.execute(statement).fetchall())


def assert_all_is_rolled_up_and_dropped_that_is_due(session: psycopg.Connection[Any], load: PastLoad) -> None:
    assert rolled_up(session) == load.days
    since = dict(session.execute("SELECT what, since FROM counters_retention").fetchall())
    today = datetime.now(UTC).date()
    assert set(since.values()) == {today - 3 * DAY, today - 5 * DAY}


def test_maintenance_that_is_killed_again_and_again_comes_to_the_same(
    tmp_path: Path, database: PrivatePostgres, session: psycopg.Connection[Any], trial: Trial
):
    times = trial.times(3, 20)

    def killed_amid() -> bool:
        load.wait_for(200)
        maintaining, pause = started(service, "maintain"), trial.draw.uniform(0, 0.2)
        return kill_amid(maintaining, lambda: is_amid(session, "maintenance"), pause, session)

    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1", **KEPT) as service:
        load = PastLoad(service, "/maintained/", trial)
        with load.under_way():
            tried = times_amid(times, killed_amid)
        done(service, "maintain")
        trial.settle("maintain killed", times, load, service, of(tried))
    assert_all_is_rolled_up_and_dropped_that_is_due(session, load)


def test_housekeeping_that_is_killed_with_its_worker_comes_to_the_same(
    tmp_path: Path, database: PrivatePostgres, session: psycopg.Connection[Any], trial: Trial
):
    times = trial.times(3, 20)

    def killed_amid() -> bool:
        load.wait_for(200)
        before = holder(session, "maintenance")
        kill(*workers(service))  # a new one begins with it
        wait_until(lambda: (now := holder(session, "maintenance")) and now != before)
        at_it = holder(session, "maintenance")
        time.sleep(trial.draw.uniform(0, 0.4))
        amid = bool(at_it) and holder(session, "maintenance") == at_it
        kill(*workers(service))
        return amid

    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1", **KEPT) as service:
        load = PastLoad(service, "/kept/", trial)
        with load.under_way():
            tried = times_amid(times, killed_amid)
        service.wait_until_ready()
        done(service, "maintain")
        trial.settle("worker killed amid housekeeping", times, load, service, of(tried))
    assert_all_is_rolled_up_and_dropped_that_is_due(session, load)


@pytest.mark.parametrize("what", ["path", "prefix", "consumer", "before"])
def test_forgetting_that_is_killed_and_repeated_leaves_exactly_the_rest(
    tmp_path: Path, database: PrivatePostgres, session: psycopg.Connection[Any], trial: Trial, what: str
):
    times, before = trial.times(1, 5), datetime.now(UTC).date() - 4 * DAY
    which = {"path": "/api/old/7", "prefix": "/api/old/1", "before": str(before)}

    def killed_amid() -> bool:
        load.wait_for(50)
        forgetting = started(service, "forget", f"--{what}", which.get(what, past.consumer), "--yes")
        amid = kill_amid(forgetting, lambda: is_amid(session, "maintenance"), trial.draw.uniform(0, 0.05), session)
        if what != "consumer":
            send_again(past)
        elif not amid:  # it may be forgotten, and then it has no name until the next day
            past.consumer = f"acme {len(past.consumers)}"
            send_again(past)
        return amid

    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1") as service:
        past = PastLoad(service, "/api/old/", trial)
        past.keep_sending(lambda: past.acknowledged.total() > 500)
        takings = Takings(session)
        with Load(service, "/api/old/1/", trial.seed) as load:
            tried = times_amid(times, killed_amid)
            load.wait_for(50)
        forgotten = set(past.consumers) - {ANOTHER}
        for name in forgotten if what == "consumer" else [which[what]]:
            forget_to_the_end(service, f"--{what}", name)
        taken = takings.hits()
        left = Counter(service.counts("/api/old/"))
        assert_nothing_is_left(session, what, before)
        load.resets = takings.times()
        trial.settle(f"forget --{what} killed", times, load, service, of(tried), taken_off=taken)
        assert {path: (left + taken)[path] for path in past.sent} == past.sent
        gone = {
            "consumer": sum(past.consumers[name] for name in forgotten),
            "before": sum(n for day, n in past.days.items() if day < before),
        }
        if what in gone:
            assert taken.total() == gone[what]
        elif what == "path":
            assert set(taken) == {"/api/old/7"}
        else:
            assert all(path.startswith("/api/old/1") for path in taken)


def send_again(past: PastLoad) -> None:
    """So that there is something to forget for the next."""
    goal = past.acknowledged.total() + 200
    past.keep_sending(lambda: past.acknowledged.total() >= goal)


def forget_to_the_end(service: Service, *which: str) -> None:
    """Once more; there is nothing to forget where one that was killed has come to its end in the database."""
    ran = service.manage("forget", *which, "--yes")
    assert ran.returncode == 0 or "There is no" in ran.stderr, ran.stderr


def assert_nothing_is_left(session: psycopg.Connection[Any], what: str, before: date) -> None:
    questions: dict[str, LiteralString] = {
        "path": "SELECT count(*) FROM counters_counter WHERE path = '/api/old/7'",
        "prefix": "SELECT count(*) FROM counters_counter WHERE path ~ '^/api/old/1'",
        "consumer": "SELECT count(*) FROM counters_dimensionset WHERE consumer LIKE 'acme%%'",
        "before": "SELECT count(*) FROM counters_hit WHERE at < %(before)s::date::timestamp AT TIME ZONE 'UTC'",
    }
    assert session.execute(questions[what], {"before": before}).fetchone() == (0,)


def test_a_backup_that_is_killed_leaves_no_part_that_looks_whole_and_one_taken_under_load_restores(
    tmp_path: Path, database: PrivatePostgres, session: psycopg.Connection[Any], trial: Trial
):
    times, backups = trial.times(3, 10), []

    def killed(begun: Callable[[Path], bool], pause: float) -> bool:
        load.wait_for(100)
        file, acknowledged = tmp_path / f"backup-{trial.draw.getrandbits(64)}", load.acknowledged.copy()
        amid = kill_amid(started(service, "backup", str(file)), lambda: begun(file), pause, session)
        if file.exists():
            backups.append(Backup(file, acknowledged, load.sent.copy()))
        return amid

    with Service(tmp_path, DATABASE_URL=database.url) as service:
        with Load(service, "/api/backup/", trial.seed) as load:
            tried = times_amid(times, lambda: killed(lambda _: is_dumping(session), trial.draw.uniform(0, 0.1)))
            times_amid(1, lambda: killed(Path.exists, 0))
            acknowledged, last = load.acknowledged.copy(), tmp_path / "last"
            done(service, "backup", str(last))
            backups.append(Backup(last, acknowledged, load.sent.copy()))
            load.wait_for(100)
        restored = f"{len(backups)} that were whole restored"
        trial.settle("backup killed", times, load, service, f"{of(tried)}; {restored}")
    with PrivatePostgres(put_database(tmp_path / "second")).held() as second:
        other = Service(tmp_path / "other", DATABASE_URL=second.url)
        other.data_dir.mkdir()
        for backup in backups:
            assert "the books balance" in done(other, "restore", "--replace", str(backup.file))
            held = hits_in(second)
            backup.assert_holds(held)
        with other:
            assert other.counts() == held


def is_dumping(session: psycopg.Connection[Any]) -> bool:
    """Whether pg_dump is connected, beside the command that has started it."""
    return len(queries(session)) > 1


def hits_in(database: PrivatePostgres) -> dict[str, int]:
    with psycopg.connect(database.url) as session:
        return dict(session.execute("SELECT path, hits FROM counters_counter").fetchall())


class Backup(NamedTuple):
    """One whose file is there, what was acknowledged of each path when it was begun, and sent when it had ended."""

    file: Path
    acknowledged: Counter[str]
    sent: Counter[str]

    def assert_holds(self, counts: dict[str, int]) -> None:
        assert set(counts) <= set(self.sent)
        for path in self.sent:
            assert self.acknowledged[path] <= counts.get(path, 0) <= self.sent[path], path
