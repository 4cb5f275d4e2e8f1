"""The generator: real HTTP requests to a running service. Needs no Django.

It has a process of its own: that of the command `runloadtest`, or one that runs.py starts for each test that the web
service is asked for, so that a worker's other requests neither wait for it nor fall with it.
"""

import asyncio
import json
import os
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from yarl import URL

from counters.loadtest.plan import ANSWER_SECONDS, PERCENTILES, Plan, Progress, Report, unheard

NICENESS = 10  # beside the web service, who asks it for anything else gets the processor first
TOLD_SECONDS = 0.25  # a generator apart tells so often how far it is
#: Upper bounds of the classes of latencies, in milliseconds; none is longer than ANSWER_SECONDS.
BOUNDS_MS = (0.5, *(step * 10**power for power in range(5) for step in (1, 2, 5)), 1000 * ANSWER_SECONDS)


def send(plan: Plan, progress: Progress = unheard) -> Report:
    """Send what `plan` says and report what came back; `progress` is called per request, when it has ended.

    The report: requested, succeeded, failed (numbers), errors (a number per status or error), seconds,
    requests_per_second (those that succeeded), latency_ms (p50, p95, p99, max of those; null when there are none),
    histogram of their latencies (a list of ms and count: how many took at most so many milliseconds, and longer than
    the one before), unique_paths, paths (a list of path and count, as acknowledged, most requested first).
    """
    begun = time.perf_counter()
    seen = asyncio.run(_send_all(plan, progress))
    seconds = time.perf_counter() - begun
    succeeded = len(seen.latencies)
    return {
        "requested": plan.requests,
        "succeeded": succeeded,
        "failed": plan.requests - succeeded,
        "errors": dict(seen.errors.most_common()),
        "seconds": round(seconds, 3),
        "requests_per_second": round(succeeded / seconds, 1),
        "latency_ms": _percentiles(seen.latencies),
        "histogram": _histogram(seen.latencies),
        "unique_paths": len(seen.acknowledged),
        "paths": [{"path": path, "count": count} for path, count in _ranked(seen.acknowledged)],
    }


def main() -> None:
    """Read a plan from standard input, send it, write lines of JSON to standard output for `runs.send_apart`.

    Each says how many requests have ended; the last one is the report.
    """
    os.nice(NICENESS)
    plan = Plan(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_starter, daemon=True).start()
    with _told() as progress:
        report = send(plan, progress)
    _tell(report)


@contextmanager
def _told() -> Iterator[Progress]:
    """Tell on standard output how many requests have ended, from time to time and at the end, by a thread."""
    ended, over = 0, threading.Event()

    def add(more: int) -> None:
        nonlocal ended
        ended += more

    def tell() -> None:
        with suppress(BrokenPipeError):  # the starter is gone, and this process goes too
            while not over.wait(TOLD_SECONDS):
                _tell({"ended": ended})
            _tell({"ended": ended})

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield add
    finally:
        over.set()
        thread.join()


def _tell(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _end_with_starter() -> None:
    """Wait for the end of standard input, which comes with the end of the process that holds it, however it ended."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


@dataclass
class _Seen:
    """What came back."""

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)


async def _send_all(plan: Plan, progress: Progress) -> _Seen:
    seen, paths = _Seen(), plan.paths()
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        # aiohttp sends a GET again when a kept-alive connection breaks, and the hit would be counted twice.
        session._retry_connection = False

        async def client() -> None:
            for path in paths:
                await _send(session, plan.url, path, seen)
                progress(1)

        await asyncio.gather(*(client() for _ in range(min(plan.concurrency, plan.requests))))
    return seen


async def _send(session: aiohttp.ClientSession, url: str, path: str, seen: _Seen) -> None:
    begun = time.perf_counter()
    try:
        async with session.get(URL(url + path, encoded=True), allow_redirects=False) as answer:
            await answer.read()
    except TimeoutError:
        seen.errors["timeout"] += 1
        return
    except (aiohttp.ClientError, OSError) as error:
        seen.errors[type(error).__name__] += 1
        return
    if answer.status != 200:
        seen.errors[str(answer.status)] += 1
        return
    seen.latencies.append(time.perf_counter() - begun)
    seen.acknowledged[path] += 1


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Most first, ties by path, as the statistics list them."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _percentiles(latencies: list[float]) -> dict[str, float | None]:
    """Nearest-rank percentiles of `latencies` (seconds) in milliseconds: the least that so many % do not exceed.

    https://en.wikipedia.org/wiki/Percentile#The_nearest-rank_method; null when nothing was answered.
    """
    if not latencies:
        return dict.fromkeys(PERCENTILES)
    ordered = sorted(latencies)
    return {
        name: round(ordered[-(-percent * len(ordered) // 100) - 1] * 1000, 3) for name, percent in PERCENTILES.items()
    }


def _histogram(latencies: list[float]) -> list[dict[str, float]]:
    """How many `latencies` (seconds) are in each class, from the first that has one to the last; see BOUNDS_MS."""
    # By the clock, a timeout may come a little later than the longest that it allows.
    classes = Counter(min(bisect_left(BOUNDS_MS, 1000 * latency), len(BOUNDS_MS) - 1) for latency in latencies)
    if not classes:
        return []
    return [{"ms": BOUNDS_MS[n], "count": classes[n]} for n in range(min(classes), max(classes) + 1)]


if __name__ == "__main__":
    main()
