"""The writer: commits one batch in one statement, and finds out what became of it when a connection is lost."""

import logging
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from uuid import uuid4

import psycopg
from psycopg import errors

from counters import days
from counters.hits import counter_ids, hour_of, now
from counters.ingest.recorder import BatchConflict, BatchError, BatchFailed, BatchRefused, ConnectionLost
from counters.ingest.session import Session
from counters.sql import load

logger = logging.getLogger(__name__)

RECORD_BATCH = load("record_batch").encode()
SETTLED_BATCH = load("settled_batch").encode()
PRUNE_BATCHES = load("prune_batches").encode()
PRUNE_LEDGER = load("prune_ledger").encode()
WRITER_SESSION = load("writer_session").encode()

CONNECT_SECONDS = 2
BATCHES_KEPT = 1_000
#: No writer is in doubt about a batch for so long: after that, the rows of writers that are gone are dropped.
LEDGER_KEPT = timedelta(days=7)

#: A server that vanishes without a word is noticed within seconds.
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
NAME = "hitcounter writer"
#: The session can write no more, another one may: the server has become read-only (25006), a pooler between has put it
#: on a server session that does not know the prepared statement (26000), a partition has been taken away (23514 without
#: the name of a constraint, below).
UNFIT_SESSION = ("25006", "26000")


class PostgresWriter:
    """Writes batches over one session of its own; `conninfo` names the database, `clock` gives the time (UTC)."""

    def __init__(self, conninfo: str, *, clock: Callable[[], datetime] = now) -> None:
        self._conninfo = conninfo
        self._clock = clock
        self._id = str(uuid4()).encode()
        self._session: Session | None = None
        self._days: set[date] = set()  # those whose partitions are known to be there

    async def connect(self) -> None:
        """Replace the session by a fresh one. Raises ConnectionLost when there is no database to reach."""
        await self.close()
        self._days = set()  # it may be another server, or an older state of it
        try:
            self._session = await Session.connect(
                self._conninfo,
                connect_timeout=CONNECT_SECONDS,
                application_name=NAME,
                **KEEPALIVE,
                target_session_attrs="read-write",
            )
            await self._session.execute(WRITER_SESSION)
            await self._session.prepare(b"record_batch", RECORD_BATCH)
            await _forget(self._session, PRUNE_LEDGER, [_text(self._clock() - LEDGER_KEPT)])
        except psycopg.Error as error:
            raise ConnectionLost(_sentence(error)) from error

    async def write(self, number: int, hits: Sequence[tuple[str, int]]) -> dict[str, int]:
        """Commit a batch and return each path's new total; see recorder.Writer."""
        if self._session is None:
            raise ConnectionLost("not connected")
        try:
            totals = await self._commit(self._session, number, hits)
            await self._prune(self._session, number)
        except psycopg.Error as error:
            raise _translated(error, lost=self._session.lost) from error
        return totals

    async def close(self) -> None:
        """Close the session, if there is one."""
        if self._session:
            await self._session.close()
            self._session = None

    async def _commit(self, session: Session, number: int, hits: Sequence[tuple[str, int]]) -> dict[str, int]:
        at = self._clock()
        await self._make_days(session, at.date())
        rows = sorted(zip(counter_ids([path for path, _ in hits]), hits, strict=True))
        parameters = [
            # Joined strings that SQL splits: building arrays in Python costs more than PostgreSQL's work.
            "\n".join([key for key, _ in rows]).encode(),
            "\n".join([path for _, (path, _) in rows]).encode(),
            "\n".join([str(n) for _, (_, n) in rows]).encode(),
            _text(at),
            _text(hour_of(at)),
            b"GET",
            self._id,
            b"%d" % number,
        ]
        try:
            [totals] = await session.execute_prepared(b"record_batch", parameters)
        except errors.UniqueViolation:
            [totals] = await session.execute(SETTLED_BATCH, [self._id, b"%d" % number])
        return {path: int(total) for (_, (path, _)), total in zip(rows, totals.split(b" "), strict=True)}

    async def _make_days(self, session: Session, today: date) -> None:
        if today not in self._days:
            for day in days.due(today):
                await session.execute(days.make_day(day).as_bytes())
            self._days = {today}

    async def _prune(self, session: Session, number: int) -> None:
        """Drop from the ledger, now and then, what this writer will not ask about again."""
        if number % BATCHES_KEPT == 0:
            await _forget(session, PRUNE_BATCHES, [self._id, b"%d" % number])


async def _forget(session: Session, statement: bytes, parameters: Sequence[bytes]) -> None:
    """Delete from the ledger; that it fails must neither unsay a commit nor keep a writer from its work."""
    try:
        await session.execute(statement, parameters)
    except psycopg.Error as error:
        logger.warning("The ledger was not pruned: %s", _sentence(error))


def _translated(error: psycopg.Error, *, lost: bool) -> BatchError:
    """The recorder's word for an error: PostgreSQL's error code tells what became of the transaction.

    Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    code = error.sqlstate or ""
    if lost or not code or code.startswith(("08", "57P")) or code in UNFIT_SESSION:
        return ConnectionLost(_sentence(error))
    if code.startswith("40") or code == "55P03":
        return BatchConflict(_sentence(error))
    if code == "23514" and not error.diag.constraint_name:
        return ConnectionLost(_sentence(error))
    if code.startswith(("22", "23", "54")):
        return BatchRefused(_sentence(error))
    return BatchFailed(_sentence(error))


def _text(at: datetime) -> bytes:
    return at.isoformat().encode()


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())
