"""More hits come than a service can take: those that it takes in count soon, others are refused, memory has a bound."""

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from counters.ingest.writer import NAME, RECORD_BATCH
from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.faults.growth import LEVEL, MOST_GROWTH, watched
from tests.flood import Flood, files_for
from tests.keyed import KeyedLoad
from tests.processes import wait_until
from tests.proxy import SlowProxy
from tests.service import Service

WORKERS = 2
#: How late each answer of the database is. A worker has one batch under way, of as many hits as wait at most.
BATCH_SECONDS = 4
PATIENCE_SECONDS = 3 * BATCH_SECONDS
QUEUE = 500
#: Of one worker.
CAPACITY = QUEUE / BATCH_SECONDS
#: A hit waits for the batch before it and for its own; the rest is what the machine, which the client has a share of,
#: needs for both.
WAIT_SECONDS = 2 * BATCH_SECONDS + 1
MOST_CONNECTIONS = 6_000
CONNECTIONS = 2_000
#: The queues have room for all of them: a hit waits for two batches at most, and for all others' answers.
PRESSED_SECONDS = 3
#: Late hits under keys: a batch takes several answers of the database.
SLOW_SECONDS = 0.5
SENDERS = 500


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """As many as connections need, here and in the service."""
    with files_for(MOST_CONNECTIONS):
        yield


def begin_the_day(service: Service, database: PrivatePostgres) -> None:
    """Have the worker write a batch: the first one of a day asks the database for more than itself."""
    begun = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND starts_with(query, %s)"
    with psycopg.connect(database.url, autocommit=True) as session:

        def has_begun() -> bool:
            Flood(service, "/api/before/").press(100, 0.2)
            return session.execute(begun, [NAME, RECORD_BATCH[:30].decode()]).fetchone() == (1,)

        wait_until(has_begun)


@pytest.mark.long
def test_of_ten_times_the_hits_that_it_can_take_a_service_counts_what_it_can_and_refuses_the_others(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    seconds = trial.times(12, 60)
    with SlowProxy(f"{database.socket_directory}/.s.PGSQL.5432") as proxy:
        settings = {"HITCOUNTER_QUEUE": str(QUEUE), "HITCOUNTER_PATIENCE_SECONDS": str(PATIENCE_SECONDS)}
        with Service(tmp_path, DATABASE_URL=proxy.url, HITCOUNTER_WORKERS="1", **settings) as service:
            begin_the_day(service, database)
            proxy.seconds = BATCH_SECONDS
            flood = Flood(service, "/api/overload/", trial.seed)
            with watched(service) as growth:
                flood.offer(10 * CAPACITY, seconds)
            proxy.seconds = 0
            offered, taken = flood.sent.total() / flood.seconds, flood.answers[200] / flood.seconds
            told = (
                f"{flood.seconds:.0f} s; {offered:,.0f} hits/s offered over {flood.connections:,} connections,"
                f" {taken:,.0f} taken, p99 {flood.wait_at(0.99):.2f} s; {flood.answers[503]:,} times 503; {growth}"
            )
            trial.settle("overload: ten times", 1, flood, service, told)
    assert offered > 9 * CAPACITY, "this client could not offer so many"
    assert flood.answers.keys() == {200, 503}, flood.answers
    assert taken > CAPACITY / 2, "hits were refused that it could take"
    assert flood.wait_at(0.99) < WAIT_SECONDS
    assert growth.bytes < MOST_GROWTH
    assert growth.late < LEVEL or not trial.chaos, "it does not level off"


@pytest.mark.long
def test_thousands_of_connections_at_full_speed_get_their_answers(own_service: Service, trial: Trial):
    seconds = trial.times(5, 30)
    flood = Flood(own_service, "/api/pressed/", trial.seed)
    with watched(own_service) as growth:
        flood.press(CONNECTIONS, seconds)
    rate = flood.answers[200] / flood.seconds
    told = f"{flood.seconds:.0f} s; {rate:,.0f} hits/s, p99 {flood.wait_at(0.99):.2f} s; {growth}"
    outcome = trial.settle(f"{CONNECTIONS:,} connections at full speed", 1, flood, own_service, told)
    assert flood.answers.keys() == {200}, flood.answers
    assert flood.wait_at(0.99) < PRESSED_SECONDS
    assert outcome.counted == outcome.acknowledged == outcome.sent
    assert growth.bytes < MOST_GROWTH
    assert growth.late < LEVEL or not trial.chaos, "it does not level off"


@pytest.mark.long
def test_batches_that_too_many_send_at_once_are_counted_once(tmp_path: Path, database: PrivatePostgres, trial: Trial):
    seconds = trial.times(6, 30)
    proxy = SlowProxy(f"{database.socket_directory}/.s.PGSQL.5432")
    with proxy, Service(tmp_path, DATABASE_URL=proxy.url, HITCOUNTER_WORKERS=str(WORKERS)) as service:
        batches = KeyedLoad(service, "/overload/", trial.seed, connections=SENDERS)
        batches.pause_seconds = 1  # as Retry-After has it
        proxy.seconds, until = SLOW_SECONDS, time.monotonic() + seconds

        def over() -> bool:
            if time.monotonic() > until:
                proxy.seconds = 0  # those that have been refused until now have their turn
            return not proxy.seconds

        with watched(service) as growth:
            batches.keep_sending(over)
        told = f"{seconds} s; {SENDERS} senders at once; {batches.answers[503]:,} times 503; {growth}"
        trial.settle("overload: hits under keys", 1, batches, service, told)
    assert batches.answers.keys() == {200, 503}, batches.answers
    assert growth.bytes < MOST_GROWTH
    assert growth.late < LEVEL or not trial.chaos, "it does not level off"
