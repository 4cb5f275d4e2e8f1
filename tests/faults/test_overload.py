"""More hits come than a service can take: those that it takes in count soon, others are refused, memory has a bound."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from counters.ingest.writer import NAME, RECORD_BATCH
from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.flood import Flood
from tests.keyed import KeyedLoad
from tests.processes import memory, workers
from tests.proxy import SlowProxy
from tests.service import Service

MB = 2**20
MOST_GROWTH = 100 * MB
#: How late each answer of the database is. A worker has one batch under way, of as many hits as wait at most.
BATCH_SECONDS = 0.5
QUEUE, WORKERS = 10, 2
CAPACITY = WORKERS * QUEUE / BATCH_SECONDS
#: A hit waits for the batch before it and for its own; the rest is what the machine, which the client has a share of,
#: needs for both.
WAIT_SECONDS = 2 * BATCH_SECONDS + 0.5
CONNECTIONS = 2_000
SENDERS = 500


class Growth:
    """How much more memory the workers of a service hold than in the beginning, at most."""

    def __init__(self, service: Service) -> None:
        self._workers = workers(service)
        self._before = memory(*self._workers)
        self.bytes = 0

    def look(self) -> None:
        self.bytes = max(self.bytes, memory(*self._workers) - self._before)

    def __str__(self) -> str:
        return f"{self.bytes / MB:.0f} MB more memory"


@contextmanager
def watched(service: Service) -> Iterator[Growth]:
    """Look again and again."""
    growth, done = Growth(service), threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            growth.look()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield growth
    finally:
        done.set()
        watching.join()


def begin_the_day(service: Service, database: PrivatePostgres) -> None:
    """Have each worker write a batch: the first one of a day asks the database for more than itself."""
    begun = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND starts_with(query, %s)"
    with psycopg.connect(database.url, autocommit=True) as session:
        while session.execute(begun, [NAME, RECORD_BATCH[:30].decode()]).fetchone() != (WORKERS,):
            Flood(service, "/api/before/").press(100, 0.2)


@pytest.mark.long
def test_of_ten_times_the_hits_that_it_can_take_a_service_counts_what_it_can_and_refuses_the_others(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    seconds = trial.times(6, 60)
    with SlowProxy(f"{database.socket_directory}/.s.PGSQL.5432") as proxy:
        settings = {"HITCOUNTER_QUEUE": str(QUEUE), "HITCOUNTER_WORKERS": str(WORKERS)}
        with Service(tmp_path, DATABASE_URL=proxy.url, **settings) as service:
            begin_the_day(service, database)
            proxy.seconds = BATCH_SECONDS
            flood = Flood(service, "/api/overload/", trial.seed)
            with watched(service) as growth:
                flood.offer(10 * CAPACITY, seconds)
            proxy.seconds = 0
            taken = flood.answers[200] / seconds
            told = (
                f"{10 * CAPACITY:,.0f} hits/s offered, {taken:,.0f} taken, p99 {flood.wait_at(0.99):.2f} s,"
                f" 503 within {max(flood.waits[503]):.2f} s, {growth}"
            )
            trial.settle("overload: ten times", seconds, flood, service, told)
    assert flood.answers.keys() == {200, 503}, flood.answers
    assert taken > CAPACITY / 2, "hits were refused that it could take"
    assert flood.wait_at(0.99) < WAIT_SECONDS
    assert growth.bytes < MOST_GROWTH


@pytest.mark.long
def test_thousands_of_connections_at_full_speed_get_their_answers(own_service: Service, trial: Trial):
    seconds = trial.times(5, 30)
    flood = Flood(own_service, "/api/pressed/", trial.seed)
    with watched(own_service) as growth:
        flood.press(CONNECTIONS, seconds)
    told = f"{flood.answers[200] / seconds:,.0f} hits/s, p99 {flood.wait_at(0.99):.2f} s, {growth}"
    outcome = trial.settle(f"overload: {CONNECTIONS:,} connections", seconds, flood, own_service, told)
    assert flood.answers.keys() <= {200, 503}, flood.answers
    assert outcome.counted == outcome.acknowledged
    assert growth.bytes < MOST_GROWTH


@pytest.mark.long
def test_batches_that_too_many_send_at_once_are_counted_once(tmp_path: Path, database: PrivatePostgres, trial: Trial):
    seconds = trial.times(6, 30)
    proxy = SlowProxy(f"{database.socket_directory}/.s.PGSQL.5432")
    with proxy, Service(tmp_path, DATABASE_URL=proxy.url, HITCOUNTER_WORKERS=str(WORKERS)) as service:
        batches = KeyedLoad(service, "/overload/", trial.seed, connections=SENDERS)
        batches.pause_seconds = 1  # as Retry-After has it
        proxy.seconds, until = BATCH_SECONDS, time.monotonic() + seconds

        def over() -> bool:
            if time.monotonic() > until:
                proxy.seconds = 0  # those that have been refused until now have their turn
            return not proxy.seconds

        with watched(service) as growth:
            batches.keep_sending(over)
        told = f"{SENDERS} senders at once, {batches.answers[503]:,} times 503, {growth}"
        trial.settle("overload: hits under keys", seconds, batches, service, told)
    assert batches.answers.keys() == {200, 503}, batches.answers
    assert growth.bytes < MOST_GROWTH
