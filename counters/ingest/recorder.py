"""The recorder: gathers hits while a transaction is under way and shortly after, and sends all of them as the next one.

One recorder per worker process, on that process's event loop. It knows no SQL and no HTTP: it hands batches to a
Writer, and each hit waits on a future that gets its own place in its path's count after the commit.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from itertools import count
from time import perf_counter
from typing import Protocol

from counters import metrics
from counters.dimensions import Origin
from counters.hits import DatabaseRefused
from counters.newpaths import NewPaths

logger = logging.getLogger(__name__)

#: The path that a hit was counted for, and its place in that path's count.
Counted = tuple[str, int]
#: Where a hit comes from, and who waits for what it was counted for.
Waiting = tuple[Origin, asyncio.Future[Counted]]
#: Waiting hits by path: what one transaction writes. The order of the hits is the order of their places.
Batch = dict[str, list[Waiting]]

BATCH_HITS = 5_000
#: Of the event loop, before each batch: in the first those who have just been answered get their answers, in the others
#: their next hits are read and join the batch, if they are quick (docs/adr/0018).
TURNS_FOR_COMPANY = 4
ATTEMPTS = 5
#: So often in a row a batch may lose its connection while the database can be reached: it may be the batch that ends
#: the session, or all of the server, each time. After the first few, there are pauses.
LOSSES = 10
LOSSES_WITHOUT_PAUSE = 3
RECONNECT_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


class NotRecorded(Exception):
    """This hit was not counted, for no fault of its own; send it again later. Answered 503 with Retry-After."""

    message = "The hit was not counted."

    def __str__(self) -> str:
        return self.message


class QueueFull(NotRecorded):
    message = "Too many hits are waiting for the database; this one was not counted."


class DatabaseGone(NotRecorded):
    message = "The database cannot be reached; the hit was not counted."


class DatabaseFailed(NotRecorded):
    message = "The database could not commit; the hit was not counted."


class Closing(NotRecorded):
    message = "The service is shutting down; the hit was not counted."


class InDoubt(NotRecorded):
    """The connection was lost, or the database hangs, between sending a batch and hearing of its commit.

    The batch is settled when the database is back, by the ledger: it is counted once.
    """

    message = "The database did not answer; whether the hit was counted is settled when it is back."


class Unknown(InDoubt):
    """The same, but the batch is not sent again: it is counted once or not at all."""

    message = "The database did not answer; whether the hit was counted is not known."


class BatchError(Exception):
    """A batch was not written, or nobody knows; the subclass says which."""

    kind = ""  # as metrics have it


class BatchRefused(BatchError):
    """Rolled back: the database refuses a value in it, and will again."""

    kind = "refused"


class BatchFailed(BatchError):
    """Rolled back: the database could not do it, and may be able to later."""

    kind = "failed"


class BatchConflict(BatchError):
    """Rolled back: another transaction was in the way (deadlock, serialization); send it again at once."""

    kind = "conflict"


class BatchInDoubt(BatchError):
    """Given up with its fate unknown: the connection was lost, and sending the batch again did not settle it."""


class ConnectionLost(BatchError):
    """The connection went away: whether the batch was committed is not known."""

    kind = "lost"


class Writer(Protocol):
    """What the recorder needs from the database side."""

    async def connect(self) -> None:
        """Get a fresh connection. Raises ConnectionLost when the database cannot be reached."""

    async def write(self, number: int, hits: Mapping[str, Sequence[Origin]]) -> dict[str, int]:
        """Commit `hits`, the origin of each by path, as batch `number`; return each path's new total.

        A number that has been committed before is not counted again: its totals are returned as they were.
        Raises BatchRefused, BatchFailed, BatchConflict, ConnectionLost.
        """

    async def known(self, paths: Sequence[str], prefixes: Sequence[str]) -> tuple[set[str], set[str]]:
        """Those of `paths` that have a counter, and those of `prefixes` that have any. Raises BatchError."""

    async def close(self) -> None:
        """Give the connection back."""


class Recorder:
    """Counts hits in groups, exactly once each.

    `capacity` is how many hits may wait, `patience` how many seconds a batch may be under way before those who wait
    are answered that the database does not respond, `new_paths` how many new paths may be counted.
    """

    def __init__(
        self, writer: Writer, *, capacity: int = 10_000, patience: float = 5.0, new_paths: NewPaths | None = None
    ) -> None:
        self._writer = writer
        self._new_paths = new_paths or NewPaths(per_minute=0)
        self._capacity = capacity
        self._patience = patience
        self._waiting: Batch = {}
        self._waiting_hits = 0
        self._numbers = count(1)
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()  # whether the first attempt to connect is over
        # Why new hits are refused at once; None while they are taken in.
        self._refusal: type[NotRecorded] | None = DatabaseGone
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def accepting(self) -> bool:
        """Whether a hit that comes now is taken in."""
        return self._refusal is None and self._waiting_hits < self._capacity

    @property
    def waiting(self) -> int:
        """How many hits wait for the next transaction."""
        return self._waiting_hits

    async def start(self) -> None:
        """Connect, and begin to write in a task of its own; without a database, refuse hits until there is one."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._tried.wait()

    async def close(self) -> None:
        """Refuse new hits, write all that wait, and give the connection back."""
        self._closing = True
        self._refusal = Closing
        self._wake.set()
        if self._task:
            await self._task
        await self._writer.close()

    def record(self, path: str, origin: Origin) -> asyncio.Future[Counted]:
        """Take in one hit; the future gets its place in the path's count once that is committed.

        The path is another, `newpaths.OTHER`, for a hit of a new path where there are too many.

        Raises NotRecorded at once, and so may the future; the future may also raise hits.HitRefused.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._waiting_hits >= self._capacity:
            raise QueueFull
        future: asyncio.Future[Counted] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(path)
        if waiting is None:
            self._waiting[path] = [(origin, future)]
        else:
            waiting.append((origin, future))
        self._waiting_hits += 1
        self._wake.set()
        return future

    async def _run(self) -> None:
        await self._connect()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                for _ in range(TURNS_FOR_COMPANY):
                    await asyncio.sleep(0)
                await self._record_batch(self._take_batch())
            if self._closing:
                return

    def _take_batch(self) -> Batch:
        """All that waits; of an unusually long queue, the part that came first."""
        if self._waiting_hits <= BATCH_HITS:
            batch, self._waiting, self._waiting_hits = self._waiting, {}, 0
            return batch
        batch, taken = {}, 0
        while taken < BATCH_HITS:
            path = next(iter(self._waiting))
            batch[path] = self._waiting.pop(path)
            taken += len(batch[path])
        self._waiting_hits -= taken
        return batch

    async def _record_batch(self, batch: Batch) -> None:
        """Write a batch and answer its hits; of one that the database refuses, each half by itself."""
        timer = asyncio.get_running_loop().call_later(self._patience, self._lose_patience, batch)
        try:
            batch, others = await self._admitted(batch)
            totals = await self._write(batch)
        except BatchRefused as error:
            timer.cancel()  # each half has a time of its own
            await self._record_apart(batch, error)
        except BatchInDoubt as error:
            logger.error("Whether %d hits were counted is not known: %s", _hits_of(batch), error)
            _fail(batch, Unknown)
        except BatchError as error:
            logger.error("%d hits were not counted: %s", _hits_of(batch), error)
            _fail(batch, DatabaseFailed)
        except Exception:
            # A defect of ours: nobody knows what became of the batch, but the hits after it must not wait for ever.
            logger.exception("A batch failed in a way that is not foreseen")
            _fail(batch, Unknown)
        else:
            self._new_paths.gained(_resolve(batch, totals))
            metrics.HITS_OTHER.inc(others)
        finally:
            timer.cancel()
            if not self._closing:
                self._refusal = None

    async def _admitted(self, batch: Batch) -> tuple[Batch, int]:
        """The batch with the hits of new paths that are too many under the path of others, and their number."""
        doubtful = self._new_paths.doubtful(batch, len(batch))
        if not doubtful:
            return batch, 0
        try:
            known, settled = await self._writer.known(doubtful, self._new_paths.strange(doubtful))
        except BatchError as error:  # the write that follows finds out, and what becomes of the hits
            logger.warning("Which paths are new could not be looked up: %s", error)
            return batch, 0
        others = self._new_paths.others(doubtful, known, settled)
        admitted: Batch = {}
        for path, waiting in batch.items():
            admitted.setdefault(others.get(path, path), []).extend(waiting)
        return admitted, sum(len(batch[path]) for path in others)

    async def _record_apart(self, batch: Batch, error: BatchRefused) -> None:
        if len(batch) == 1:
            logger.error("The database refused a hit: %s", error)
            _fail(batch, DatabaseRefused)
            return
        paths = list(batch)
        for half in (paths[: len(paths) // 2], paths[len(paths) // 2 :]):
            await self._record_batch({path: batch[path] for path in half})

    async def _write(self, batch: Batch) -> dict[str, int]:
        """Send a batch until its fate is known, always under the same number: the ledger counts it once.

        Raises BatchError; BatchInDoubt where that could not be found out.
        """
        number = next(self._numbers)
        hits = {path: [origin for origin, _ in waiting] for path, waiting in batch.items()}
        attempts_left, losses = ATTEMPTS, 0
        while True:
            try:
                return await self._measured(number, hits)
            except ConnectionLost as error:
                logger.warning("The connection to the database was lost: %s", error)
                losses += 1
                if losses == LOSSES:
                    raise BatchInDoubt(str(error)) from error
                if losses > LOSSES_WITHOUT_PAUSE:
                    await asyncio.sleep(_pause(losses - LOSSES_WITHOUT_PAUSE - 1))
                await self._connect(in_doubt=batch)
            except BatchError as error:
                attempts_left -= 1
                if isinstance(error, BatchConflict) and attempts_left:
                    continue
                if losses:  # this attempt was rolled back, the one whose answer was lost may have committed
                    raise BatchInDoubt(str(error)) from error
                raise

    async def _measured(self, number: int, hits: Mapping[str, Sequence[Origin]]) -> dict[str, int]:
        begun = perf_counter()
        try:
            totals = await self._writer.write(number, hits)
        except BatchError as error:
            metrics.DATABASE_ERRORS.labels(error.kind).inc()
            raise
        metrics.committed(sum(map(len, hits.values())), perf_counter() - begun)
        return totals

    async def _connect(self, in_doubt: Batch | None = None) -> None:
        """Connect, however long it takes; when it does not work at once, nobody is kept waiting for it."""
        for attempt in count():
            try:
                await self._writer.connect()
            except ConnectionLost as error:
                metrics.DATABASE_ERRORS.labels("unreachable").inc()
                if attempt == 0:
                    logger.error("The database cannot be reached: %s", error)
                self._refuse(DatabaseGone, in_doubt or {})
                self._tried.set()
                if self._closing and in_doubt is None:
                    return
                await asyncio.sleep(_pause(attempt))
            else:
                if attempt or in_doubt is not None:
                    metrics.DATABASE_RECONNECTS.inc()
                if attempt:
                    logger.info("The database is back.")
                if not self._closing and in_doubt is None:  # else when the batch is settled
                    self._refusal = None
                self._tried.set()
                return

    def _lose_patience(self, batch: Batch) -> None:
        logger.error("The database has not answered for %g s; hits are refused until it does.", self._patience)
        self._refuse(DatabaseGone, batch)

    def _refuse(self, reason: type[NotRecorded], in_doubt: Batch) -> None:
        """Answer all who wait, and refuse new hits for `reason`, until a batch has been settled."""
        if not self._closing:
            self._refusal = reason
        _fail(in_doubt, InDoubt)
        _fail(self._waiting, reason)
        self._waiting, self._waiting_hits = {}, 0


def _pause(attempt: int) -> float:
    return RECONNECT_SECONDS[min(attempt, len(RECONNECT_SECONDS) - 1)]


def _hits_of(batch: Batch) -> int:
    return sum(map(len, batch.values()))


def _resolve(batch: Batch, totals: dict[str, int]) -> list[str]:
    """Answer all hits of a batch, and return the paths that have no others: they are new."""
    new = []
    for path, waiting in batch.items():
        place = totals[path] - len(waiting)
        if not place:
            new.append(path)
        for _, future in waiting:
            place += 1
            if not future.done():  # a client that has left cancelled its future; its hit counts all the same
                future.set_result((path, place))
    return new


def _fail(batch: Batch, reason: type[Exception]) -> None:
    for waiting in batch.values():
        for _, future in waiting:
            if not future.done():
                future.set_exception(reason())
