"""The writer: commits one batch in one statement, and finds out what became of it when a connection is lost."""

import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from operator import itemgetter
from secrets import token_bytes
from uuid import uuid4

import psycopg
from psycopg import errors

from counters import days
from counters.dimensions import SALT_BYTES, Dimensions, Origin, visitor
from counters.hits import counter_ids, hour_of, now
from counters.ingest.recorder import BatchConflict, BatchError, BatchFailed, BatchRefused, ConnectionLost
from counters.ingest.session import Session
from counters.sentences import sentence_of
from counters.sql import load
from counters.sqlstates import is_away, lacks_partition, refuses_value

logger = logging.getLogger(__name__)

RECORD_BATCH = load("record_batch").encode()
SETTLED_BATCH = load("settled_batch").encode()
PRUNE_BATCHES = load("prune_batches").encode()
DAY_SALT = load("day_salt").encode()
KNOWN_PATHS = load("known_paths").encode()
WRITER_SESSION = load("writer_session").encode()

CONNECT_SECONDS = 2
BATCHES_KEPT = 1_000
#: How many combinations of dimensions a writer remembers; past that it begins anew.
REMEMBERED = 250_000

#: A server that vanishes without a word is noticed within seconds.
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
NAME = "hitcounter writer"
#: The session can write no more, another one may: the server has become read-only (25006), a pooler between has put it
#: on a server session that does not know the prepared statement (26000), a partition has been taken away (below).
UNFIT_SESSION = ("25006", "26000")

#: Hits of a batch that share a row: their counter's key, where they come from, how many they are.
LikeHits = tuple[str, Origin, int]


class Day:
    """What a writer knows on one UTC day: the salt of its visitors, and the combinations that have been written."""

    def __init__(self, day: date, salt: bytes) -> None:
        self.day = day
        self.known: set[int] = set()
        self._salt = salt
        self._mark = object()  # an origin remembers this, and not the salt

    def written(self, origin: Origin) -> tuple[object, str, str]:
        """A mark of this day, and as text the key of the dimensions and the visitor's number, empty if unidentified."""
        written = origin.written
        if written is None or written[0] is not self._mark:
            number = visitor(origin, self._salt)
            written = origin.written = (self._mark, str(origin.id), "" if number is None else str(number))
        return written

    def unknown(self, like: Iterable[LikeHits]) -> dict[int, Dimensions]:
        """The combinations that may not have been written on this day, by their keys."""
        if len(self.known) > REMEMBERED:
            self.known.clear()
        return {origin.id: origin.dimensions for _, origin, _ in like if origin.id not in self.known}


