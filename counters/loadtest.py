"""The load test: real HTTP requests to a running service, and what the statistics gained by them."""

import asyncio
import random
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import requests
from django.db import connection
from yarl import URL

from counters.hits import COUNTED_PREFIX
from counters.models import LoadTestRun

CONCURRENCY = 100
WORDS = 3
WORD_LENGTH = 8
MOST_SEGMENTS = 6
ANSWER_SECONDS = 60
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('counters load test', 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('counters load test', 0))"


class LoadTestError(Exception):
    """The load test cannot be run; the message says why."""


class LoadTestBusy(LoadTestError):
    """Another load test is running; one at a time."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@dataclass(frozen=True)
class Plan:
    """What to send: `requests` GETs to `url`, at most `concurrency` under way at once; the same `seed`, the same paths."""

    url: str
    requests: int
    concurrency: int = CONCURRENCY
    seed: str = field(default_factory=lambda: f"{random.SystemRandom().getrandbits(64):x}")

    @property
    def words(self) -> list[str]:
        """The pool of random strings that the paths are made of."""
        return self._words(random.Random(self.seed))

    def paths(self) -> Iterator[str]:
        """The path of each request: 1 to 6 segments from the pool."""
        draw = random.Random(self.seed)
        words = self._words(draw)
        for _ in range(self.requests):
            yield COUNTED_PREFIX + "".join(f"{word}/" for word in draw.choices(words, k=draw.randint(1, MOST_SEGMENTS)))

    @staticmethod
    def _words(draw: random.Random) -> list[str]:
        return ["".join(draw.choices(string.ascii_lowercase, k=WORD_LENGTH)) for _ in range(WORDS)]


def perform(plan: Plan, *, headers: dict[str, str], progress: Callable[[], object] = lambda: None) -> LoadTestRun:
    """Run a load test and keep it in LoadTestRun, with its report (see `measure`).

    Raises LoadTestBusy while another runs on the same database, LoadTestError when the service's statistics cannot be
    read.
    """
    with _alone():
        run = LoadTestRun.objects.create(
            url=plan.url, requested=plan.requests, concurrency=plan.concurrency, seed=plan.seed
        )
        run.report = measure(plan, headers=headers, progress=progress)
        run.save(update_fields=["report"])
    return run


def measure(plan: Plan, *, headers: dict[str, str], progress: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Send what `plan` says and report it; `headers` open the service's statistics, `progress` is called per answer.

    The report: requested, succeeded, failed (numbers), errors (a number per status or error), seconds,
    requests_per_second, latency_ms (p50, p95, p99, max), unique_paths, paths (a list of path and count, as
    acknowledged), and counted: what the statistics gained. Raises LoadTestError when they cannot be read.
    """
    before = _counted(plan, headers)
    begun = time.perf_counter()
    seen = asyncio.run(_send_all(plan, progress))
    seconds = time.perf_counter() - begun
    counted = _counted(plan, headers) - before
    succeeded = len(seen.latencies)
    return {
        "requested": plan.requests,
        "succeeded": succeeded,
        "failed": plan.requests - succeeded,
        "errors": dict(seen.errors),
        "seconds": round(seconds, 3),
        "requests_per_second": round(plan.requests / seconds, 1),
        "latency_ms": _percentiles(seen.latencies),
        "unique_paths": len(seen.acknowledged),
        "paths": [{"path": path, "count": n} for path, n in sorted(seen.acknowledged.items(), key=lambda i: (-i[1], i[0]))],
        "counted": counted,
    }  # fmt: skip


@dataclass
class _Seen:
    """What came back."""

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)


async def _send_all(plan: Plan, progress: Callable[[], object]) -> _Seen:
    seen, paths = _Seen(), plan.paths()
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:

        async def client() -> None:
            for path in paths:
                await _send(session, plan.url, path, seen)
                progress()

        await asyncio.gather(*(client() for _ in range(min(plan.concurrency, plan.requests))))
    return seen


async def _send(session: aiohttp.ClientSession, url: str, path: str, seen: _Seen) -> None:
    begun = time.perf_counter()
    try:
        async with session.get(URL(url + path, encoded=True)) as answer:
            await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        seen.errors[type(error).__name__] += 1
        return
    if answer.status != 200:
        seen.errors[str(answer.status)] += 1
        return
    seen.latencies.append(time.perf_counter() - begun)
    seen.acknowledged[path] += 1


def _counted(plan: Plan, headers: dict[str, str]) -> int:
    """How many hits the statistics show for the paths that this plan can draw."""
    total = 0
    for word in set(plan.words):
        try:
            answer = requests.get(
                f"{plan.url}/stats/", {"prefix": f"{COUNTED_PREFIX}{word}/"}, headers=headers, timeout=ANSWER_SECONDS
            )
            answer.raise_for_status()
            total += sum(row["count"] for row in answer.json())
        except (requests.RequestException, ValueError) as error:
            raise LoadTestError(f"The statistics of {plan.url} cannot be read: {error}") from error
    return total


def _percentiles(latencies: list[float]) -> dict[str, float]:
    """Nearest-rank percentiles in milliseconds; zeros when nothing was answered."""
    ordered = sorted(latencies) or [0.0]

    def percentile(share: float) -> float:
        return round(ordered[max(0, -int(-share * len(ordered) // 1) - 1)] * 1000, 3)

    return {"p50": percentile(0.5), "p95": percentile(0.95), "p99": percentile(0.99), "max": percentile(1.0)}


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock that lets one load test run at a time, whichever process starts it."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)
        if not cursor.fetchone()[0]:
            raise LoadTestBusy
        try:
            yield
        finally:
            cursor.execute(_UNLOCK)
