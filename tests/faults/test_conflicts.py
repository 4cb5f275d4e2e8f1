"""Deadlocks, serialization errors, timeouts and lost connections, real and injected: each hit is counted once."""

import asyncio
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command

from counters import models
from counters.dimensions import PLAIN
from counters.hits import counter_id
from counters.ingest.recorder import InDoubt, NotRecorded, Recorder
from counters.ingest.writer import PostgresWriter
from hitcounter.asgi import conninfo
from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.faults.injected import FAULTS, Faults
from tests.faults.trials import Outcome
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.service import Service

PATHS = [f"/api/conflict/{n}/" for n in range(20)]
RECORDERS = 4
CLIENTS = 5  # of each, so that batches are many and small
FAULT_RATE = 0.1
#: Every session of the database has them unless it says otherwise, as one that others share may have.
LIMITS = {
    "deadlock_timeout": "20ms",
    "lock_timeout": "200ms",
    "statement_timeout": "1s",
    "default_transaction_isolation": "serializable",
}


class Hits:
    """Clients of recorders in this process: what they sent, and what became of it."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._numbers = count()
        self.sent: Counter[str] = Counter()
        self.places: Counter[tuple[str, int]] = Counter()
        self.in_doubt: Counter[str] = Counter()
        self.not_counted: Counter[str] = Counter()
        self.slowest_recovery = 0.0

    @property
    def acknowledged(self) -> Counter[str]:
        told: Counter[str] = Counter()
        for (path, _), times in self.places.items():
            told[path] += times
        return told

    async def send(self, recorder: Recorder, hits: int) -> None:
        """Record hits one after the other; one that is not acknowledged is followed by another."""
        draw = random.Random(f"{self._seed} {next(self._numbers)}")
        acknowledged, waiting_since = 0, time.monotonic()
        while acknowledged < hits:
            path = draw.choice(PATHS)
            self.sent[path] += 1
            try:
                place = await recorder.record(path, PLAIN)
            except InDoubt:
                self.in_doubt[path] += 1
            except NotRecorded as reason:
                self.not_counted[str(reason)] += 1
                await asyncio.sleep(0.01)
            else:
                self.places[place] += 1
                acknowledged += 1
                self.slowest_recovery = max(self.slowest_recovery, time.monotonic() - waiting_since)
                waiting_since = time.monotonic()


@pytest.mark.usefixtures("tables")
def test_whatever_befalls_a_statement_each_hit_is_counted_once_and_503_says_what_became_of_it(trial: Trial):
    hits, faults = Hits(trial.seed), Faults(trial.seed, FAULT_RATE)
    each = trial.times(300, 3_000)

    async def run() -> None:
        recorders = [Recorder(PostgresWriter(conninfo(), connect=faults.connect)) for _ in range(RECORDERS)]
        for recorder in recorders:
            await recorder.start()
        await asyncio.gather(*[hits.send(recorder, each) for recorder in recorders for _ in range(CLIENTS)])
        for recorder in recorders:
            await recorder.close()

    asyncio.run(run())
    counts = Counter(dict(models.Counter.objects.values_list("path", "hits")))
    outcome = Outcome.of(
        "injected before send, after send, after commit",
        faults.met.total(),
        sent=hits.sent,
        acknowledged=hits.acknowledged,
        counts=counts,
        recovery=hits.slowest_recovery,
        besides=f"{hits.in_doubt.total():,} answered in doubt",
    )
    trial.note(outcome)
    assert faults.met.keys() == set(FAULTS)
    assert hits.not_counted
    assert set(hits.places.values()) == {1}, "two hits were told the same place"
    assert hits.acknowledged <= counts <= hits.acknowledged + hits.in_doubt
    assert all(place <= counts[path] for path, place in hits.places)
    call_command("verifycounts", verbosity=0)


class Rivals:
    """Other sessions that are in the way of the counters of some paths, until the end."""

    def __init__(self, url: str, paths: Sequence[str], seed: str, number: int = 3) -> None:
        self._url = url
        self._ids = sorted(map(counter_id, paths))
        self._seed = seed
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[n]) for n in range(number)]

    def __enter__(self) -> "Rivals":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        draw = random.Random(f"{self._seed} rival {number}")
        with psycopg.connect(self._url, autocommit=True) as session:
            session.execute("SET lock_timeout = 0; SET statement_timeout = 0")
            while not self._ended.wait(draw.uniform(0, 0.05)):
                with suppress(psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                    self._be_in_the_way(session, draw)

    def _be_in_the_way(self, session: psycopg.Connection[Any], draw: random.Random) -> None:
        """Lock some counters in the order that nobody else has, wait a little, and change one; or hold one for long."""
        held = sorted(draw.sample(self._ids, draw.choice([1, 3])), reverse=True)
        patience = draw.choice(["10ms", "60s"])  # who looks for a deadlock first is the one who is given up
        with session.transaction():
            session.execute(f"SET LOCAL deadlock_timeout = '{patience}'")
            for id in held:
                session.execute("SELECT 1 FROM counters_counter WHERE id = %s FOR UPDATE", [id])
                time.sleep(draw.uniform(0, 0.02))
            session.execute("UPDATE counters_counter SET last_hit = last_hit WHERE id = %s", [held[0]])
            if draw.random() < 0.1:
                time.sleep(draw.uniform(0.2, 0.4))


@contextmanager
def limits_of_all_sessions(url: str) -> Iterator[None]:
    """Sessions that begin meanwhile have LIMITS."""
    with psycopg.connect(url, autocommit=True) as session:
        [name] = session.execute("SELECT current_database()").fetchone() or [""]
        for limit, value in LIMITS.items():
            session.execute(f"ALTER DATABASE {name} SET {limit} = '{value}'")
        yield
        for limit in LIMITS:
            session.execute(f"ALTER DATABASE {name} RESET {limit}")


def errors_of(services: Sequence[Service]) -> Counter[str]:
    """How many attempts to commit a batch failed, by kind, as the services' metrics tell."""
    found: Counter[str] = Counter()
    for service in services:
        for kind, number in re.findall(r'hitcounter_database_errors_total{kind="(\w+)"} (\d+)', metrics(service)):
            found[kind] += int(number)
    return found


