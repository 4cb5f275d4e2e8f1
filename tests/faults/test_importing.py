"""An import that is killed again and again comes to the same as one that was let alone."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hitcounter.postgres import PrivatePostgres
from tests.service import PROJECT, put_database

pytestmark = pytest.mark.long

SEED = 20260301
KILLS = 20
REPEATED = 30
WAIT_SECONDS = 60
#: manage.py with smaller transactions, so that there are enough of them in a log of this size.
MANAGE = "import sys, manage; from counters import logfiles; logfiles.BLOCK_BYTES = 400_000; sys.exit(manage.main())"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """A PostgreSQL of the test's own, with tables."""
    with PrivatePostgres(put_database(tmp_path / "postgres")).held() as running:
        yield running


def manage(database: PrivatePostgres, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MANAGE, *arguments],
        cwd=PROJECT,
        env={**os.environ, "DATABASE_URL": database.url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    with process:
        printed, _ = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, printed
    return printed


class Log:
    """A log of our own, whose figures are known from how it is made."""

    def __init__(self, path: Path, draw: random.Random) -> None:
        self.paths: Counter[str] = Counter()
        self.hours: Counter[tuple[str, str]] = Counter()
        self.visitors: set[tuple[int, int, int]] = set()  # day of the month, address, user agent
        text = "".join(self._line(draw) for _ in range(10_000))
        path.write_text(text * REPEATED)
        self.lines = 10_000 * REPEATED

    def _line(self, draw: random.Random) -> str:
        day, hour, visitor, version = draw.randint(1, 4), draw.randint(0, 23), draw.randint(0, 999), draw.randint(1, 9)
        path = f"/shop/{int(draw.paretovariate(0.5)) % 2000}"
        self.paths[path] += REPEATED
        self.hours[path, f"2026-03-{day:02} {hour:02}"] += REPEATED
        self.visitors.add((day, visitor, version))
        time = f"{day:02}/Mar/2026:{hour:02}:{draw.randint(0, 59):02}:{draw.randint(0, 59):02} +0000"
        address = f"192.0.{visitor // 250}.{visitor % 250}"
        return f'{address} - - [{time}] "GET {path}?{visitor} HTTP/1.1" 200 9 "-" "Firefox/{version}"\n'


def rows(session: psycopg.Connection[Any], statement: str) -> list[Any]:
    return session.execute(statement).fetchall()


def lines_imported(session: psycopg.Connection[Any]) -> int:
    return sum(lines for (lines,) in rows(session, "SELECT lines FROM counters_importedlog"))


def kill_when_it_has_moved_on(importing: subprocess.Popen[str], session: psycopg.Connection[Any], pause: float) -> None:
    """Send SIGKILL a while after the next commit."""
    before, deadline = lines_imported(session), time.monotonic() + WAIT_SECONDS
    with importing:
        while lines_imported(session) == before:
            assert importing.poll() is None, "the import ended before it could be killed"
            assert time.monotonic() < deadline, "nothing is imported"
            time.sleep(0.01)
        time.sleep(pause)
        importing.kill()


def test_an_import_that_is_killed_twenty_times_counts_every_line_once(tmp_path: Path, database: PrivatePostgres):
    draw = random.Random(SEED)
    log, file = Log(tmp_path / "access.log", draw), str(tmp_path / "access.log")
    with psycopg.connect(database.url, autocommit=True) as session:
        for _ in range(KILLS):
            kill_when_it_has_moved_on(manage(database, "importlog", file), session, draw.uniform(0, 0.05))
        counted = lines_imported(session)
        assert 0 < counted < log.lines
        assert output(manage(database, "importlog", file)) == (
            f"{file}: {log.lines - counted:,} new lines, {log.lines - counted:,} hits.\n"
        )
        assert output(manage(database, "importlog", file)) == f"{file}: 0 new.\n"
        assert dict(rows(session, "SELECT path, hits FROM counters_counter")) == log.paths
        hours = (
            "SELECT c.path, to_char(h.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24'), h.hits"
            " FROM counters_hourlyhits AS h JOIN counters_counter AS c ON c.id = h.counter_id"
        )
        assert {(path, hour): hits for path, hour, hits in rows(session, hours)} == log.hours
        visitors = "SELECT DISTINCT (at AT TIME ZONE 'UTC')::date, visitor FROM counters_hit"
        assert len(rows(session, visitors)) == len(log.visitors)
    assert "the books balance" in output(manage(database, "verifycounts"))
