"""The database ends sessions, stops answering and holds locks under load: what was acknowledged is counted, once."""

import signal
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
from tests.processes import children, kill, memory, workers
from tests.service import Service

BACKENDS = """
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid() ORDER BY pid
"""
A_SECOND = 20
MOST_GROWTH = 100_000_000
PATIENCE_SECONDS = 2


@pytest.fixture
def impatient(tmp_path: Path, database: PrivatePostgres) -> Iterator[Service]:
    """A service on that database which waits for it for two seconds."""
    settings = {"HITCOUNTER_WORKERS": "2", "HITCOUNTER_PATIENCE_SECONDS": str(PATIENCE_SECONDS)}
    with Service(tmp_path, DATABASE_URL=database.url, **settings) as running:
        yield running


def terminate(session: psycopg.Connection, trial: Trial) -> int:
    """End one of the other sessions of the database, and return how many that were."""
    pids = [pid for (pid,) in session.execute(BACKENDS)]
    if not pids:
        return 0
    row = session.execute("SELECT pg_terminate_backend(%s)", [trial.draw.choice(pids)]).fetchone()
    return int(row == (True,))


def terminating(session: psycopg.Connection, trial: Trial) -> Callable[[], int]:
    """Ends sessions, as many as are due by now at 20 a second; returns how many it has."""
    begun, ended, tried = time.monotonic(), 0, 0

    def end_those_due() -> int:
        nonlocal ended, tried
        while tried < (time.monotonic() - begun) * A_SECOND:
            tried += 1
            ended += terminate(session, trial)
        return ended

    return end_those_due


@pytest.mark.long
def test_backends_that_are_terminated_lose_and_double_nothing(
    impatient: Service, database: PrivatePostgres, trial: Trial
):
    seconds = trial.times(5, 60)
    with psycopg.connect(database.url, autocommit=True) as session:
        with Load(impatient, "/api/terminated/", trial.seed) as load:
            ends = terminating(session, trial)
            for _ in range(seconds * A_SECOND):
                ended = ends()
                time.sleep(1 / A_SECOND)
            load.wait_for(300)
        assert ended > seconds * A_SECOND / 2
    trial.settle("backends terminated", ended, load, impatient)
    assert set(load.answers) <= {200, 503}, load.answers


@pytest.mark.long
def test_backends_that_are_terminated_leave_batches_under_keys_counted_once(
    impatient: Service, database: PrivatePostgres, trial: Trial
):
    batches, deadline = KeyedLoad(impatient, "/terminated/", trial.seed), time.monotonic() + trial.times(5, 60)
    with psycopg.connect(database.url, autocommit=True) as session:
        ends = terminating(session, trial)
        batches.keep_sending(lambda: bool(ends()) and time.monotonic() > deadline)
        ended = ends()
    trial.settle("backends terminated, hits under keys", ended, batches, impatient)
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
    impatient: Service, database: PrivatePostgres, trial: Trial, fault: str
):
    seconds = trial.times(5, 30)
    with Load(impatient, "/api/halted/", trial.seed) as load:
        load.wait_for(1_000)
        before = memory(*workers(impatient))
        with stopped(database) if fault == "PostgreSQL stopped" else locked(database, load.paths[0]):
            most = before
            for _ in range(seconds * 4):
                time.sleep(0.25)
                most = max(most, memory(*workers(impatient)))
            refused = load.answers[503]
        load.wait_for(1_000)
    besides = f"{seconds} s; 503 within {load.slowest[503]:.1f} s; memory +{(most - before) / 1e6:.0f} MB"
    trial.settle(fault, 1, load, impatient, besides)
    assert set(load.answers) == {200, 503}, load.answers
    assert refused > 100 * seconds
    assert load.slowest[503] < PATIENCE_SECONDS + 1
    assert most - before < MOST_GROWTH
