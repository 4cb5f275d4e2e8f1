"""The database is killed, cut off, halted and held up under load: what was acknowledged is counted, once."""

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from hitcounter.postgres import PrivatePostgres
from tests.client import ask, ask_patiently
from tests.faults.conftest import Trial
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.processes import children, command, kill, postmaster, wait_until, workers
from tests.proxy import CuttingProxy
from tests.service import Service


def all_of_it(server: int) -> list[int]:
    return [server, *children(server)]


def one_session(server: int) -> list[int]:
    """The process of one of its sessions; where one is lost, PostgreSQL ends all."""
    return [pid for pid in children(server) if b"postgres: hitcounter hitcounter" in command(pid)][:1]


@pytest.mark.parametrize(
    ("fault", "doomed"),
    [
        pytest.param("PostgreSQL killed", all_of_it, id="all"),
        pytest.param("a process of PostgreSQL's killed", one_session, id="one process", marks=pytest.mark.long),
    ],
)
def test_a_killed_database_loses_and_doubles_nothing_and_comes_back_by_itself(
    own_service: Service, fault: str, doomed: Callable[[int], list[int]], trial: Trial
):
    times = trial.times(3, 10)
    with Load(own_service, "/api/database-killed/", trial.seed) as load:
        for _ in range(times):
            load.wait_for(300)
            time.sleep(trial.draw.uniform(0, 0.2))
            found = doomed(postmaster(own_service.data_dir))
            assert found, "there is nothing to be killed"
            kill(*found)
        load.wait_for(300)
    trial.settle(fault, times, load, own_service, f"503 within {load.slowest[503]:.2f} s")
    assert set(load.answers) == {200, 503}, load.answers
    assert load.slowest[503] < 1


@pytest.mark.long
def test_batches_whose_database_is_killed_are_counted_once_when_they_are_sent_again(own_service: Service, trial: Trial):
    batches = KeyedLoad(own_service, "/database-killed/", trial.seed)
    times = trial.times(3, 10)
    batches.keep_sending_while(lambda: kill(*all_of_it(postmaster(own_service.data_dir))), times, trial.draw)
    assert batches.answers[503] > 0, "no batch noticed that the database was killed"
    trial.settle("PostgreSQL killed, hits under keys", times, batches, own_service)


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


@pytest.mark.long
def test_a_service_starts_without_its_database_and_counts_once_it_is_there(tmp_path: Path, database: PrivatePostgres):
    with Service(tmp_path, DATABASE_URL=database.url) as service:
        database.stop()
        kill(*workers(service))
        while (answer := ask_patiently(service, "/api/late/")).status != 503:
            time.sleep(0.1)
        assert "not counted" in answer.json()["detail"]
        database.start()
        service.wait_until_ready()
        assert ask(service, "/api/late/").json() == {"path": "/api/late/", "count": 1}


def test_connections_cut_after_commit_leave_the_counts_exact(tmp_path: Path, database: PrivatePostgres, trial: Trial):
    cuts = trial.times(30, 200)
    socket = f"{database.socket_directory}/.s.PGSQL.5432"
    with CuttingProxy(socket, trial.seed) as proxy:
        url = f"postgresql://hitcounter@127.0.0.1:{proxy.port}/hitcounter"
        with Service(tmp_path, DATABASE_URL=url) as service:
            proxy.cutting = True
            with Load(service, "/api/cut/", trial.seed) as load:
                while proxy.cuts < cuts:
                    load.wait_for(50)
            proxy.cutting = False
            outcome = trial.settle("connection cut after COMMIT", proxy.cuts, load, service)
            assert load.answers.keys() == {200}, load.answers
            assert outcome.sent == outcome.acknowledged == outcome.counted


@pytest.mark.long
def test_batches_whose_commit_was_not_confirmed_are_counted_once_when_they_are_sent_again(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    cuts = trial.times(30, 200)
    with CuttingProxy(f"{database.socket_directory}/.s.PGSQL.5432", trial.seed) as proxy:
        url = f"postgresql://hitcounter@127.0.0.1:{proxy.port}/hitcounter"
        with Service(tmp_path, DATABASE_URL=url) as service:
            batches = KeyedLoad(service, "/cut/", trial.seed)
            proxy.cutting = True
            batches.keep_sending(lambda: proxy.cuts >= cuts)
            proxy.cutting = False
            trial.settle("connection cut after COMMIT, hits under keys", proxy.cuts, batches, service)
            assert batches.answers.keys() == {200, 503}, batches.answers
            assert [reason for reason in batches.reasons if "cannot be said" in reason], batches.reasons


def test_a_full_queue_refuses_at_once_and_counts_what_it_took_in(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    settings = {"HITCOUNTER_QUEUE": "4", "HITCOUNTER_WORKERS": "1", "HITCOUNTER_PATIENCE_SECONDS": "60"}
    with Service(tmp_path, DATABASE_URL=database.url, **settings) as service:
        ask(service, "/api/full/0/")
        with psycopg.connect(database.url) as blocker:
            blocker.execute("SELECT 1 FROM counters_counter WHERE path = '/api/full/0/' FOR UPDATE")
            with Load(service, "/api/full/", trial.seed) as load:
                wait_until(lambda: load.answers[503] >= 50)
                blocker.rollback()
                load.wait_for(100)
        assert load.answers.keys() == {200, 503}, load.answers
        load.sent["/api/full/0/"] += 1
        load.acknowledged["/api/full/0/"] += 1
        assert service.counts("/api/full/") == +load.acknowledged


def test_a_database_that_hangs_is_answered_503_and_nothing_is_counted_twice(tmp_path: Path, database: PrivatePostgres):
    settings = {"HITCOUNTER_WORKERS": "1", "HITCOUNTER_PATIENCE_SECONDS": "1"}
    with Service(tmp_path, DATABASE_URL=database.url, **settings) as service:
        ask(service, "/api/hang/0/")
        with psycopg.connect(database.url) as blocker:
            blocker.execute("SELECT 1 FROM counters_counter WHERE path = '/api/hang/0/' FOR UPDATE")
            answer = ask(service, "/api/hang/0/")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        service.wait_until_ready()
        assert service.counts("/api/hang/") == {"/api/hang/0/": 2}
