import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from hitcounter.postgres import PrivatePostgres
from tests.faults.trials import OUTCOME, Outcome
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.service import Service, put_database

NOTHING: Counter[str] = Counter()
#: A worker's pool tries for two seconds at a time, and one attempt may have begun before the database was back.
READS_AGAIN_SECONDS = 10


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Service]:
    """A service that a test may break, with a PostgreSQL of its own."""
    with Service(tmp_path, DATABASE_URL="", HITCOUNTER_WORKERS="2") as running:
        yield running


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """A PostgreSQL that a test talks to itself, while a service uses it."""
    with PrivatePostgres(put_database(tmp_path / "postgres")).held() as running:
        yield running


class Trial:
    """One test of the suite: how often a fault is tried, what is drawn for it, and what came of it.

    `seed` is the run's, with the test's name; `pytest --randomly-seed=N` repeats it.
    """

    def __init__(self, request: pytest.FixtureRequest, record: Callable[[str, object], None]) -> None:
        self.chaos: bool = request.config.getoption("chaos")
        self.seed = f"{request.config.getoption('randomly_seed')} {request.node.name}"
        self.draw = random.Random(self.seed)
        self._record = record

    def times(self, shortened: int, whole: int) -> int:
        """How often: what `make chaos` does is the whole, everything else runs a shortened suite."""
        return whole if self.chaos else shortened

    def need(self, condition: object, reason: str) -> None:
        """Skip what cannot be tried here; where all is to be tried, that is a failure."""
        if not condition:
            (pytest.fail if self.chaos else pytest.skip)(reason)

    def note(self, outcome: Outcome) -> None:
        """Write down a row of the table."""
        self._record(OUTCOME, outcome.as_dict())

    def settle(
        self,
        fault: str,
        times: int,
        load: Load | KeyedLoad,
        service: Service,
        besides: str = "",
        taken_off: Counter[str] = NOTHING,
    ) -> Outcome:
        """Compare what was sent with what a service has counted, write it down, then fail where it does not hold.

        What was counted is what it has when nothing comes any more, and what resets have `taken_off`.
        """
        held = rested_counts(service) + taken_off
        counts = {path: hits for path, hits in held.items() if path in load.sent or path.startswith(load.prefix)}
        outcome = Outcome.of(
            fault,
            times,
            sent=load.sent,
            acknowledged=load.acknowledged,
            at_most=load.at_most,
            counts=counts,
            recovery=load.slowest_recovery,
            besides=besides,
        )
        self.note(outcome)
        load.assert_bounds_hold(counts)
        assert_books_balance(service)
        return outcome


def rested_counts(service: Service) -> Counter[str]:
    """The counts, once they rest: batches in doubt may still be settled by what is not asked any more."""
    counts: dict[str, int] | None = None
    while counts != (counts := _counts_soon(service)):
        time.sleep(0.5)
    return Counter(counts)


def _counts_soon(service: Service) -> dict[str, int]:
    """The counts; reads may still be answered 503 for a moment when hits are counted again."""
    deadline = time.monotonic() + READS_AGAIN_SECONDS
    while True:
        try:
            return service.counts()
        except requests.HTTPError as error:
            if error.response.status_code != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def assert_books_balance(service: Service) -> None:
    verified = service.manage("verifycounts")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "the books balance" in verified.stdout


@pytest.fixture
def trial(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Trial:
    return Trial(request, record_property)
