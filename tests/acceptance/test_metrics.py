"""/metrics of a running service with two workers: exact, bounded, and gone when the service is."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from hitcounter.multiprocess import LEFT_BEHIND_SECONDS, PREFIX
from hitcounter.postgres import PrivatePostgres
from tests.client import ask
from tests.load import Load
from tests.processes import children, command, connected, kill, workers
from tests.service import Service

pytestmark = pytest.mark.long

SEED = 20260607


class Measured:
    """What /metrics says at one moment."""

    def __init__(self, service: Service) -> None:
        answer = service.get("/metrics")
        assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
        families = text_string_to_metric_families(answer.text)
        samples = [sample for family in families for sample in family.samples]
        self.values = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in samples}
        assert len(self.values) == len(samples)

    def __call__(self, name: str, **labels: str) -> float:
        return self.values[f"hitcounter_{name}", *sorted(labels.items())]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Service]:
    """A service with two workers that a test may break."""
    with Service(tmp_path, DATABASE_URL="", HITCOUNTER_WORKERS="2") as running:
        yield running


def gunicorn(service: Service) -> int:
    (pid,) = [pid for pid in children(service.process.pid) if b"gunicorn" in command(pid)]
    return pid


def directory(service: Service) -> Path:
    """Where the workers of a service have their figures; of one that is ready, some may load still, and have none."""
    mapped = [line for pid in workers(service) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    (found,) = {Path(line.split()[-1]).parent for line in mapped if PREFIX in line}
    return found


def test_the_hits_of_all_workers_are_told_exactly(two: Service):
    with Load(two, "/api/told/", SEED) as load:
        load.wait_for(1000)
    told = Measured(two)
    assert load.answers.keys() == {200}
    assert told("hits_total", via="request") == load.acknowledged.total() == sum(two.counts("/api/told/").values())
    assert told("batch_hits_sum") == load.acknowledged.total()
    assert told("commit_seconds_count") == told("batch_hits_count") > 0


def test_a_killed_worker_takes_nothing_with_it_that_was_answered(two: Service):
    draw = random.Random(SEED)
    with Load(two, "/api/killed/", SEED) as load:
        for _ in range(4):
            load.wait_for(200)
            kill(draw.choice(connected(two)))
        load.wait_for(200)
    told = Measured(two)
    assert load.answers["broken"] > 0
    assert load.acknowledged.total() <= told("hits_total", via="request") <= sum(two.counts("/api/killed/").values())
    assert told("batch_hits_sum") == told("hits_total", via="request")
    assert {file.stem.rpartition("_")[2] for file in directory(two).iterdir()} == {"0", "1"}
    wait_until(lambda: Measured(two)("workers", state="accepting") == 2)


def wait_until(true) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_batches_of_others_are_counted_once(two: Service):
    for _ in range(3):
        body = [{"path": "/told/a", "n": 5}, {"path": "/told/b"}]
        answer = requests.post(f"{two.url}/hits/", json=body, headers={"Idempotency-Key": "once"}, timeout=30)
        assert answer.json() == {"counted": 6}
    assert Measured(two)("hits_total", via="batch") == 6


def test_whatever_is_sent_there_are_no_more_series(two: Service):
    def send(n: int) -> None:
        ask(two, f"/api/{n}/".ljust(3000 if n % 3 else 30, "x"))
        ask(two, f"/pixel.gif?path={n}")
        ask(two, f"/nowhere/{n}/")
        two.get("/stats/", params={f"p{n}": n}, headers={"Host": f"{n}.example", "X-Consumer": f"c{n}"})
        ask(two, "/api/series/", f"M{n}")
        ask(two, "/healthz/live", f"M{n}")

    for n in range(20):
        send(n)
    Measured(two)
    before = Measured(two)
    for n in range(20, 100):
        send(n)
    after = Measured(two)
    assert after.values.keys() == before.values.keys()
    assert after("hits_refused_total", reason="path_too_long") > before("hits_refused_total", reason="path_too_long")


def test_a_database_that_hangs_shows_as_hits_that_wait_and_workers_that_refuse(tmp_path: Path):
    settings = {"HITCOUNTER_WORKERS": "1", "HITCOUNTER_PATIENCE_SECONDS": "3", "HITCOUNTER_QUEUE": "4"}
    with PrivatePostgres(tmp_path / "postgres").held() as database:
        with Service(tmp_path, DATABASE_URL=database.url, **settings) as service:
            ask(service, "/api/hang/0/")
            with psycopg.connect(database.url) as blocker:
                blocker.execute("SELECT 1 FROM counters_counter WHERE path = '/api/hang/0/' FOR UPDATE")
                with Load(service, "/api/hang/", SEED) as load:
                    wait_until(lambda: Measured(service)("queue_hits") == 4)
                    assert Measured(service)("queue_limit_hits") == 4
                    wait_until(lambda: Measured(service)("workers", state="refusing") == 1)
                    assert service.get("/healthz/ready").json() == {"detail": "The recorder does not accept hits."}
                    wait_until(lambda: load.answers[503] > 100)
            service.wait_until_ready()
            told = Measured(service)
        refused = {dict(labels)["reason"]: n for (name, *labels), n in told.values.items() if "refused_total" in name}
        assert refused["queue_full"] > 0 and refused["database_gone"] > 0 and refused["in_doubt"] > 0
        assert sum(refused.values()) == load.answers[503]


def test_without_a_database_metrics_are_told_all_the_same(tmp_path: Path):
    with (
        PrivatePostgres(tmp_path / "postgres").held() as database,
        Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1") as service,
    ):
        ask(service, "/api/gone/")
        database.stop()
        assert ask(service, "/api/gone/").status == 503
        wait_until(lambda: Measured(service)("database_errors_total", kind="unreachable") > 0)
        assert Measured(service)("database_errors_total", kind="lost") == 1
        assert Measured(service)("workers", state="accepting") == 0
        database.start()
        service.wait_until_ready()
        assert Measured(service)("database_reconnects_total") == 1


def test_a_reload_begins_no_count_anew(two: Service):
    ask(two, "/api/reloaded/")
    before = workers(two)
    os.kill(gunicorn(two), signal.SIGHUP)
    wait_until(lambda: len(workers(two)) == 2 and not set(workers(two)) & set(before))
    two.wait_until_ready()
    ask(two, "/api/reloaded/")
    assert Measured(two)("hits_total", via="request") == 2
    wait_until(lambda: Measured(two)("workers", state="accepting") == 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_no_figures_behind(two: Service, number: int):
    figures = directory(two)
    assert figures.stat().st_mode & 0o777 == 0o700
    two.stop(number)
    assert not figures.exists()


def test_what_a_killed_service_leaves_behind_is_removed_by_the_next(two: Service):
    figures = directory(two)
    started = [gunicorn(two), *workers(two)]
    kill(*started)
    two.process.wait(60)
    assert figures.exists()
    long_ago = time.time() - LEFT_BEHIND_SECONDS - 1
    os.utime(figures, (long_ago, long_ago))
    two.start()
    assert not figures.exists()
    assert Measured(two)("hits_total", via="request") == 0


def test_figures_that_somebody_has_removed_keep_no_worker_from_starting(two: Service):
    shutil.rmtree(directory(two))
    kill(*workers(two))
    wait_until(lambda: len(workers(two)) == 2)
    two.wait_until_ready()
    ask(two, "/api/removed/")
    assert Measured(two)("hits_total", via="request") == 1
