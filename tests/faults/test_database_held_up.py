"""The database is stopped, or a lock is held in it, or its sessions are ended, under load; it is exact afterwards."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.processes import children, kill, memory, postmaster, workers
from tests.service import Service

BOUND = 100_000_000  # bytes that the workers may grow by
PATIENCE_SECONDS = 2
TERMINATED_A_SECOND = 20
#: All but the one that asks.
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE datname = 'hitcounter' AND pid <> pg_backend_pid() ORDER BY pid"


@contextmanager
def stopped(data_dir: Path) -> Iterator[None]:
    """PostgreSQL does not run, and its connections stay open."""
    server = postmaster(data_dir)
    pids = [server, *children(server)]
    kill(*pids, number=signal.SIGSTOP)
    try:
        yield
    finally:
        kill(*pids, number=signal.SIGCONT)


@contextmanager
def locked(url: str, path: str) -> Iterator[None]:
    """The counter of a hot path cannot be changed by others."""
    with psycopg.connect(url) as blocker:
        held = blocker.execute("SELECT 1 FROM counters_counter WHERE path = %s FOR UPDATE", [path])
        assert held.fetchone(), path
        yield
        blocker.rollback()


def hold_up(service: Service, seconds: float) -> int:
    """Wait while the database is held up; return by how many bytes the workers grew at most."""
    pids = workers(service)
    before, most = memory(*pids), 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max(most, memory(*pids))
        time.sleep(0.1)
    assert workers(service) == pids, "a worker was started anew"
    return most - before


@pytest.mark.long
@pytest.mark.parametrize("how", ["stopped", "locked"])
def test_a_database_held_up_refuses_what_waits_too_long_and_is_exact_afterwards(
    tmp_path: Path, database: PrivatePostgres, trial: Trial, how: str
):
    seconds = trial.times(5, 30)
    settings = {"HITCOUNTER_WORKERS": "2", "HITCOUNTER_PATIENCE_SECONDS": str(PATIENCE_SECONDS)}
    with Service(tmp_path, DATABASE_URL=database.url, **settings) as service:
        with Load(service, f"/api/{how}/", trial.seed) as load:
            load.wait_for(300)
            with stopped(tmp_path) if how == "stopped" else locked(database.url, load.paths[0]):
                grown = hold_up(service, seconds)
                refused = load.answers[503]
            load.wait_for(300)
        besides = f"503 within {load.slowest[503]:.1f} s, workers grew by {grown / 1e6:.0f} MB"
        trial.settle(f"PostgreSQL {how} for {seconds} s", 1, load, service, besides)
    assert load.answers.keys() <= {200, 503} and refused > 0, load.answers
    assert load.slowest[503] < PATIENCE_SECONDS + 2
    assert grown < BOUND


class Terminator(threading.Thread):
    """Ends twenty of the database's sessions a second, drawn from all that there are, for some seconds."""

    def __init__(self, url: str, trial: Trial, seconds: float) -> None:
        super().__init__()
        self._url, self._draw, self._seconds = url, trial.draw, seconds
        self.terminated = 0

    def run(self) -> None:
        begun = time.monotonic()
        with psycopg.connect(self._url, autocommit=True) as session:
            turn = 0
            while turn < self._seconds * TERMINATED_A_SECOND:
                pids = [pid for (pid,) in session.execute(SESSIONS)]
                if pids:
                    session.execute("SELECT pg_terminate_backend(%s)", [self._draw.choice(pids)])
                    self.terminated += 1
                turn += 1
                time.sleep(max(0, begun + turn / TERMINATED_A_SECOND - time.monotonic()))


@pytest.fixture
def terminating(database: PrivatePostgres, trial: Trial) -> Callable[[], Terminator]:
    return lambda: Terminator(database.url, trial, trial.times(5, 60))


def test_terminated_sessions_lose_and_double_nothing(
    tmp_path: Path, database: PrivatePostgres, trial: Trial, terminating: Callable[[], Terminator]
):
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="2") as service:
        with Load(service, "/api/terminated/", trial.seed) as load:
            load.wait_for(300)
            terminator = terminating()
            terminator.start()
            terminator.join()
            load.wait_for(300)
        trial.settle("backends terminated", terminator.terminated, load, service)
    assert load.answers.keys() <= {200, 503}, load.answers
    assert terminator.terminated > 0


def test_batches_whose_sessions_are_terminated_are_counted_once(
    tmp_path: Path, database: PrivatePostgres, trial: Trial, terminating: Callable[[], Terminator]
):
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="2") as service:
        batches = KeyedLoad(service, "/terminated/", trial.seed)
        terminator = terminating()
        terminator.start()
        batches.keep_sending(lambda: not terminator.is_alive())
        trial.settle("backends terminated, hits under keys", terminator.terminated, batches, service)
    assert terminator.terminated > 0
