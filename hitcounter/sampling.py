"""What a worker is about right now, told to its metrics every second: gauges in files cannot be asked for."""

import asyncio
from typing import Any

from django.conf import settings
from django.db import connection

from counters import metrics
from counters.ingest.recorder import Recorder

EVERY_SECONDS = 1


class Sampling:
    """Tells of a recorder and of the pool of connections until it is closed."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            sample(self._recorder)
            await asyncio.sleep(EVERY_SECONDS)


def sample(recorder: Recorder) -> None:
    metrics.WORKERS.labels("accepting").set(recorder.accepting)
    metrics.WORKERS.labels("refusing").set(not recorder.accepting)
    metrics.QUEUE_HITS.set(recorder.waiting)
    metrics.QUEUE_LIMIT_HITS.set(settings.HITCOUNTER_QUEUE)
    database: Any = connection  # PostgreSQL's, which has a pool
    pool = database.pool.get_stats()
    metrics.POOL_CONNECTIONS.labels("available").set(pool["pool_available"])
    metrics.POOL_CONNECTIONS.labels("in_use").set(pool["pool_size"] - pool["pool_available"])
    metrics.POOL_WAITING.set(pool["requests_waiting"])
