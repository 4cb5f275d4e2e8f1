"""How long do a backup, a restore and each kind of forgetting take, and how long do hits wait meanwhile?

    python -m benchmarks.forgetting [--hits 1000000] [--paths 100000]

The database is filled and rolled up as `benchmarks.reading` does. One writer sends batches of 32 of the most requested
paths without a pause, as a worker does; what is told of it is how long its batches took while a command ran.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

import psycopg

from benchmarks.data import popular
from benchmarks.reading import SEED, filled
from counters.dimensions import Dimensions, Origin
from counters.ingest.writer import PostgresWriter
from hitcounter.postgres import PrivatePostgres
from tests.service import PROJECT

PATHS_OF_BATCH = 32


class Writer(threading.Thread):
    """Sends batches until it is stopped; `took` holds how long each took, in milliseconds."""

    def __init__(self, url: str, paths: Sequence[str]) -> None:
        super().__init__()
        self._url = url
        self._paths = paths
        self._stopped = threading.Event()
        self.took: list[float] = []

    def run(self) -> None:
        asyncio.run(self._send())

    async def _send(self) -> None:
        writer = PostgresWriter(self._url)
        await writer.connect()
        batch = {path: [Origin(Dimensions("GET", 200))] for path in self._paths}
        number = 0
        while not self._stopped.is_set():
            number += 1
            begun = time.monotonic()
            await writer.write(number, batch)
            self.took.append((time.monotonic() - begun) * 1000)
        await writer.close()

    def stop(self) -> None:
        self._stopped.set()
        self.join()


@contextmanager
def beside_a_writer(url: str, paths: Sequence[str]) -> Iterator[list[float]]:
    writer = Writer(url, paths)
    writer.start()
    try:
        yield writer.took
    finally:
        writer.stop()


def measured(name: str, took: list[float], action: Callable[[], str]) -> None:
    """Print a row of the table."""
    before = len(took)
    begun = time.monotonic()
    said = action()
    seconds = time.monotonic() - begun
    waited = took[before:] or [0.0]
    median, longest = statistics.median(waited), max(waited)
    print(f"| {name} | {said} | {seconds:.1f} s | {median:.1f} ms | {longest:,.0f} ms |", flush=True)


def manage(url: str, *command: str) -> str:
    """The last line that a command prints."""
    done = subprocess.run(
        [sys.executable, "manage.py", *command], cwd=PROJECT, env={**os.environ, "DATABASE_URL": url},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1]


def rows_and_sizes(url: str) -> Iterator[str]:
    """Rows of a table of what the larger tables take, with their indexes."""
    statement = """
        SELECT
            coalesce(p.inhparent::regclass, c.oid::regclass)::text,
            sum(greatest(c.reltuples, 0)), sum(pg_total_relation_size(c.oid))
        FROM pg_class AS c LEFT JOIN pg_inherits AS p ON p.inhrelid = c.oid
        WHERE c.relkind = 'r' AND c.relname LIKE 'counters%' GROUP BY 1 HAVING sum(pg_total_relation_size(c.oid)) > 1e6
        ORDER BY 3 DESC
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
        for table, rows, size in connection.execute(statement):
            name, megabytes, each = table.removeprefix("counters_"), float(size) / 1e6, float(size) / rows
            yield f"| {name} | {rows:,.0f} | {megabytes:,.0f} MB | {each:.0f} |"


def waiting() -> str:
    time.sleep(5)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=1_000_000)
    parser.add_argument("--paths", type=int, default=100_000)
    options = parser.parse_args()
    known = popular(options.paths, SEED)
    prefix = "/" + known[0].split("/")[1] + "/"
    half = str(datetime.now(UTC).date() - timedelta(days=15))
    with tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch:
        directory, file = Path(scratch), str(Path(scratch) / "backup")
        with filled(directory, options.hits, options.paths) as url:
            print("| table | rows | size | bytes per row |\n|---|---|---|---|")
            print("\n".join(rows_and_sizes(url)))
            print("| | | took | a batch, median | a batch, longest |\n|---|---|---|---|---|")
            with beside_a_writer(url, list(islice(known, PATHS_OF_BATCH))) as took:
                measured("nothing", took, waiting)
                measured("backup", took, lambda: manage(url, "backup", file))
                for what in (["--before", half], ["--consumer", "customer-000"], ["--prefix", prefix]):
                    measured(f"forget {' '.join(what)}", took, partial(manage, url, "forget", "--yes", *what))
                    measured("maintain", took, partial(manage, url, "maintain"))
            print(manage(url, "verifycounts"))
        with PrivatePostgres(directory / "other").held() as other:
            measured("restore", [], lambda: manage(other.url, "restore", file))


if __name__ == "__main__":
    main()
