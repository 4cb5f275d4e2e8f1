"""The load test: real HTTP requests to a running service, and what the statistics gained by them.

The requests leave from a process of their own: the command `runloadtest` is one, and the web service starts one for
each test (`send_apart`), so that a worker's other requests neither wait for the generator nor fall with it. That
process runs this module and needs no Django, which is why the models are imported where they are used.
"""

import asyncio
import copy
import json
import logging
import os
import random
import string
import sys
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import requests
from asgiref.sync import async_to_sync
from django.db import DatabaseError, InterfaceError, connection
from yarl import URL

from counters.hits import COUNTED_PREFIX
from counters.sentences import sentence_of
from counters.sql import load

if TYPE_CHECKING:
    from counters.models import LoadTestRun

logger = logging.getLogger(__name__)

CONCURRENCY = 100
MOST_CONCURRENCY = 1000  # each takes a socket, and many systems give a process 1,024
WORDS = 3
WORD_LENGTH = 8
MOST_SEGMENTS = 6
ANSWER_SECONDS = 60
NICENESS = 10  # beside the web service, who asks it for anything else gets the processor first
TOLD_SECONDS = 0.25  # a generator apart tells so often how far it is
KEPT_SECONDS = 0.5  # and so often it is kept
#: Upper bounds of the classes of latencies, in milliseconds; none is longer than ANSWER_SECONDS.
BOUNDS_MS = (0.5, *(step * 10**power for power in range(5) for step in (1, 2, 5)), 1000 * ANSWER_SECONDS)
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('counters load test', 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('counters load test', 0))"
# Held as long as the run: a row that was left without a report, and a test that is about to begin, have none.
_MARK = "SELECT pg_advisory_lock(hashtextextended('counters load test ' || %s, 0))"
_UNMARK = "SELECT pg_advisory_unlock(hashtextextended('counters load test ' || %s, 0))"
_RUNNING = load("running_loadtest")
_PROJECT = Path(__file__).resolve().parent.parent
_MOST_REPORT_BYTES = 2**20  # three words make 1,092 paths, which take 100 kB

#: Of latencies, by name, in the order in which they are shown; PostgreSQL keeps no order in JSON.
PERCENTILES = {"p50": 50, "p95": 95, "p99": 99, "max": 100}

Report = dict[str, Any]
#: Called with how many more requests have ended.
Progress = Callable[[int], object]


class LoadTestError(Exception):
    """The load test cannot be run; the message says why."""


class ServiceAway(LoadTestError):
    """Nothing answers where the service should be; the message says why."""


