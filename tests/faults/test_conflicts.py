"""Deadlocks, serialization errors, timeouts and lost connections, real and injected: each hit is counted once."""

import asyncio
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from counters.ingest.writer import NAME, PostgresWriter
from hitcounter.asgi import conninfo
from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.faults.injected import ERRORS, FAULTS, Faults
from tests.faults.trials import Outcome
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.service import Service

PATHS = [f"/api/conflict/{n}/" for n in range(20)]
RECORDERS = 4
CLIENTS = 5  # of each, so that batches are many and small
FAULT_RATE = 0.1
#: Every session of the database has them unless it says otherwise, as one that others share may have. The writer says
#: otherwise of isolation and of statement_timeout (writer_session.sql), batches of the latter (bulk_session.sql).
LIMITS = {"deadlock_timeout": "20ms", "lock_timeout": "200ms", "default_transaction_isolation": "serializable"}
#: Of the writers of two services, set when they have made their own settings.
WRITERS_LIMITS = ({"default_transaction_isolation": "serializable"}, {"statement_timeout": "100ms"})
RIVAL = "rival"
BATCHES = "[unknown]"  # so the log calls sessions without a name, as Django's are
WAIT_SECONDS = 300


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
        at_most=hits.acknowledged + hits.in_doubt,
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
        with psycopg.connect(self._url, autocommit=True, application_name=RIVAL) as session:
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


class Canceller:
    """An operator, or a proxy, that cancels what the sessions of others run, until the end."""

    def __init__(self, url: str, seed: str) -> None:
        self._url = url
        self._draw = random.Random(f"{seed} canceller")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Canceller":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        active = (
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND application_name <> %s"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid"
        )
        with psycopg.connect(self._url, autocommit=True, application_name=RIVAL) as session:
            while not self._ended.wait(self._draw.uniform(0, 0.1)):
                if pids := session.execute(active, [RIVAL]).fetchall():
                    session.execute("SELECT pg_cancel_backend(%s)", self._draw.choice(pids))


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


class FailingService(Service):
    """The real service, on a database that is up to date, with a writer whose statements fail on purpose."""

    command = [sys.executable, "-m", "tests.faults.failing"]

    def __init__(
        self, data_dir: Path, seed: str, rate: float, limits: Mapping[str, str] | None = None, **environment: str
    ) -> None:
        super().__init__(data_dir, **environment)
        self._told = data_dir / f"faults-{self.port}"
        self._told.touch()
        self.environment |= {
            "INJECTED_SEED": seed,
            "INJECTED_RATE": str(rate),
            "INJECTED_LIMITS": json.dumps(limits or {}),
            "INJECTED_TOLD": str(self._told),
        }

    def faults(self) -> Counter[str]:
        """How often each has happened."""
        return Counter(self._told.read_text().splitlines())


class ErrorsTold:
    """The errors that a server tells its sessions from now on, as its own log has them."""

    SETTINGS = {"log_line_prefix": "%a|%e|", "log_error_verbosity": "terse", "log_min_error_statement": "panic"}

    def __init__(self, database: PrivatePostgres) -> None:
        self._log = database.log
        self._read = 0
        self._told: Counter[tuple[str, str]] = Counter()
        with psycopg.connect(database.url, autocommit=True) as session:
            for setting, value in self.SETTINGS.items():
                session.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
            session.execute("SELECT pg_reload_conf()")

    def to(self, application: str) -> Counter[str]:
        """How often sessions of this name were told each of ERRORS."""
        with open(self._log, "rb") as log:
            log.seek(self._read)
            whole_lines = log.read().rpartition(b"\n")[0]
        self._read += len(whole_lines)
        self._told.update(re.findall(r"^(.*)\|(\w{5})\|ERROR:", whole_lines.decode(errors="replace"), re.M))
        return Counter({code: self._told[application, code] for code in ERRORS})


def in_words(told: Counter[str]) -> str:
    return ", ".join(f"{number:,} × {what}" for what, number in told.items())


def waiting_for(told: ErrorsTold, application: str, number: int) -> Callable[[], bool]:
    """Whether sessions were told so many errors, each of the four at least a fifteenth of that."""
    deadline = time.monotonic() + WAIT_SECONDS

    def come_about() -> bool:
        errors = told.to(application)
        assert time.monotonic() < deadline, errors
        return errors.total() >= number and min(errors.values()) >= number / 15

    return come_about


@pytest.mark.long
def test_services_and_others_in_each_others_way_count_each_hit_once(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    told = ErrorsTold(database)
    enough = waiting_for(told, NAME, trial.times(30, 300))
    with ExitStack() as running, limits_of_all_sessions(database.url):
        services = [
            running.enter_context(FailingService(tmp_path, trial.seed, 0, limits, DATABASE_URL=database.url))
            for limits in WRITERS_LIMITS
        ]
        with Load(services, "/api/conflict/", trial.seed) as load:
            load.wait_for(300)
            with Rivals(database.url, load.paths, trial.seed):
                while not enough():
                    load.wait_for(100)
            load.wait_for(300)
    with Service(tmp_path, DATABASE_URL=database.url) as service:
        fault = "deadlocks, serialization errors, lock and statement timeouts, two services"
        errors = told.to(NAME)
        trial.settle(fault, errors.total(), load, service, in_words(errors))
    assert load.answers.keys() <= {200, 503}, load.answers


@pytest.mark.long
def test_batches_in_others_way_are_counted_once_when_they_are_sent_again(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    times = trial.times(300, 5_000)
    told = ErrorsTold(database)
    enough = waiting_for(told, BATCHES, trial.times(30, 300))
    with limits_of_all_sessions(database.url), Service(tmp_path, DATABASE_URL=database.url) as service:
        batches = KeyedLoad(service, "/api/conflict/", trial.seed, connections=20)
        paths = [f"/api/conflict/{n}" for n in range(20)]
        with Rivals(database.url, paths, trial.seed), Canceller(database.url, trial.seed):
            batches.keep_sending(lambda: batches.answers[200] >= times and enough())
    with Service(tmp_path, DATABASE_URL=database.url) as service:
        fault = "deadlocks, serialization errors, lock timeouts, statements cancelled, hits under keys"
        errors = told.to(BATCHES)
        trial.settle(fault, errors.total(), batches, service, f"{batches.answers[503]:,} times 503; {in_words(errors)}")
    assert batches.answers.keys() == {200, 503}, batches.answers
    for reason in ("in the way", "could not do it now"):
        assert [given for given in batches.reasons if reason in given], batches.reasons


@pytest.mark.long
def test_a_service_whose_statements_fail_counts_each_hit_once(tmp_path: Path, database: PrivatePostgres, trial: Trial):
    times, ways = trial.times(100, 2_000), {" ".join(fault) for fault in FAULTS}
    settings = {"DATABASE_URL": database.url, "HITCOUNTER_WORKERS": "2"}
    with FailingService(tmp_path, trial.seed, FAULT_RATE, **settings) as service:
        with Load(service, "/api/injected/", trial.seed) as load:
            deadline = time.monotonic() + WAIT_SECONDS
            while service.faults().total() < times or service.faults().keys() != ways:
                assert time.monotonic() < deadline, service.faults()
                load.wait_for(100)
        faults = service.faults()
    with Service(tmp_path, DATABASE_URL=database.url) as service:
        besides = f"each of {len(ways)} ways at least {min(faults.values())} times"
        trial.settle("injected in a service", faults.total(), load, service, besides)
    assert load.answers.keys() == {200, 503}, load.answers
