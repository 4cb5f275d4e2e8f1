"""Workers and whole services are killed, stopped and rolled under load: what was acknowledged is counted, once."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hitcounter.postgres import PrivatePostgres
from tests.client import ask
from tests.faults.conftest import Trial
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.processes import children, connected, descendants, kill, postmaster, workers
from tests.rolling import Rolling
from tests.service import Service, put_database

READY_SECONDS = 15
APART, WITH_IT, LEFT = "a PostgreSQL apart", "its own PostgreSQL with it", "its own PostgreSQL left running"


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service that a test may kill, with a PostgreSQL that belongs to it or one that goes on without it."""
    if request.param != APART:
        with Service(tmp_path, DATABASE_URL="", HITCOUNTER_WORKERS="2") as running:
            yield running
    else:
        apart = PrivatePostgres(put_database(tmp_path / "apart"))
        with apart.held(), Service(tmp_path, DATABASE_URL=apart.url, HITCOUNTER_WORKERS="2") as running:
            yield running


def test_a_killed_worker_loses_and_doubles_nothing(own_service: Service, trial: Trial):
    times = trial.times(5, 20)
    with Load(own_service, "/api/worker-killed/", trial.seed) as load:
        for _ in range(times):
            load.wait_for(200)
            time.sleep(trial.draw.uniform(0, 0.2))
            kill(trial.draw.choice(connected(own_service)))
        load.wait_for(200)
    assert load.answers["broken"] > 0, "no connection noticed that a worker was killed"
    trial.settle("worker killed", times, load, own_service)


@pytest.mark.long
def test_batches_whose_worker_is_killed_are_counted_once_when_they_are_sent_again(own_service: Service, trial: Trial):
    batches = KeyedLoad(own_service, "/killed/", trial.seed)
    times = trial.times(5, 20)
    batches.keep_sending_while(lambda: kill(trial.draw.choice(connected(own_service))), times, trial.draw)
    assert batches.answers["broken"] > 0, "no connection noticed that a worker was killed"
    trial.settle("worker killed, hits under keys", times, batches, own_service)


def all_of(service: Service, kind: str) -> list[int]:
    """The processes of a service, and those of the PostgreSQL that it has started, where they are killed with it."""
    found = [service.process.pid, *descendants(service.process.pid)]
    if kind == WITH_IT:
        server = postmaster(service.data_dir)
        found += [server, *children(server)]
    return found


@pytest.mark.long
@pytest.mark.parametrize(("served", "kind"), [(kind, kind) for kind in (APART, WITH_IT, LEFT)], indirect=["served"])
def test_a_service_that_is_killed_as_a_whole_starts_again_with_all_that_it_answered(
    served: Service, kind: str, trial: Trial
):
    times, slowest = trial.times(2, 5), 0.0
    with Load(served, "/api/all-killed/", trial.seed) as load:
        for _ in range(times):
            load.wait_for(300)
            time.sleep(trial.draw.uniform(0, 0.2))
            kill(*all_of(served, kind))
            served.process.wait()
            begun = time.monotonic()
            served.start()
            slowest = max(slowest, time.monotonic() - begun)
        load.wait_for(300)
    trial.settle(f"whole service killed, {kind}", times, load, served, f"ready again within {slowest:.1f} s")
    if trial.chaos:  # which runs alone; beside other tests it tells how busy they keep the machine
        assert slowest < READY_SECONDS


def test_a_graceful_stop_answers_every_hit_that_was_taken_in(own_service: Service, trial: Trial):
    times = trial.times(1, 5)
    with Load(own_service, "/api/stopped/", trial.seed) as load:
        for _ in range(times):
            load.wait_for(500)
            time.sleep(trial.draw.uniform(0, 0.2))
            assert own_service.stop(signal.SIGTERM) == 0
            own_service.start()
        load.wait_for(100)
    outcome = trial.settle("graceful stop (SIGTERM)", times, load, own_service)
    assert load.answers.keys() <= {200, 503, "nobody listens"}, load.answers
    assert outcome.counted == outcome.acknowledged, "a hit was counted and not answered"


def test_a_worker_that_is_held_up_when_all_stop_leaves_no_request_without_an_answer(own_service: Service, trial: Trial):
    times = trial.times(1, 5)
    with Load(own_service, "/api/held-up/", trial.seed) as load:
        for _ in range(times):
            load.wait_for(500)
            late = trial.draw.choice(workers(own_service))
            own_service.process.send_signal(signal.SIGTERM)
            time.sleep(trial.draw.uniform(0.02, 0.05))  # most likely it has heard of it, and still listens
            kill(late, number=signal.SIGSTOP)
            time.sleep(trial.draw.uniform(0.3, 0.7))
            kill(late, number=signal.SIGCONT)
            assert own_service.stop() == 0
            own_service.start()
        load.wait_for(100)
    outcome = trial.settle("graceful stop, a worker held up", times, load, own_service)
    assert load.answers.keys() <= {200, 503, "nobody listens"}, load.answers
    assert outcome.counted == outcome.acknowledged, "a hit was counted and not answered"


@pytest.mark.long
def test_workers_are_rolled_under_load_and_nothing_is_lost_nor_left_without_an_answer(tmp_path: Path, trial: Trial):
    times = trial.times(2, 10)
    with Rolling(tmp_path) as service:
        with Load(service, "/api/rolling/", trial.seed) as load:
            load.wait_for(500)
            for _ in range(times):
                service.roll()
                load.wait_for(300)
        outcome = trial.settle("workers rolled (SIGHUP)", times, load, service)
        assert set(load.answers) == {200}, load.answers
        assert outcome.counted == outcome.acknowledged == outcome.sent


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