class PostgresWriter:
    """Writes batches over one session of its own; `conninfo` names the database, `clock` gives the time (UTC).

    `connect` makes the session, of what `Session.connect` takes.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        clock: Callable[[], datetime] = now,
        connect: Callable[..., Awaitable[Session]] = Session.connect,
    ) -> None:
        self._conninfo = conninfo
        self._clock = clock
        self._connect = connect
        self._id = str(uuid4()).encode()
        self._session: Session | None = None
        self._today: Day | None = None

    async def connect(self) -> None:
        """Replace the session by a fresh one. Raises ConnectionLost when there is no database to reach."""
        await self.close()
        self._today = None  # it may be another server, or an older state of it
        try:
            self._session = await self._connect(
                self._conninfo,
                connect_timeout=CONNECT_SECONDS,
                application_name=NAME,
                **KEEPALIVE,
                target_session_attrs="read-write",
            )
            await self._session.execute(WRITER_SESSION)
            await self._session.prepare(b"record_batch", RECORD_BATCH)
        except psycopg.Error as error:
            raise ConnectionLost(sentence_of(error)) from error

    async def write(self, number: int, hits: Mapping[str, Sequence[Origin]]) -> dict[str, int]:
        """Commit a batch and return each path's new total; see recorder.Writer."""
        if self._session is None:
            raise ConnectionLost("not connected")
        try:
            totals = await self._commit(self._session, number, hits)
            await self._prune(self._session, number)
        except psycopg.Error as error:
            raise _translated(error, lost=self._session.lost) from error
        return totals

    async def known(self, paths: Sequence[str], prefixes: Sequence[str]) -> tuple[set[str], set[str]]:
        """Those of `paths` that have a counter, and those of `prefixes` that have any; see recorder.Writer."""
        if self._session is None:
            raise ConnectionLost("not connected")
        ids = counter_ids(paths)
        try:
            parameters = ["\n".join(ids).encode(), "\n".join(prefixes).encode()]
            found = {name.decode() for name in await self._session.execute(KNOWN_PATHS, parameters)}
        except psycopg.Error as error:
            raise _translated(error, lost=self._session.lost) from error
        return {path for id, path in zip(ids, paths, strict=True) if id in found}, found.intersection(prefixes)

    async def close(self) -> None:
        """Close the session, if there is one."""
        if self._session:
            await self._session.close()
            self._session = None

    async def _commit(self, session: Session, number: int, hits: Mapping[str, Sequence[Origin]]) -> dict[str, int]:
        at = self._clock()
        today = await self._day(session, at.date())
        rows = sorted(zip(counter_ids(list(hits)), hits.items(), strict=True), key=itemgetter(0))
        like = [(key, origin, n) for key, (_, origins) in rows for origin, n in _counted(origins)]
        written = [today.written(origin) for _, origin, _ in like]
        new = today.unknown(like)
        parameters = [
            # Joined strings that SQL splits: building arrays in Python costs more than PostgreSQL's work.
            "\n".join([key for key, _ in rows]).encode(),
            "\n".join([path for _, (path, _) in rows]).encode(),
            "\n".join([str(len(origins)) for _, (_, origins) in rows]).encode(),
            "\n".join([key for key, _, _ in like]).encode(),
            "\n".join([dimensions for _, dimensions, _ in written]).encode(),
            "\n".join([visitor for _, _, visitor in written]).encode(),
            "\n".join([str(n) for _, _, n in like]).encode(),
            _as_json(new) if new else b"[]",
            _text(at),
            _text(hour_of(at)),
            self._id,
            b"%d" % number,
        ]
        try:
            [totals] = await session.execute_prepared(b"record_batch", parameters)
        except errors.UniqueViolation:
            settled = await session.execute(SETTLED_BATCH, [self._id, b"%d" % number])
            if not settled:  # it is not the ledger that has such a row
                raise
            [totals] = settled
        else:
            today.known.update(new)
        return {path: int(total) for (_, (path, _)), total in zip(rows, totals.split(b" "), strict=True)}

    async def _day(self, session: Session, day: date) -> "Day":
        """What is known on this day; with its first batch, have all that its hits need."""
        if self._today is None or self._today.day != day:
            for due in days.due(day):
                await session.execute(days.make_day(due).as_bytes())
            [salt] = await session.execute(DAY_SALT, [day.isoformat().encode(), token_bytes(SALT_BYTES).hex().encode()])
            self._today = Day(day, bytes.fromhex(salt.decode()))
        return self._today

    async def _prune(self, session: Session, number: int) -> None:
        """Drop from the ledger, now and then, what this writer will not ask about again."""
        if number % BATCHES_KEPT == 0:
            await _forget(session, PRUNE_BATCHES, [self._id, b"%d" % number])


async def _forget(session: Session, statement: bytes, parameters: Sequence[bytes]) -> None:
    """Delete from the ledger; that it fails must neither unsay a commit nor keep a writer from its work."""
    try:
        await session.execute(statement, parameters)
    except psycopg.Error as error:
        logger.warning("The ledger was not pruned: %s", sentence_of(error))


def _as_json(new: Mapping[int, Dimensions]) -> bytes:
    return json.dumps([{"id": id, **dimensions._asdict()} for id, dimensions in new.items()]).encode()


def _counted(origins: Sequence[Origin]) -> Iterable[tuple[Origin, int]]:
    """Each origin, and how often it is there; mostly there is one."""
    return Counter(origins).items() if len(origins) > 1 else ((origins[0], 1),)


def _translated(error: psycopg.Error, *, lost: bool) -> BatchError:
    """The recorder's word for an error: PostgreSQL's error code tells what became of the transaction.

    Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    code = error.sqlstate or ""
    if lost or is_away(error) or code in UNFIT_SESSION:
        return ConnectionLost(sentence_of(error))
    if code.startswith("40") or code == "55P03":
        return BatchConflict(sentence_of(error))
    if lacks_partition(error):  # a new session makes it
        return ConnectionLost(sentence_of(error))
    if refuses_value(error):
        return BatchRefused(sentence_of(error))
    return BatchFailed(sentence_of(error))


def _text(at: datetime) -> bytes:
    return at.isoformat().encode()
