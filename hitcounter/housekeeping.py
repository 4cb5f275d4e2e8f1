"""The running service's own maintenance: every minute, in a thread of whichever worker gets the lock."""

import asyncio
import logging
from contextlib import suppress

from django.conf import settings
from django.db import DatabaseError, connection
from psycopg import Connection, Error

from counters import hits, metrics
from counters.admission import count_paths, new_paths
from counters.maintenance import Failed, MaintenanceBusy, PutOff, maintain
from counters.sentences import sentence_of

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60
#: A cancellation that comes between two statements stops neither: until the work is over, it is asked for again.
CANCEL_AGAIN_SECONDS = 0.2
#: A server that has vanished does not answer a cancellation, and must not hold up the end.
CANCEL_SECONDS = 1


class Housekeeping:
    """Does `manage.py maintain`'s work again and again until it is closed; it gives way to another that does it."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()
        self._connection: Connection | None = None  # while it is at work
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop; what is under way is cancelled, and done the next time."""
        self._stopped.set()
        while self._task and not self._task.done():
            if self._connection:
                await asyncio.to_thread(_cancel, self._connection)
            await asyncio.wait([self._task], timeout=CANCEL_AGAIN_SECONDS)

    async def _run(self) -> None:
        while not self._stopped.is_set():
            await asyncio.to_thread(self._count_paths)
            await asyncio.to_thread(self._maintain)
            try:
                await asyncio.wait_for(self._stopped.wait(), EVERY_SECONDS)
            except TimeoutError:
                continue

    def _count_paths(self) -> None:
        if not new_paths().in_total:
            return
        try:
            connection.ensure_connection()
            self._connection = connection.connection
            count_paths()
        except DatabaseError as error:
            if not self._stopped.is_set():
                logger.warning("The paths of prefixes were not counted: %s", sentence_of(error))
        finally:
            self._connection = None
            connection.close()

    def _maintain(self) -> None:
        try:
            connection.ensure_connection()
            self._connection = connection.connection
            failed = False
            for done in maintain(
                hits.now(),
                keep_hits_days=settings.HITCOUNTER_KEEP_HITS_DAYS,
                keep_hours_days=settings.HITCOUNTER_KEEP_HOURS_DAYS,
            ):
                failed = failed or isinstance(done, Failed)
                logger.log(_level(done), done)
                if self._stopped.is_set():
                    return
            metrics.maintained(failed=failed)
        except MaintenanceBusy:
            return
        except DatabaseError as error:
            if not self._stopped.is_set():
                metrics.MAINTENANCE_RUNS.labels("cut_short").inc()
                logger.warning("Maintenance was cut short, and is tried again: %s", sentence_of(error))
        except Exception:
            metrics.MAINTENANCE_RUNS.labels("cut_short").inc()
            logger.exception("Maintenance failed in a way that is not foreseen; it is tried again")
        finally:
            self._connection = None
            connection.close()


def _level(done: str) -> int:
    if isinstance(done, Failed):
        return logging.ERROR
    return logging.WARNING if isinstance(done, PutOff) else logging.INFO


def _cancel(session: Connection) -> None:
    with suppress(Error):  # the server is gone, or the session: then so is the statement
        session.cancel_safe(timeout=CANCEL_SECONDS)
