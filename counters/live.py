"""What happens now: the hits of the last seconds, read once a second for as many as listen. No request objects."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

from counters import days, hits
from counters.loadtest import runs
from counters.sentences import sentence_of
from counters.sql import load

logger = logging.getLogger(__name__)

ONE_SECOND = timedelta(seconds=1)
#: A hit has its time from when its batch is made, and is there a little later: a second is told when this has passed.
SETTLED = ONE_SECOND
#: The next second is settled sooner, unless the clock has been set back.
LONGEST_WAIT = 3 * ONE_SECOND
TOP = 10
HISTORY_SECONDS = 60
#: So many events wait for a listener that is slow; then the oldest goes.
MOST_WAITING = 10
#: A database that does not answer for so long is told to be away.
PATIENCE_SECONDS = 3
#: A listener gets a sign of life at least so often.
SILENCE_SECONDS = 15

Event = dict[str, Any]
AWAY: Event = {"away": True}

_HITS = load("recent_hits")
_SECONDS = load("recent_seconds")
_SUMMARISE = load("summarise_hits")
# A vacuum holds the same lock, and takes the hits in itself. One that is automatic would be cancelled after a second.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '20ms'"
# Of a day that is being written, PostgreSQL knows too little to choose the summary.
_BY_SUMMARY = "SET LOCAL enable_seqscan = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off"
_STATEMENT_TIMEOUT = "SET LOCAL statement_timeout = '10s'"


class Moment(NamedTuple):
    """The hits of a span of time, and its TOP most requested paths with theirs."""

    hits: int
    paths: list[tuple[str, int]]


def recent(since: datetime, until: datetime) -> Moment:
    """What was hit from `since` until before `until` (aware), a few seconds that are just over.

    Measured with 10 million hits on the day, 20,000 of them in that second: 8 ms, wherever vacuum has come to.
    """
    with _hits_of(since, until) as cursor:
        cursor.execute(_HITS, {"since": since, "until": until, "top": TOP})
        rows = cursor.fetchall()
    return Moment(rows[0][2] if rows else 0, [(path, count) for path, count, _ in rows])


def by_second(since: datetime, until: datetime) -> list[int]:
    """The hits of each second from `since` until before `until` (aware, whole seconds apart)."""
    with _hits_of(since, until) as cursor:
        cursor.execute(_SECONDS, {"since": since, "until": until})
        found: dict[int, int] = dict(cursor.fetchall())
    return [found.get(n, 0) for n in range((until - since) // ONE_SECOND)]


@contextmanager
def _hits_of(since: datetime, until: datetime) -> Iterator[Any]:
    """A cursor that finds hits by their time, however many have been written to these days since they were vacuumed."""
    first, last = (at.astimezone(UTC).date() for at in (since, until))
    _summarise([days.partition(day).as_string().strip('"') for day in sorted({first, last})])
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"{_BY_SUMMARY}; {_STATEMENT_TIMEOUT}")
        yield cursor


def _summarise(partitions: list[str]) -> None:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_LOCK_TIMEOUT)
            cursor.execute(_SUMMARISE, {"partitions": partitions})
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise


def look(at: datetime) -> Event:
    """The event of the second that begins at `at` (aware)."""
    moment = recent(at, at + ONE_SECOND)
    return {
        "at": at.isoformat(),
        "hits": moment.hits,
        "paths": [{"path": path, "count": count} for path, count in moment.paths],
        "loadtest": _loadtest(),
    }


def _loadtest() -> Event | None:
    run = runs.running()
    if run is None:
        return None
    return {"id": str(run.id), "requested": run.requested, "ended": run.ended, "started": run.started.isoformat()}


class _Listener:
    """The events that wait for one who listens; None is the last."""

    def __init__(self) -> None:
        self._waiting: deque[Event | None] = deque(maxlen=MOST_WAITING)
        self._told = asyncio.Event()
        self.new = True  # it has not been told the history yet

    def tell(self, event: Event | None) -> None:
        self._waiting.append(event)
        self._told.set()

    async def next(self) -> Event | None:
        """Raises TimeoutError when there is nothing for SILENCE_SECONDS."""
        async with asyncio.timeout(SILENCE_SECONDS):
            await self._told.wait()
        event = self._waiting.popleft()
        if not self._waiting:
            self._told.clear()
        return event


class Feed:
    """Looks once a second while somebody listens, and tells everybody the same. One for a process and its event loop.

    `clock` tells the time (aware); `look` and `by_second` are the functions above, and run in a thread.
    """

    def __init__(
        self,
        clock: Callable[[], datetime] = hits.now,
        look: Callable[[datetime], Event] = look,
        by_second: Callable[[datetime, datetime], list[int]] = by_second,
    ) -> None:
        self._clock = clock
        self._look = look
        self._by_second = by_second
        self._listeners: set[_Listener] = set()
        self._history: deque[int] = deque(maxlen=HISTORY_SECONDS)
        self._last: Event | None = None
        self._task: asyncio.Task[None] | None = None  # while somebody listens
        self._closed = False

    async def listen(self) -> AsyncGenerator[Event | None]:
        """The events from now on, until the feed is closed; None is a sign of life when there is nothing to tell.

        The first that is not AWAY has the hits of the 60 seconds up to its own as `history`. Who listens too slowly
        misses the oldest of the events that wait.
        """
        listener = _Listener()
        self._join(listener)
        try:
            while True:
                try:
                    event = await listener.next()
                except TimeoutError:
                    yield None
                    continue
                if event is None:
                    return
                yield event
        finally:
            self._leave(listener)

    def close(self) -> None:
        """Let everybody go, at once and for good."""
        self._closed = True
        self._end_all()

    def _end_all(self) -> None:
        for listener in self._listeners:
            listener.tell(None)

    def _join(self, listener: _Listener) -> None:
        if self._closed:
            listener.tell(None)
            return
        self._listeners.add(listener)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._go_on())
        elif self._last:
            self._tell(listener, self._last)

    def _leave(self, listener: _Listener) -> None:
        self._listeners.discard(listener)
        if self._task and not self._listeners:
            self._task.cancel()
            self._stop()

    def _stop(self) -> None:
        self._task = self._last = None
        self._history.clear()

    async def _go_on(self) -> None:
        at = self._latest()
        try:
            while True:
                await self._settled(at)
                at = self._caught_up(at)
                event = await self._patiently(at)
                self._publish(event)
                if event == AWAY:
                    await asyncio.sleep(ONE_SECOND.total_seconds())
                else:
                    at += ONE_SECOND
        finally:
            if self._task is asyncio.current_task():  # nobody stopped it: those who come again find one that works
                self._end_all()
                self._stop()

    def _latest(self) -> datetime:
        """The beginning of the latest second that is settled."""
        return (self._clock() - SETTLED).replace(microsecond=0) - ONE_SECOND

    async def _settled(self, at: datetime) -> None:
        """Wait until the second that begins at `at` is settled, no longer when the clock has been set back."""
        while timedelta() < (left := at + ONE_SECOND + SETTLED - self._clock()) <= LONGEST_WAIT:
            await asyncio.sleep(left.total_seconds())

    def _caught_up(self, at: datetime) -> datetime:
        """The second to tell next: after `at` when it is too long ago, before it when the clock has been set back."""
        latest = self._latest()
        first = latest - (HISTORY_SECONDS - 1) * ONE_SECOND
        if first <= at <= latest:
            return at
        self._history.clear()
        return first if at < first else latest

    async def _patiently(self, at: datetime) -> Event:
        """Look; while that takes too long, tell that the database is away."""
        looking = asyncio.create_task(asyncio.to_thread(self._seen, at, not self._history))
        while not (await asyncio.wait([looking], timeout=PATIENCE_SECONDS))[0]:
            self._publish(AWAY)
        event, before = looking.result()
        self._history.extend(before)
        if event != AWAY:
            self._history.append(event["hits"])
        return event

    def _seen(self, at: datetime, all_new: bool) -> tuple[Event, list[int]]:
        """The event of a second, and, when nothing is known of them, the hits of the seconds before."""
        try:
            before = self._by_second(at - (HISTORY_SECONDS - 1) * ONE_SECOND, at) if all_new else []
            return self._look(at), before
        except (OperationalError, InterfaceError) as error:
            if self._last != AWAY:
                logger.warning("The live page's database is away: %s", sentence_of(error))
            return AWAY, []
        finally:
            with suppress(DatabaseError, InterfaceError):
                connection.close()

    def _publish(self, event: Event) -> None:
        self._last = event
        for listener in self._listeners:
            self._tell(listener, event)

    def _tell(self, listener: _Listener, event: Event) -> None:
        if listener.new and event != AWAY:
            listener.new = False
            event = {**event, "history": list(self._history)}
        listener.tell(event)
