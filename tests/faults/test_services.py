"""Workers and whole services are killed, stopped and rolled under load: what was acknowledged is counted, once."""

import signal
import time
from pathlib import Path

import pytest

from tests.acceptance.test_rolling import Rolling
from tests.client import ask
from tests.faults.conftest import Trial
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.processes import descendants, kill, postmaster, workers
from tests.service import Service


def test_a_killed_worker_loses_and_doubles_nothing(own_service: Service, trial: Trial):
    times = trial.times(5, 20)
    with Load(own_service, "/api/worker-killed/", trial.seed) as load:
        for _ in range(times):
            load.wait_for(200)
            time.sleep(trial.draw.uniform(0, 0.2))
            kill(trial.draw.choice(workers(own_service)))
        load.wait_for(200)
    assert load.answers["broken"] > 0, "no connection noticed that a worker was killed"
    trial.settle("worker killed", times, load, own_service)


@pytest.mark.long
def test_batches_whose_worker_is_killed_are_counted_once_when_they_are_sent_again(own_service: Service, trial: Trial):
    batches = KeyedLoad(own_service, "/killed/", trial.seed)
    times, killed = trial.times(5, 20), 0

    def killed_enough() -> bool:
        nonlocal killed
        if batches.answers[200] > 200 * (killed + 1):
            kill(trial.draw.choice(workers(own_service)))
            killed += 1
        return killed == times

    batches.keep_sending(killed_enough)
    assert batches.answers["broken"] > 0, "no connection noticed that a worker was killed"
    trial.settle("worker killed, hits under keys", times, batches, own_service)


def test_a_graceful_stop_answers_every_hit_that_was_taken_in(own_service: Service, trial: Trial):
    with Load(own_service, "/api/stopped/", trial.seed) as load:
        load.wait_for(500)
        assert own_service.stop(signal.SIGTERM) == 0
    own_service.start()
    outcome = trial.settle("graceful stop", 1, load, own_service)
    assert outcome.counted == outcome.acknowledged, "a hit was counted and not answered"


@pytest.mark.long
def test_workers_are_rolled_under_load_and_nothing_is_lost_nor_left_without_an_answer(tmp_path: Path, trial: Trial):
    times = trial.times(2, 10)
    with Rolling(tmp_path) as service:
        with Load(service, "/api/rolling/", trial.seed) as load:
            load.wait_for(500)
            for _ in range(times):
                service.roll()
                load.wait_for(500)
        outcome = trial.settle("rolling restart", times, load, service)
    assert load.answers.keys() == {200}, load.answers
    assert outcome.sent == outcome.acknowledged == outcome.counted


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
