"""A pytest plugin: real PostgreSQL for the tests, a private one of their own when DATABASE_URL names none."""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import sql


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Start the server before pytest-django reads the settings, and stop it when pytest is done."""
    scratch = Path(tempfile.mkdtemp(prefix="hitcounter-tests-"))
    early_config.add_cleanup(lambda: shutil.rmtree(scratch))
    # Tests write no secret beside those of a real installation.
    os.environ["HITCOUNTER_DATA_DIR"] = str(scratch)
    os.environ.setdefault("HITCOUNTER_TESTS_DIR", str(scratch))  # the processes that this one starts share it
    from hitcounter.environment import env

    if env.str("DATABASE_URL", ""):
        return
    from hitcounter.postgres import PrivatePostgres

    held = ExitStack()
    os.environ["DATABASE_URL"] = held.enter_context(PrivatePostgres(scratch / "postgres").held()).url
    early_config.add_cleanup(held.close)
    _do_not_wait_for_the_disk(os.environ["DATABASE_URL"])


def _do_not_wait_for_the_disk(url: str) -> None:
    """Nobody needs this server's data after its machine has crashed."""
    with psycopg.connect(url, autocommit=True) as session:
        for name in ("fsync", "full_page_writes"):
            session.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
        session.execute("SELECT pg_reload_conf()")
