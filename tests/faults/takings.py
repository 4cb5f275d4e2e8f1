"""What resets and forgetting take off the counters, written down by the database itself, in the same transactions."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, LiteralString

import psycopg

from tests.processes import wait_until
from tests.service import PROJECT, Service

WAIT_SECONDS = 60
#: So many kills are tried for one that comes amid the work.
TRIED_FOR_ONE = 30

_NOTE: LiteralString = """
CREATE TABLE taken_off (path text NOT NULL, hits bigint NOT NULL);
CREATE FUNCTION note_taken_off() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO taken_off VALUES (OLD.path, OLD.hits - CASE TG_OP WHEN 'UPDATE' THEN NEW.hits ELSE 0 END);
    RETURN NULL;
END $$;
CREATE TRIGGER note_lowered AFTER UPDATE OF hits ON counters_counter
    FOR EACH ROW WHEN (NEW.hits < OLD.hits) EXECUTE FUNCTION note_taken_off();
CREATE TRIGGER note_deleted AFTER DELETE ON counters_counter
    FOR EACH ROW WHEN (OLD.hits > 0) EXECUTE FUNCTION note_taken_off();
"""
_HOLDER: LiteralString = """
SELECT a.pid, a.application_name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted
AND (l.classid::bigint << 32 | l.objid::bigint) = hashtextextended('counters ' || %s, 0)
"""
#: What the database calls the sessions of commands that are to be killed.
TRIED = "tried"
_SESSIONS: LiteralString = "SELECT query FROM pg_stat_activity WHERE application_name = 'tried'"


class Takings:
    """A session that sees what is taken off, whoever does it, and whether he was killed or not."""

    def __init__(self, session: psycopg.Connection[Any]) -> None:
        self._session = session
        session.execute(_NOTE)

    def hits(self) -> Counter[str]:
        """Of each path."""
        rows = self._session.execute("SELECT path, sum(hits)::bigint FROM taken_off GROUP BY path")
        return Counter(dict(rows.fetchall()))

    def times(self) -> Counter[str]:
        """How often something was taken off each path."""
        return Counter(dict(self._session.execute("SELECT path, count(*) FROM taken_off GROUP BY path").fetchall()))


def holder(session: psycopg.Connection[Any], lock: str) -> tuple[int, str] | None:
    """The session that is amid a reset, or maintenance: its process and its name."""
    return session.execute(_HOLDER, [lock]).fetchone()


def is_amid(session: psycopg.Connection[Any], lock: str) -> bool:
    """Whether a command that was `started` is."""
    return (holder(session, lock) or (0, ""))[1] == TRIED


def queries(session: psycopg.Connection[Any]) -> list[str]:
    """What commands that were `started` have the database do, or had it do last."""
    return [query for (query,) in session.execute(_SESSIONS).fetchall()]


def started(service: Service, *arguments: str) -> subprocess.Popen[str]:
    """`manage.py` beside the service, in a group of its own, at work."""
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env={**service.environment, "PGAPPNAME": TRIED},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_amid(
    command: subprocess.Popen[str], begun: Callable[[], bool], pause: float, session: psycopg.Connection[Any]
) -> bool:
    """Send SIGKILL a while after a command has begun its work, and wait until the database has noticed.

    Return whether it was still amid that work.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while command.poll() is None and not begun():
        assert time.monotonic() < deadline, "it has not begun"
        time.sleep(0.002)
    time.sleep(pause)
    amid = begun()
    command.kill()
    command.communicate()
    wait_until(lambda: not queries(session))
    return amid and command.returncode == -signal.SIGKILL


def times_amid(wanted: int, attempt: Callable[[], bool]) -> int:
    """Have something killed until that came amid its work as often as wanted; return how often it was tried."""
    tried = amid = 0
    while amid < wanted:
        assert tried < wanted * TRIED_FOR_ONE, f"only {amid} of {tried} kills came amid the work"
        tried, amid = tried + 1, amid + attempt()
    return tried


def of(tried: int) -> str:
    return f"amid the work, {tried} tried"


def done(service: Service, *arguments: str) -> str:
    """What a command printed that went well; it is repeated while one that was killed still ends in the database."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (ran := service.manage(*arguments)).returncode != 0:
        assert "is running" in ran.stderr and time.monotonic() < deadline, ran.stderr
    return ran.stdout + ran.stderr