class LoadTestBusy(LoadTestError):
    """Another load test is running; one at a time."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@dataclass(frozen=True)
class Plan:
    """What to send: `requests` GETs to `url`, `concurrency` at a time at most; the same `seed` draws the same paths."""

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


def _unheard(_: object) -> None:
    """Hears what nobody wants to be told."""


def perform(
    plan: Plan,
    *,
    send: Callable[[Plan, Progress], Report],
    headers: Callable[[], dict[str, str]],
    begun: Callable[["LoadTestRun"], object] = _unheard,
) -> "LoadTestRun":
    """Run a load test and keep it in LoadTestRun with its report: what `send` saw, and `counted`.

    `send` is the function below, or `send_apart`; `headers` open the service's statistics, made anew for each read
    since a test may outlast them. `begun` is called once nothing keeps the test from being run. `counted` is what the
    statistics gained on the plan's paths, null if they could not be read again. A test that begins is kept, even if it
    is cut short, with how many requests had ended and what went wrong; one that cannot begin leaves nothing.

    Raises LoadTestBusy while another runs on the same database, LoadTestError when the service's statistics cannot be
    read or the sending process fails.
    """
    from counters.models import LoadTestRun

    run = LoadTestRun(url=plan.url, requested=plan.requests, concurrency=plan.concurrency, seed=plan.seed)
    with _alone(run):
        before = _counted(plan, headers())
        run.save(force_insert=True)
        begun(run)
        try:
            with _Kept(run) as progress:
                run.report = {**send(plan, progress), "counted": None}
            # Kept before the statistics are read again: what was seen of a service that failed is worth most.
            run.save(update_fields=["report"])
            run.report["counted"] = _counted(plan, headers()) - before
            run.save(update_fields=["report"])
        except LoadTestError as error:
            run.failure = str(error)
            run.save(update_fields=["failure"])
            raise
    return run


def begin(plan: Plan, *, headers: Callable[[], dict[str, str]]) -> "LoadTestRun":
    """Begin a load test that goes on by itself in a thread, its generator apart, and return how it is kept.

    It ends with this process, and so does the generator. What goes wrong from now on is logged, and kept with the run.

    Raises LoadTestBusy and LoadTestError when it cannot begin, as `perform` does.
    """
    begun: Future[LoadTestRun] = Future()
    threading.Thread(target=_go_on, args=(plan, headers, begun), name="load test", daemon=True).start()
    return begun.result()


def _go_on(plan: Plan, headers: Callable[[], dict[str, str]], begun: "Future[LoadTestRun]") -> None:
    try:
        # A copy, since this thread goes on with its own.
        perform(plan, send=_send_from_thread, headers=headers, begun=lambda run: begun.set_result(copy.copy(run)))
    except (LoadTestError, DatabaseError, InterfaceError) as error:
        if begun.done():
            logger.error("The load test came to no good end: %s", sentence_of(error))
        else:
            begun.set_exception(error)
    finally:
        begun.cancel()  # whatever else happened, nobody waits for ever
        connection.close()


def running() -> "LoadTestRun | None":
    """The load test that is under way now; none of those that were cut short."""
    from counters.models import LoadTestRun

    return next(iter(LoadTestRun.objects.raw(_RUNNING)), None)


class _Kept:
    """Keeps how many requests of a run have ended, by a thread: nothing that sends waits for the database."""

    def __init__(self, run: "LoadTestRun") -> None:
        self._run = run
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_on, name="load test's progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self._add

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _add(self, ended: int) -> None:
        self._run.ended += ended

    def _keep_on(self) -> None:
        kept = 0
        while not self._over.wait(KEPT_SECONDS):
            kept = self._keep(kept)
        self._keep(kept)

    def _keep(self, kept: int) -> int:
        """Write the number unless it is `kept` already; returns the number that is kept now."""
        from counters.models import LoadTestRun

        ended = self._run.ended
        if ended == kept:
            return kept
        try:
            LoadTestRun.objects.filter(id=self._run.id).update(ended=ended)
        except (DatabaseError, InterfaceError) as error:
            logger.warning("The progress of the load test cannot be kept: %s", sentence_of(error))
            return kept
        finally:
            connection.close()
        return ended


def send(plan: Plan, progress: Progress = _unheard) -> Report:
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


def send_apart(plan: Plan, progress: Progress = _unheard) -> Report:
    """`send` in a process of its own, which ends with the request that waits for it, or with this process.

    Raises LoadTestError when that process ends without a report.
    """
    # Through the event loop: when the client leaves, asgiref cancels what runs there, and so the process is stopped.
    return async_to_sync(_send_apart)(plan, progress)


def _send_from_thread(plan: Plan, progress: Progress) -> Report:
    """`send_apart` where no request waits: asgiref would run it in a thread that holds up the end of the process."""
    return asyncio.run(_send_apart(plan, progress))


async def _send_apart(plan: Plan, progress: Progress) -> Report:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, cwd=_PROJECT, stdin=pipe, stdout=pipe, limit=_MOST_REPORT_BYTES
    )
    assert process.stdin
    assert process.stdout
    try:
        with suppress(OSError, RuntimeError):  # it is gone already, which its status tells; uvloop says RuntimeError
            process.stdin.write(json.dumps(asdict(plan)).encode() + b"\n")
        report = await _report(process.stdout, progress)
        status = await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        process.stdin.close()
    if status != 0 or report is None:
        raise LoadTestError(f"The load generator failed with exit status {status}; the log may say why.")
    return report


async def _report(printed: asyncio.StreamReader, progress: Progress) -> Report | None:
    """Read what `main` prints to its end: how far it is, and at last the report; None if it does not come to that."""
    ended = 0
    async for line in printed:
        if not line.endswith(b"\n"):  # cut off
            break
        told: Report = json.loads(line)
        if told.keys() != {"ended"}:
            return told
        progress(told["ended"] - ended)
        ended = told["ended"]
    return None


def main() -> None:
    """Read a plan from standard input, send it, write lines of JSON to standard output: the other end of `send_apart`.

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


def _counted(plan: Plan, headers: dict[str, str]) -> int:
    """How many hits the statistics show for the paths that this plan can draw. Raises LoadTestError."""
    with requests.Session() as session:
        session.trust_env = False  # no proxy, no ~/.netrc: asked as directly as the hits are sent
        # As a proxy would say it: where there is TLS, statistics are read over HTTPS alone, or by the service itself.
        session.headers.update({"X-Forwarded-Proto": "https", **headers})
        return sum(_counted_below(f"{COUNTED_PREFIX}{word}/", plan.url, session) for word in set(plan.words))


def _counted_below(prefix: str, url: str, session: requests.Session) -> int:
    try:
        # A redirect would take the headers, which open the statistics, to wherever it points.
        answer = session.get(f"{url}/stats/", params={"prefix": prefix}, timeout=ANSWER_SECONDS, allow_redirects=False)
    except requests.Timeout:
        raise LoadTestError(f"The service at {url} does not answer within {ANSWER_SECONDS} s.") from None
    except requests.RequestException as error:
        raise ServiceAway(f"The service at {url} does not answer: {_reason(error)}.") from error
    if answer.status_code != 200:
        raise LoadTestError(f"The statistics of {url} cannot be read: status {answer.status_code} {answer.reason}.")
    try:
        return sum(row["count"] for row in answer.json())
    except (ValueError, TypeError, LookupError):
        raise LoadTestError(f"The statistics of {url} cannot be read: they are no list of paths and counts.") from None


def _reason(error: BaseException) -> str:
    """What went wrong at the bottom, without the layers of `requests` and urllib3 around it."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return getattr(error, "strerror", None) or str(error).rstrip(".") or type(error).__name__


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


@contextmanager
def _alone(run: "LoadTestRun") -> Iterator[None]:
    """Hold the lock that lets one load test run at a time, whichever process starts it. Raises LoadTestBusy.

    And another that tells that it is this one. The locks belong to the session of this thread's connection, which is
    returned to its pool only after this.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)
        if not cursor.fetchone()[0]:
            raise LoadTestBusy
        try:
            cursor.execute(_MARK, [str(run.id)])
            yield
        finally:
            cursor.execute(_UNMARK, [str(run.id)])
            cursor.execute(_UNLOCK)


if __name__ == "__main__":
    main()
