"""What the service measures of itself: the names, meanings and labels of all that Prometheus reads at /metrics.

In the fast lane nothing is told per hit, but for those that are refused: a batch is told as a whole. Labels are the
names of classes, views and states, never anything that a client sends: there are never more series than the code names.

Several worker processes keep their figures in files, by which any of them can tell those of all
(hitcounter/multiprocess.py); the gauges among them are those of processes that live, added up.
"""

import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

#: In the environment: where the files of all processes are. Unset, there is but this process.
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# They would be series of their own, which nobody asks for and several processes do not give.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: What this process has measured.
REGISTRY = CollectorRegistry()

HITS = Counter(
    "hitcounter_hits",
    "Hits that have been committed: by request (/api/… and the pixel), or in a batch (POST /hits/).",
    ["via"],
    registry=REGISTRY,
)
HITS_REFUSED = Counter(
    "hitcounter_hits_refused",
    "Requests for /api/… and the pixel that were answered that their hit is not counted, by the reason.",
    ["reason"],
    registry=REGISTRY,
)
HITS_OTHER = Counter(
    "hitcounter_hits_other",
    "Hits of new paths that were too many: they are counted as (other) under their prefix.",
    registry=REGISTRY,
)
BATCH_HITS = Histogram(
    "hitcounter_batch_hits",
    "Hits that were committed together in one transaction.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "hitcounter_commit_seconds",
    "From sending such a transaction to hearing that it is committed.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
    registry=REGISTRY,
)
DATABASE_ERRORS = Counter(
    "hitcounter_database_errors",
    "Attempts to commit a batch that failed (lost, conflict, failed, refused), or to connect for it (unreachable).",
    ["kind"],
    registry=REGISTRY,
)
DATABASE_RECONNECTS = Counter(
    "hitcounter_database_reconnects",
    "Connections for counting that were made anew.",
    registry=REGISTRY,
)
QUEUE_HITS = Gauge(
    "hitcounter_queue_hits",
    "Hits that wait for the next transaction, in all workers.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
QUEUE_LIMIT_HITS = Gauge(
    "hitcounter_queue_limit_hits",
    "How many may wait, in all workers.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
WORKERS = Gauge(
    "hitcounter_workers",
    "Worker processes, by whether hits that come to them are taken in.",
    ["state"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
POOL_CONNECTIONS = Gauge(
    "hitcounter_pool_connections",
    "Connections to the database for all but counting, in all workers, by what they do.",
    ["state"],
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
POOL_WAITING = Gauge(
    "hitcounter_pool_waiting",
    "Requests that wait for one of them.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
RESPONSES = Counter(
    "hitcounter_responses",
    "Answers to all requests but those for /api/… and the pixel, by the view and the class of the status.",
    ["view", "status"],
    registry=REGISTRY,
)
MAINTENANCE_RUNS = Counter(
    "hitcounter_maintenance_runs",
    "Runs of maintenance, by whether all steps were done.",
    ["outcome"],
    registry=REGISTRY,
)
MAINTENANCE_DONE = Gauge(
    "hitcounter_maintenance_done_timestamp_seconds",
    "When maintenance was last done with no step failing.",
    multiprocess_mode="max",
    registry=REGISTRY,
)

# What has not happened yet is 0 rather than unknown: Prometheus takes no note of what a series grew by before it was.
for _labelled, _values in {
    HITS: ("request", "batch"),
    DATABASE_ERRORS: ("unreachable", "lost", "conflict", "failed", "refused"),
    WORKERS: ("accepting", "refusing"),
    POOL_CONNECTIONS: ("available", "in_use"),
    MAINTENANCE_RUNS: ("done", "failed", "cut_short"),
}.items():
    for _value in _values:
        _labelled.labels(_value)

_HITS_BY_REQUEST = HITS.labels("request")


def committed(hits: int, seconds: float) -> None:
    """Tell of a batch."""
    _HITS_BY_REQUEST.inc(hits)
    BATCH_HITS.observe(hits)
    COMMIT_SECONDS.observe(seconds)


def maintained(*, failed: bool) -> None:
    """Tell of maintenance that went through all steps; of which some may have failed."""
    MAINTENANCE_RUNS.labels("failed" if failed else "done").inc()
    if not failed:
        MAINTENANCE_DONE.set_to_current_time()


def refused(reason: type[Exception]) -> Counter:
    """How many hits were refused for this reason, which has the name of the class: PathTooLong is path_too_long."""
    return _refused(reason.__name__)


@cache
def _refused(name: str) -> Counter:
    return HITS_REFUSED.labels(re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower())


class AllProcesses(Collector):
    """What all processes of the service have measured, from the first that there was; alone, what this one has."""

    def collect(self) -> Iterable[Metric]:
        directory = os.environ.get(DIRECTORY_VARIABLE)
        if not directory:
            return REGISTRY.collect()
        # One that is empty belongs to a process that is just beginning.
        files = [str(file) for file in Path(directory).glob("*.db") if _size(file)]
        return MultiProcessCollector.merge(files)  # type: ignore[no-any-return,no-untyped-call]


def _size(file: Path) -> int:
    """In bytes; of a file that has just been removed, none."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
