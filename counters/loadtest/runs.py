"""Load tests as they are run and kept: one at a time, each with what it saw, and with what the statistics gained by it.

A worker that is asked for one starts the generator (generator.py) as a process of its own, and so does without aiohttp.
"""

import asyncio
import copy
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import requests
from asgiref.sync import async_to_sync
from django.db import DatabaseError, InterfaceError, connection

from counters.hits import COUNTED_PREFIX
from counters.loadtest.plan import ANSWER_SECONDS, Plan, Progress, Report, unheard
from counters.models import LoadTestRun
from counters.sentences import sentence_of
from counters.sql import load

logger = logging.getLogger(__name__)

GENERATOR = "counters.loadtest.generator"
KEPT_SECONDS = 0.5  # between two notes of how far a test is
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('counters load test', 0))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('counters load test', 0))"
# Held as long as the run: a row that was left without a report, and a test that is about to begin, have none.
_MARK = "SELECT pg_advisory_lock(hashtextextended('counters load test ' || %s, 0))"
_UNMARK = "SELECT pg_advisory_unlock(hashtextextended('counters load test ' || %s, 0))"
_RUNNING = load("running_loadtest")
_PROJECT = Path(__file__).resolve().parent.parent.parent
_MOST_REPORT_BYTES = 2**20  # three words make 1,092 paths, which take 100 kB


class LoadTestError(Exception):
    """The load test cannot be run; the message says why."""


class ServiceAway(LoadTestError):
    """Nothing answers where the service should be; the message says why."""


class LoadTestBusy(LoadTestError):
    """Another load test is running; one at a time."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def perform(
    plan: Plan,
    *,
    send: Callable[[Plan, Progress], Report],
    headers: Callable[[], dict[str, str]],
    begun: Callable[[LoadTestRun], object] = unheard,
) -> LoadTestRun:
    """Run a load test and keep it in LoadTestRun with its report: what `send` saw, and `counted`.

    `send` is the generator's, or `send_apart`; `headers` open the service's statistics, made anew for each read
    since a test may outlast them. `begun` is called once nothing keeps the test from being run. `counted` is what the
    statistics gained on the plan's paths, null if they could not be read again. A test that begins is kept, even if it
    is cut short, with how many requests had ended and what went wrong; one that cannot begin leaves nothing.

    Raises LoadTestBusy while another runs on the same database, LoadTestError when the service's statistics cannot be
    read or the sending process fails.
    """
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


def begin(plan: Plan, *, headers: Callable[[], dict[str, str]]) -> LoadTestRun:
    """Begin a load test that goes on by itself in a thread, its generator apart, and return how it is kept.

    It ends with this process, and so does the generator. What goes wrong from now on is logged, and kept with the run.

    Raises LoadTestBusy and LoadTestError when it cannot begin, as `perform` does.
    """
    begun: Future[LoadTestRun] = Future()
    threading.Thread(target=_go_on, args=(plan, headers, begun), name="load test", daemon=True).start()
    return begun.result()


def _go_on(plan: Plan, headers: Callable[[], dict[str, str]], begun: Future[LoadTestRun]) -> None:
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


def running() -> LoadTestRun | None:
    """The load test that is under way now; none of those that were cut short."""
    return next(iter(LoadTestRun.objects.raw(_RUNNING)), None)


class _Kept:
    """Keeps how many requests of a run have ended, by a thread: nothing that sends waits for the database."""

    def __init__(self, run: LoadTestRun) -> None:
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


def send_apart(plan: Plan, progress: Progress = unheard) -> Report:
    """The generator in a process of its own, which ends with the request that waits for it, or with this process.

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
        sys.executable, "-m", GENERATOR, cwd=_PROJECT, stdin=pipe, stdout=pipe, limit=_MOST_REPORT_BYTES
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
    """Read what the generator prints: how far it is, and at last the report; None if it does not come to that."""
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


@contextmanager
def _alone(run: LoadTestRun) -> Iterator[None]:
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
