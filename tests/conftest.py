from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.test import TransactionTestCase, override_settings
from psycopg import sql

from tests.service import Service

#: What migrations leave, and what they write to the database by themselves: it stays from test to test.
KEPT_TABLES = ("django_migrations", "django_content_type", "auth_permission")
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
def afresh(tables: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """No hit and no day of the hit table; call it to have that again, as is done before and after."""
    from tests.oracle import drop_days

    def empty() -> None:
        empty_tables()
        drop_days()

    drop_days()
    yield empty
    drop_days()


def empty_tables() -> None:
    """Empty the tables that have rows: to truncate one takes a millisecond, even if there is nothing in it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace AND relname <> ALL (%s)",
            [list(KEPT_TABLES)],
        )
        tables = [sql.Identifier(name) for (name,) in cursor.fetchall()]
        first_rows = [sql.SQL("(SELECT {} FROM {} LIMIT 1)").format(table.as_string(), table) for table in tables]
        cursor.execute(sql.SQL(" UNION ALL ").join(first_rows).as_string())
        if written := [name for (name,) in cursor.fetchall()]:
            cursor.execute(f"TRUNCATE {', '.join(written)} CASCADE")


def leave_as_migrated() -> None:
    """Leave empty tables, and the partitions that migrations make."""
    from counters.apps import make_first_days

    empty_tables()
    make_first_days()


@pytest.fixture(scope="session", autouse=True)
def _quick_emptying() -> Iterator[None]:
    """After committed data, Django truncates all tables and makes all permissions anew; here, what was written goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: leave_as_migrated())
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_clients() -> Iterator[None]:
    """Each test's client has middleware of its own, which would find and look at all static files anew."""
    from whitenoise.middleware import WhiteNoiseMiddleware

    found: dict[str, Any] = {}
    find = WhiteNoiseMiddleware.add_files_from_finders

    def find_once(middleware: Any) -> None:
        if not found:
            find(middleware)
            found.update(middleware.files)
        middleware.files.update(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", find_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """Passwords of users whom tests make are hashed once: Django's own million times take a third of a second."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(autouse=True)
def _pool_of_each_test() -> Iterator[None]:
    """Leave no pooled connection behind: a pool's threads would outlive the test database."""
    yield
    for one in connections.all(initialized_only=True):
        if getattr(one, "_connection_pools", None) and not one.in_atomic_block:
            one.close_pool()
