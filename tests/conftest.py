from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connection, connections

from tests.service import Service

COUNTED_TABLES = (
    "counters_counter",
    "counters_hourlyhits",
    "counters_hit",
    "counters_dimensionset",
    "counters_visitorsalt",
    "counters_batchledger",
    "counters_idempotencykey",
    "counters_dailyhits",
    "counters_rollup",
    "counters_dailypaths",
    "counters_rolledday",
    "counters_lateday",
    "counters_retention",
    "counters_idempotencykey",
    "counters_importedlog",
    "counters_verification",
    "counters_apikey",
    "counters_sharelink",
    "axes_accessattempt",
    "axes_accessattemptexpiration",
)
SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """What stands beside the project where it is developed; a clone of its own has none."""
    if not SHARED.exists():
        pytest.skip("there is no ../shared beside this clone")
    return SHARED


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real service on a private PostgreSQL of its own, for tests that count on paths of their own."""
    with Service(tmp_path_factory.mktemp("service"), DATABASE_URL="") as running:
        yield running


@pytest.fixture
def tables(transactional_db: None) -> Iterator[Callable[[], None]]:
    """Committed data, for tests with several connections; call it to empty the tables, as is done before and after."""
    empty_tables()
    yield empty_tables
    empty_tables()


@pytest.fixture
def no_days(tables: Callable[[], None]) -> Iterator[None]:
    """Empty tables, and no day of the hit table, before and after."""
    from tests.oracle import drop_days

    drop_days()
    yield
    drop_days()


def empty_tables() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(COUNTED_TABLES)}")


@pytest.fixture(autouse=True)
def _pool_of_each_test() -> Iterator[None]:
    """Leave no pooled connection behind: a pool's threads would outlive the test database."""
    yield
    for one in connections.all(initialized_only=True):
        if getattr(one, "_connection_pools", None) and not one.in_atomic_block:
            one.close_pool()
