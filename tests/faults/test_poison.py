"""A hit that the database refuses comes amid thousands: it alone is refused, its neighbours are counted."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import requests

from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.processes import wait_until
from tests.service import Service

POISON = "/api/poison/"
_FUNCTION = f"""
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF starts_with(NEW.path, '{POISON}') THEN RAISE 'not this one' USING ERRCODE = '%s'; END IF;
        RETURN NEW;
    END $$;
"""
_AT_ONCE = _FUNCTION + (
    "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON counters_counter FOR EACH ROW EXECUTE FUNCTION refuse()"
)
_AT_COMMIT = _FUNCTION + (
    "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON counters_counter"
    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
)
_CHECK = f"ALTER TABLE counters_counter ADD CONSTRAINT no_poison CHECK (NOT starts_with(path, '{POISON}'))"
_REMOVED = (
    "DROP TRIGGER IF EXISTS refuse ON counters_counter",
    "DROP FUNCTION IF EXISTS refuse()",
    "ALTER TABLE counters_counter DROP CONSTRAINT IF EXISTS no_poison",
)
#: Ways in which PostgreSQL refuses a row: wrong data, each kind of constraint, a limit, what a trigger makes of it.
REFUSALS = {
    "a check": _CHECK,
    "at the commit": _AT_COMMIT % "23000",
    "a limit, at the commit": _AT_COMMIT % "54000",
    **{f"a trigger, {code}": _AT_ONCE % code for code in ("22001", "23503", "23505", "23514", "54000", "P0001")},
}


@pytest.fixture
def service(tmp_path: Path, database: PrivatePostgres) -> Iterator[Service]:
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="2") as running:
        yield running


@contextmanager
def refusing(database: PrivatePostgres, how: str) -> Iterator[None]:
    """Have the database refuse what is poison."""
    with psycopg.connect(database.url, autocommit=True) as session:
        session.execute(how)
        yield
        for statement in _REMOVED:
            session.execute(statement)


@pytest.mark.long
def test_a_hit_that_the_database_refuses_is_refused_alone(service: Service, database: PrivatePostgres, trial: Trial):
    times, poisoned = trial.times(20, 200), 0
    with Load(service, "/api/good/", trial.seed) as load:
        for refusal, how in REFUSALS.items():
            poison = Load(service, POISON, f"{trial.seed} {refusal}", clients=4)
            with refusing(database, how), poison:
                wait_until(lambda poison=poison: poison.answers.total() >= times)
                load.wait_for(100)
            assert poison.answers.keys() == {400}, (refusal, poison.answers)
            poisoned += poison.answers[400]
    slowest = f"200 within {load.slowest[200]:.2f} s, {len(REFUSALS)} ways to refuse"
    outcome = trial.settle("poison hit", poisoned, load, service, slowest)
    assert load.answers.keys() == {200}, load.answers
    assert outcome.sent == outcome.acknowledged == outcome.counted
    assert service.counts(POISON) == {}


@pytest.mark.long
def test_a_batch_with_a_hit_that_the_database_refuses_is_told_which_and_counts_without_it(
    service: Service, database: PrivatePostgres, trial: Trial
):
    times, batches = trial.times(5, 50), KeyedLoad(service, "/good/", trial.seed, connections=4)

    def poison() -> int:
        for refusal, how in REFUSALS.items():
            with refusing(database, how):
                for number in range(times):
                    assert_only_one_is_refused(service, batches, f"{refusal} {number}", trial)
        return times * len(REFUSALS)

    with ThreadPoolExecutor() as pool:
        poisoned = pool.submit(poison)
        batches.keep_sending(poisoned.done)
        trial.settle("poison hit, hits under keys", poisoned.result(), batches, service)
    assert service.counts(POISON) == {}


def assert_only_one_is_refused(service: Service, batches: KeyedLoad, key: str, trial: Trial) -> None:
    good = [{"path": f"/good/{trial.draw.randrange(20)}"} for _ in range(trial.draw.randrange(1, 200))]
    index = trial.draw.randrange(len(good) + 1)
    more_poison = [{"path": POISON}] * trial.draw.randrange(3)
    refused = send(service, key, [*good[:index], {"path": POISON}, *good[index:], *more_poison])
    assert (refused.status_code, refused.json()["index"]) == (400, index), (key, refused.text)
    batches.sent.update(hit["path"] for hit in good)
    assert send(service, key, good).json() == {"counted": len(good)}, key
    batches.acknowledged.update(hit["path"] for hit in good)


def send(service: Service, key: str, hits: list[dict[str, str]]) -> requests.Response:
    """Send hits until they are answered other than that the service cannot now."""
    while True:
        answer = requests.post(f"{service.url}/hits/", json=hits, headers={"Idempotency-Key": f'"{key}"'}, timeout=30)
        if answer.status_code != 503:
            return answer
        assert "way" in answer.json()["detail"], answer.text
        time.sleep(0.02)
