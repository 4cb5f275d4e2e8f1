"""An import that is killed again and again, beside live hits, comes to the same as one that was let alone."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.load import Load
from tests.service import PROJECT, Service

pytestmark = pytest.mark.long

REPEATED = 10
WAIT_SECONDS = 120
#: Paths of the log that are hit meanwhile, too; the others are not.
BOTH, LOG_ALONE = "/api/both/", "/shop/"
#: The days of the log are kept as they are.
KEPT = {"HITCOUNTER_KEEP_HITS_DAYS": "36500", "HITCOUNTER_KEEP_HOURS_DAYS": "36500"}
#: manage.py with smaller transactions, so that there are enough of them in a log of this size.
MANAGE = "import sys, manage; from counters import logfiles; logfiles.BLOCK_BYTES = 130_000; sys.exit(manage.main())"


def manage(service: Service, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MANAGE, *arguments],
        cwd=PROJECT,
        env=service.environment,
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
        number = int(draw.paretovariate(0.5)) % 2000
        path = f"{BOTH}{number}/" if number < 10 else f"{LOG_ALONE}{number}"
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


def test_an_import_that_is_killed_beside_live_hits_counts_every_line_once(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    kills, file = trial.times(4, 20), str(tmp_path / "access.log")
    log = Log(tmp_path / "access.log", trial.draw)
    with (
        Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1", **KEPT) as service,
        psycopg.connect(database.url, autocommit=True) as session,
    ):
        with Load(service, BOTH, trial.seed, clients=4) as load:
            for _ in range(kills):
                pause = trial.draw.uniform(0, 0.05)
                kill_when_it_has_moved_on(manage(service, "importlog", file), session, pause)
            counted = lines_imported(session)
            assert 0 < counted < log.lines
            assert output(manage(service, "importlog", file)) == (
                f"{file}: {log.lines - counted:,} new lines, {log.lines - counted:,} hits.\n"
            )
            assert output(manage(service, "importlog", file)) == f"{file}: 0 new.\n"
        assert load.answers.keys() == {200}, load.answers
        load.sent += log.paths
        load.acknowledged += log.paths
        outcome = trial.settle("importlog killed", kills, load, service)
        assert outcome.counted == outcome.sent
        assert_the_days_of_the_log_are_its_own(session, log)


def assert_the_days_of_the_log_are_its_own(session: psycopg.Connection[Any], log: Log) -> None:
    hours = (
        "SELECT c.path, to_char(h.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24'), h.hits"
        " FROM counters_hourlyhits AS h JOIN counters_counter AS c ON c.id = h.counter_id WHERE h.hour < '2026-04-01Z'"
    )
    assert {(path, hour): hits for path, hour, hits in rows(session, hours)} == log.hours
    visitors = "SELECT DISTINCT (at AT TIME ZONE 'UTC')::date, visitor FROM counters_hit WHERE at < '2026-04-01Z'"
    assert len(rows(session, visitors)) == len(log.visitors)
