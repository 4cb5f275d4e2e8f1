"""The writer: commits one batch in one statement, and finds out what became of it when a connection is lost."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import AsyncConnection, AsyncCursor, errors, sql

from counters import days
from counters.hits import counter_ids, hour_of, now
from counters.ingest.recorder import BatchConflict, BatchError, BatchFailed, BatchRefused, ConnectionLost
from counters.sql import load

logger = logging.getLogger(__name__)

RECORD_BATCH = load("record_batch")
SETTLED_BATCH = load("settled_batch")
PRUNE_BATCHES = load("prune_batches")
PRUNE_LEDGER = load("prune_ledger")
SESSION = load("writer_session")

CONNECT_SECONDS = 2
BATCHES_KEPT = 1_000
#: No writer is in doubt about a batch for so long: after that, the rows of writers that are gone are dropped.
LEDGER_KEPT = timedelta(days=7)

#: A server that vanishes without a word is noticed within seconds.
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}


class PostgresWriter:
    """Writes batches over one connection of its own; `conninfo` names the database, `clock` gives the time."""

    def __init__(self, conninfo: str, *, clock: Callable[[], datetime] = now) -> None:
        self._conninfo = conninfo
        self._clock = clock
        self._id = uuid4()
        self._connection: AsyncConnection[Any] | None = None
        self._days: set[date] = set()

    async def connect(self) -> None:
        """Replace the connection by a fresh one. Raises ConnectionLost when there is no database to reach."""
        await self.close()
        try:
            self._connection = await AsyncConnection.connect(
                self._conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS,
                prepare_threshold=0, application_name="hitcounter writer", **KEEPALIVE,
            )  # fmt: skip
            await self._connection.execute(SESSION)
            await self._connection.execute(PRUNE_LEDGER, {"before": self._clock() - LEDGER_KEPT})
        except psycopg.Error as error:
            raise ConnectionLost(_sentence(error)) from error

    async def write(self, number: int, hits: Sequence[tuple[str, int]]) -> dict[str, int]:
        """Commit a batch and return each path's new total; see recorder.Writer."""
        await self._make_days()
        rows = sorted(zip(counter_ids([path for path, _ in hits]), hits, strict=True))
        try:
            totals = await self._commit(number, rows)
        except errors.UniqueViolation:
            totals = await self._one_value(SETTLED_BATCH, {"writer": self._id, "batch": number})
        if number % BATCHES_KEPT == 0:
            await self._prune(number)
        return {path: int(total) for (_, (path, _)), total in zip(rows, totals.split(" "), strict=True)}

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection:
            with suppress(psycopg.Error):
                await self._connection.close()
            self._connection = None

    async def _commit(self, number: int, rows: list[tuple[str, tuple[str, int]]]) -> str:
        at = self._clock()
        return await self._one_value(
            RECORD_BATCH,
            {
                # Joined strings that SQL splits: building arrays in Python costs more than PostgreSQL's work.
                "ids": "\n".join([key for key, _ in rows]),
                "paths": "\n".join([path for _, (path, _) in rows]),
                "hits": "\n".join([str(hits) for _, (_, hits) in rows]),
                "at": at,
                "hour": hour_of(at),
                "method": "GET",
                "writer": self._id,
                "batch": number,
            },
        )

    async def _one_value(self, statement: LiteralString, parameters: dict[str, Any]) -> str:
        cursor = await self._execute(statement, parameters)
        row = await cursor.fetchone()
        assert row, statement
        value: str = row[0]
        return value

    async def _execute(
        self, statement: LiteralString | sql.Composed, parameters: dict[str, Any] | None = None
    ) -> AsyncCursor[Any]:
        """Run one statement in a transaction of its own; turn what may go wrong into the recorder's terms."""
        if self._connection is None:
            raise ConnectionLost("not connected")
        try:
            return await self._connection.execute(statement, parameters)
        except errors.UniqueViolation:
            raise
        except psycopg.Error as error:
            raise _translated(error, connected=not self._connection.closed) from error

    async def _make_days(self) -> None:
        today = self._clock().date()
        if today not in self._days:
            for day in days.due(today):
                await self._execute(days.make_day(day))
            self._days = {today}

    async def _prune(self, number: int) -> None:
        """Drop what is settled from the ledger; the batch itself has been committed, so nothing depends on it."""
        try:
            await self._execute(PRUNE_BATCHES, {"writer": self._id, "batch": number})
        except BatchError as error:
            logger.warning("The ledger was not pruned: %s", error)


def _translated(error: psycopg.Error, *, connected: bool) -> BatchError:
    """The recorder's word for an error: PostgreSQL's error code tells what became of the transaction.

    Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    code = error.sqlstate or ""
    if not connected or not code or code.startswith(("08", "57P")):
        return ConnectionLost(_sentence(error))
    if code.startswith("40") or code == "55P03":
        return BatchConflict(_sentence(error))
    missing_partition = code == "23514" and not error.diag.constraint_name
    if code.startswith(("22", "23", "54")) and not missing_partition:
        return BatchRefused(_sentence(error))
    return BatchFailed(_sentence(error))


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())
