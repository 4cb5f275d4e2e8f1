"""The whole service is killed under load, by itself or with its database, and started again."""

import time
from pathlib import Path

import pytest

from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.load import Load
from tests.processes import children, descendants, kill, postmaster
from tests.service import Service

READY_SECONDS = 15


def start_again(service: Service) -> float:
    """Start a killed service; return how many seconds it took to be ready."""
    begun = time.monotonic()
    service.process.wait()
    service.start()
    return time.monotonic() - begun


def kill_service(service: Service) -> None:
    """All of the service's own processes at once: manage.py, gunicorn's master, its workers."""
    pid = service.process.pid
    kill(pid, *descendants(pid))


def kill_with_database(service: Service) -> None:
    """The postmaster's lock file stays behind, and nobody has told the database to end."""
    server = postmaster(service.data_dir)
    pid = service.process.pid
    kill(pid, server, *descendants(pid), *children(server))
    assert (service.data_dir / "postgres" / "data" / "postmaster.pid").exists()


@pytest.mark.long
def test_a_killed_service_loses_and_doubles_nothing_and_is_ready_again(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    times, slowest = trial.times(2, 5), 0.0
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="2") as service:
        with Load(service, "/api/service-killed/", trial.seed) as load:
            for _ in range(times):
                load.wait_for(300)
                time.sleep(trial.draw.uniform(0, 0.2))
                kill_service(service)
                slowest = max(slowest, start_again(service))
            load.wait_for(300)
        trial.settle("whole service killed", times, load, service, f"ready within {slowest:.1f} s")
    assert load.answers["broken"] > 0, "no connection noticed that the service was killed"
    assert slowest < READY_SECONDS


@pytest.mark.long
def test_a_service_killed_with_its_database_loses_and_doubles_nothing_and_is_ready_again(
    own_service: Service, trial: Trial
):
    times, slowest = trial.times(2, 5), 0.0
    with Load(own_service, "/api/all-killed/", trial.seed) as load:
        for _ in range(times):
            load.wait_for(300)
            time.sleep(trial.draw.uniform(0, 0.2))
            kill_with_database(own_service)
            slowest = max(slowest, start_again(own_service))
        load.wait_for(300)
    trial.settle("whole service killed, with PostgreSQL", times, load, own_service, f"ready within {slowest:.1f} s")
    assert load.answers["broken"] > 0, "no connection noticed that the service was killed"
    assert slowest < READY_SECONDS