def metrics(service: Service) -> str:
    answer = service.get("/metrics")
    answer.raise_for_status()
    return answer.text


def wait_for_errors(services: Sequence[Service], load: Load, kind: str, number: int) -> None:
    """Return when so many attempts have failed in this way; hits are acknowledged meanwhile."""
    deadline = time.monotonic() + 300
    while errors_of(services)[kind] < number:
        assert time.monotonic() < deadline, errors_of(services)
        load.wait_for(100)


@pytest.mark.long
def test_services_and_others_in_each_others_way_count_each_hit_once(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    times = trial.times(30, 300)
    with ExitStack() as running, limits_of_all_sessions(database.url):
        services = [running.enter_context(Service(tmp_path, DATABASE_URL=database.url)) for _ in range(2)]
        with Load(services, "/api/conflict/", trial.seed) as load:
            load.wait_for(300)
            with Rivals(database.url, load.paths, trial.seed):
                wait_for_errors(services, load, "conflict", times)
            load.wait_for(300)
        errors = errors_of(services)
        with psycopg.connect(database.url) as session:
            [deadlocks] = session.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    with Service(tmp_path, DATABASE_URL=database.url) as service:
        besides = f"{deadlocks[0]} deadlocks, {errors['failed']} batches given up"
        trial.settle("deadlocks and lock timeouts, two services", errors["conflict"], load, service, besides)
    assert deadlocks[0] > 0
    assert load.answers.keys() <= {200, 503}, load.answers


@pytest.mark.long
def test_batches_in_others_way_are_counted_once_when_they_are_sent_again(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    times = trial.times(300, 5_000)
    with limits_of_all_sessions(database.url), Service(tmp_path, DATABASE_URL=database.url) as service:
        batches = KeyedLoad(service, "/api/conflict/", trial.seed, connections=20)
        with Rivals(database.url, [f"/api/conflict/{n}" for n in range(20)], trial.seed):
            batches.keep_sending(lambda: batches.answers[200] >= times)
        refused = batches.answers[503]
    with Service(tmp_path, DATABASE_URL=database.url) as service:
        fault = "deadlocks, serialization errors, lock timeouts, hits under keys"
        trial.settle(fault, refused, batches, service)
    assert batches.answers.keys() == {200, 503}, batches.answers
    assert [reason for reason in batches.reasons if "in the way" in reason], batches.reasons


class FailingService(Service):
    """The real service, on a database that is up to date, with a writer whose statements fail on purpose."""

    command = [sys.executable, "-m", "tests.faults.failing"]


@pytest.mark.long
def test_a_service_whose_statements_fail_counts_each_hit_once(tmp_path: Path, database: PrivatePostgres, trial: Trial):
    settings = {"INJECTED_SEED": trial.seed, "INJECTED_RATE": str(FAULT_RATE), "HITCOUNTER_WORKERS": "2"}
    times = trial.times(50, 1_000)
    with FailingService(tmp_path, DATABASE_URL=database.url, **settings) as service:
        with Load(service, "/api/injected/", trial.seed) as load:
            wait_for_errors([service], load, "lost", times)
        errors = errors_of([service])
    with Service(tmp_path, DATABASE_URL=database.url) as service:
        trial.settle("injected in a service", errors.total(), load, service)
    assert errors["conflict"] and errors["failed"]
    assert load.answers.keys() <= {200, 503}, load.answers
