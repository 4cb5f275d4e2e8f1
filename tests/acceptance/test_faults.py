"""Acknowledged means counted, once: shown while workers, the database and connections are lost under load."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from hitcounter.postgres import PrivatePostgres
from tests.acceptance.client import ask
from tests.acceptance.load import Load
from tests.acceptance.proxy import CuttingProxy
from tests.service import Service, put_database

SEED = 20260301


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Service]:
    """A service that a test may break, with a PostgreSQL of its own."""
    with Service(tmp_path, DATABASE_URL="", HITCOUNTER_WORKERS="2") as running:
        yield running


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """A PostgreSQL that a test talks to itself, while a service uses it."""
    with PrivatePostgres(put_database(tmp_path / "postgres")).held() as running:
        yield running


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that live."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(pid: int) -> list[int]:
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def workers(service: Service) -> list[int]:
    """The worker processes: manage.py serve -> gunicorn -> workers; the database has a session of its own."""
    (gunicorn,) = [pid for pid in children(service.process.pid) if b"gunicorn" in command(pid)]
    return children(gunicorn)


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def kill(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_killed_worker_loses_and_doubles_nothing(own_service: Service):
    draw = random.Random(SEED)
    with Load(own_service, "/api/worker-killed/", SEED) as load:
        for _ in range(5):
            load.wait_for(300)
            kill(draw.choice(workers(own_service)))
        load.wait_for(300)
    assert load.answers[200] > 1800
    assert load.answers["broken"] > 0, "no connection noticed that a worker was killed"
    load.assert_bounds_hold(own_service.counts("/api/worker-killed/"))


def test_a_killed_database_loses_and_doubles_nothing_and_comes_back_by_itself(own_service: Service):
    with Load(own_service, "/api/database-killed/", SEED) as load:
        for _ in range(3):
            load.wait_for(300)
            server = postmaster(own_service.data_dir)
            kill(server, *children(server))
        load.wait_for(300)
    assert set(load.answers) <= {200, 503}, load.answers
    assert load.answers[503] > 0, "nobody noticed that the database was killed"
    load.assert_bounds_hold(own_service.counts("/api/database-killed/"))


def test_while_the_database_is_gone_hits_get_503_and_afterwards_they_count_again(
    tmp_path: Path, database: PrivatePostgres
):
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1") as service:
        assert ask(service, "/api/gone/").status == 200
        database.stop()
        begun = time.monotonic()
        answer = ask(service, "/api/gone/")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "not counted" in answer.json()["detail"] or "settled" in answer.json()["detail"]
        assert time.monotonic() - begun < 5
        assert ask(service, "/healthz/live").status == 200
        assert ask(service, "/healthz/ready").status == 503
        statistics = service.get("/stats/")
        assert (statistics.status_code, statistics.headers["Retry-After"]) == (503, "1")
        assert "detail" in statistics.json()
        database.start()
        service.wait_until_ready()
        before = service.counts("/api/gone/")["/api/gone/"]
        assert before in (1, 2)
        assert ask(service, "/api/gone/").json() == {"path": "/api/gone/", "count": before + 1}


def test_a_service_starts_without_its_database_and_counts_once_it_is_there(tmp_path: Path, database: PrivatePostgres):
    with Service(tmp_path, DATABASE_URL=database.url) as service:
        (gunicorn,) = [service.process.pid]
        database.stop()
        kill(*children(gunicorn))
        while (answer := ask_patiently(service, "/api/late/")).status != 503:
            time.sleep(0.1)
        assert "not counted" in answer.json()["detail"]
        database.start()
        service.wait_until_ready()
        assert ask(service, "/api/late/").json() == {"path": "/api/late/", "count": 1}


def ask_patiently(service: Service, target: str):
    """Ask a service whose workers are being started anew."""
    for _ in range(100):
        with suppress(OSError):
            return ask(service, target)
        time.sleep(0.1)
    raise AssertionError("the service does not answer")


def test_connections_cut_after_commit_leave_the_counts_exact(tmp_path: Path, database: PrivatePostgres):
    socket = f"{database.socket_directory}/.s.PGSQL.5432"
    with CuttingProxy(socket, SEED) as proxy:
        url = f"postgresql://hitcounter@127.0.0.1:{proxy.port}/hitcounter"
        with Service(tmp_path, DATABASE_URL=url) as service:
            proxy.cutting = True
            with Load(service, "/api/cut/", SEED) as load:
                while proxy.cuts < 30:
                    load.wait_for(50)
            proxy.cutting = False
            assert load.answers.keys() == {200}, load.answers
            assert service.counts("/api/cut/") == load.sent == load.acknowledged


def test_a_full_queue_refuses_at_once_and_counts_what_it_took_in(tmp_path: Path, database: PrivatePostgres):
    settings = {"HITCOUNTER_QUEUE": "4", "HITCOUNTER_WORKERS": "1", "HITCOUNTER_PATIENCE_SECONDS": "60"}
    with Service(tmp_path, DATABASE_URL=database.url, **settings) as service:
        ask(service, "/api/full/0/")
        with psycopg.connect(database.url) as blocker:
            blocker.execute("SELECT 1 FROM counters_counter WHERE path = '/api/full/0/' FOR UPDATE")
            with Load(service, "/api/full/", SEED) as load:
                while load.answers[503] < 50:
                    time.sleep(0.01)
                blocker.rollback()
                load.wait_for(100)
        assert load.answers.keys() == {200, 503}, load.answers
        load.sent["/api/full/0/"] += 1
        load.acknowledged["/api/full/0/"] += 1
        assert service.counts("/api/full/") == +load.acknowledged


def test_a_database_that_hangs_is_answered_503_and_nothing_is_counted_twice(tmp_path: Path, database: PrivatePostgres):
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_PATIENCE_SECONDS="1") as service:
        ask(service, "/api/hang/0/")
        with psycopg.connect(database.url) as blocker:
            blocker.execute("SELECT 1 FROM counters_counter WHERE path = '/api/hang/0/' FOR UPDATE")
            answer = ask(service, "/api/hang/0/")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        service.wait_until_ready()
        assert service.counts("/api/hang/") == {"/api/hang/0/": 2}


def test_a_graceful_stop_answers_every_hit_that_was_taken_in(own_service: Service):
    with Load(own_service, "/api/stopped/", SEED) as load:
        load.wait_for(500)
        assert own_service.stop(signal.SIGTERM) == 0
    own_service.start()
    load.assert_bounds_hold(own_service.counts("/api/stopped/"))
    assert own_service.counts("/api/stopped/") == load.acknowledged, "a hit was counted and not answered"


def wait_until_gone(pids: list[int]) -> None:
    """Give the system a moment to clear away processes that have ended."""
    deadline = time.monotonic() + 5
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stop_leaves_no_process_and_the_next_start_finds_the_counts(own_service: Service, number: int):
    ask(own_service, "/api/kept/")
    started = [own_service.process.pid, *descendants(own_service.process.pid), postmaster(own_service.data_dir)]
    assert own_service.stop(number) == 0
    wait_until_gone(started)
    begun = time.monotonic()
    own_service.start()
    assert time.monotonic() - begun < 20
    assert own_service.counts("/api/kept/") == {"/api/kept/": 1}
