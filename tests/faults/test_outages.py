"""The database ends sessions, stops answering and holds locks under load: what was acknowledged is counted, once."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg
import pytest

from counters.ingest.recorder import QueueFull
from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.faults.growth import LEVEL, MOST_GROWTH, watched
from tests.flood import Flood, files_for
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.processes import children, kill, wait_until
from tests.service import Service

BACKENDS = """
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid
"""
A_SECOND = 20
WORKERS = 2
PATIENCE_SECONDS = 2
#: Hits that may wait, and those that come in each second: more than may, in the time for which it is waited.
QUEUE = 500
OFFERED = 2_500
MOST_CONNECTIONS = 8_000


@pytest.fixture
def files() -> Iterator[None]:
    """As many as connections need, here and in the service."""
    with files_for(MOST_CONNECTIONS):
        yield


@pytest.fixture
def impatient(tmp_path: Path, database: PrivatePostgres) -> Iterator[Service]:
    """A service on that database which waits for it for two seconds."""
    settings = {
        "HITCOUNTER_WORKERS": str(WORKERS),
        "HITCOUNTER_PATIENCE_SECONDS": str(PATIENCE_SECONDS),
        "HITCOUNTER_QUEUE": str(QUEUE),
    }
    with Service(tmp_path, DATABASE_URL=database.url, **settings) as running:
        yield running


class Terminations:
    """Ends one of the other sessions of a database, 20 times a second, from a thread of its own, until left."""

    def __init__(self, database: PrivatePostgres, trial: Trial) -> None:
        self._url = database.url
        self._draw = trial.draw
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._end_those_due)
        self.due = 0
        self.ended = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()
        self._thread.join()

    def leave(self) -> None:
        self._left.set()

    @property
    def left(self) -> bool:
        return self._left.is_set()

    def _end_those_due(self) -> None:
        begun = time.monotonic()
        with psycopg.connect(self._url, autocommit=True) as session:
            while not self._left.wait(begun + self.due / A_SECOND - time.monotonic()):
                self.due += 1
                self.ended += self._end_one(session)
        self.due = int((time.monotonic() - begun) * A_SECOND)

    def _end_one(self, session: psycopg.Connection) -> bool:
        """Whether there was one to end."""
        pids = [pid for (pid,) in session.execute(BACKENDS)]
        if not pids:
            return False
        return session.execute("SELECT pg_terminate_backend(%s)", [self._draw.choice(pids)]).fetchone() == (True,)

    def assert_made(self, seconds: int, trial: Trial) -> None:
        """Most of those that were due, all the time; in a few seconds there may be none to end for one of them."""
        assert self.due >= seconds * A_SECOND
        least = 0.9 if trial.chaos else 0.5
        assert self.ended >= least * self.due, f"of {self.due} that were due, {self.ended} sessions were ended"

    def __str__(self) -> str:
        return f"{self.due:,} due in {self.due / A_SECOND:.0f} s"


@pytest.mark.long
def test_backends_that_are_terminated_lose_and_double_nothing(
    impatient: Service, database: PrivatePostgres, trial: Trial
):
    seconds = trial.times(5, 60)
    with Load(impatient, "/api/terminated/", trial.seed) as load:
        with Terminations(database, trial) as terminations:
            wait_until(lambda: terminations.due > seconds * A_SECOND, 2 * seconds)
        load.wait_for(300)
    trial.settle("backends terminated", terminations.ended, load, impatient, str(terminations))
    terminations.assert_made(seconds, trial)
    assert set(load.answers) <= {200, 503}, load.answers


@pytest.mark.long
def test_backends_that_are_terminated_leave_batches_under_keys_counted_once(
    impatient: Service, database: PrivatePostgres, trial: Trial
):
    seconds = trial.times(5, 60)
    batches = KeyedLoad(impatient, "/terminated/", trial.seed)
    with Terminations(database, trial) as terminations:
        latest = time.monotonic() + 2 * seconds

        def over() -> bool:
            if terminations.due > seconds * A_SECOND or time.monotonic() > latest:
                terminations.leave()  # the last batches have few sessions, each of which would be ended soon
            return terminations.left

        batches.keep_sending(over)
    trial.settle("backends terminated, hits under keys", terminations.ended, batches, impatient, str(terminations))
    terminations.assert_made(seconds, trial)
    assert batches.answers[503] > 0, "nobody noticed that a session was terminated"


@contextmanager
def stopped(database: PrivatePostgres) -> Iterator[None]:
    """All of PostgreSQL's processes, halted."""
    server = int((database.data / "postmaster.pid").read_text().split()[0])
    processes = [server, *children(server)]
    kill(*processes, number=signal.SIGSTOP)
    try:
        yield
    finally:
        kill(*processes, number=signal.SIGCONT)


@contextmanager
def locked(database: PrivatePostgres, path: str) -> Iterator[None]:
    """The counter of a path, locked by another transaction."""
    with psycopg.connect(database.url) as session:
        assert session.execute("SELECT 1 FROM counters_counter WHERE path = %s FOR UPDATE", [path]).fetchone()
        yield


@pytest.mark.long
@pytest.mark.parametrize("fault", ["PostgreSQL stopped", "lock held on a hot counter"])
def test_a_database_that_does_not_answer_is_answered_for_and_is_exact_afterwards(
    files: None, impatient: Service, database: PrivatePostgres, trial: Trial, fault: str
):
    seconds = trial.times(5, 30)
    flood = Flood(impatient, "/api/flooded/", trial.seed)
    with Load(impatient, "/api/halted/", trial.seed) as load:
        load.wait_for(1_000)
        flood.press(200, 0.2)
        before = flood.answers[200]
        with watched(impatient) as growth:
            with stopped(database) if fault == "PostgreSQL stopped" else locked(database, flood.paths[0]):
                flood.offer(OFFERED, seconds)
            load.wait_for(1_000)
    trial.settle(fault, 1, load, impatient, f"{seconds} s; 503 within {load.slowest[503]:.1f} s; {growth}")
    trial.settle(f"{fault}, flooded", 1, flood, impatient, f"{OFFERED:,} hits/s over {flood.connections:,} connections")
    assert flood.answers.keys() <= {200, 503}, flood.answers
    assert set(load.answers) == {200, 503}, load.answers
    assert flood.answers[200] - before < OFFERED, "the database answered"
    assert flood.reasons[QueueFull.message] > 100, "no queue was full"
    assert load.slowest[503] < PATIENCE_SECONDS + 1
    assert growth.bytes < MOST_GROWTH
    assert growth.late < LEVEL or not trial.chaos, "it does not level off"
