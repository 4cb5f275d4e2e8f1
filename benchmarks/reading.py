"""How fast the statistics answer, over HTTP, and how that grows with the hits.

    python -m benchmarks.reading [--hits 1000000 10000000] [--paths 1000000] [--rounds 30] [--keep DIRECTORY]

For each number of hits: fills a private PostgreSQL (benchmarks/data.py; --keep leaves it for the next time on the same
UTC day), rolls up the days that are over (manage.py maintain), vacuums and writes a checkpoint, starts the service and
asks each question --rounds times in turn, one client at a time. Prints the median and the 95th percentile, beside the
goal where there is one.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
import requests

from benchmarks.data import load, popular
from hitcounter.postgres import PrivatePostgres
from tests.service import PROJECT, Service

DAYS = 30
SEED = 1


class Asked(NamedTuple):
    """A question: its name in the report, its address, and within how many milliseconds it is to be answered."""

    name: str
    target: str
    goal: int | None = None


def questions(paths: int) -> list[Asked]:
    """What is asked; the goals are those of one and of 30 days that are over, in UTC, and of pages of all."""
    today = datetime.now(UTC).date()
    one = f"from={today - timedelta(days=2)}&to={today - timedelta(days=1)}"
    month = f"from={today - timedelta(days=DAYS)}&to={today}"
    since = f"from={today - timedelta(days=DAYS)}"
    berlin = f"{since}&tz=Europe/Berlin"
    hottest, rarest = (popular(paths, SEED)[n] for n in (0, -1))
    return [
        *(Asked(f"total, one day{label}", f"total/?{one}{more}", goal) for label, more, goal in _VARIANTS_OF_A_DAY),
        Asked("series by hour, one day", f"series/?interval=hour&{one}", 50),
        *(Asked(f"by {name}, one day", f"by/{name}/?{one}", 50) for name in ("country", "referrer", "consumer", "bot")),
        Asked("total, 30 days", f"total/?{month}", 300),
        Asked("total, 30 days, people", f"total/?{month}&bot=false", 300),
        Asked("total, 30 days and today", f"total/?{since}", 300),
        Asked("total, 30 days and today, Berlin", f"total/?{berlin}"),
        Asked("total, 30 days, one country", f"total/?{month}&country=DE"),
        Asked("total, today", f"total/?from={today}"),
        Asked("series by day, 30 days", f"series/?{month}", 300),
        Asked("series by hour, 30 days", f"series/?interval=hour&{month}", 300),
        Asked("series by day, 30 days and today, Berlin", f"series/?{berlin}", 300),
        Asked("series by day, 30 days, one country", f"series/?{month}&country=DE", 300),
        *(
            Asked(f"by {name}, 30 days", f"by/{name}/?{month}", 300)
            for name in ("country", "referrer", "consumer", "bot")
        ),
        Asked("by country, 30 days and today", f"by/country/?{since}", 300),
        Asked("by country, 30 days, one consumer", f"by/country/?{month}&consumer=consumer-1"),
        Asked("by country, 30 days, a prefix", f"by/country/?{month}&prefix=/api/product/"),
        Asked("tree of all", "tree/", 300),
        Asked("tree of a prefix", "tree/?prefix=/api/product/&depth=1", 300),
        Asked("tree of a prefix, 30 days", f"tree/?prefix=/api/product/&depth=1&{month}"),
        Asked("hottest path, 30 days", f"path/?path={hottest}&{month}", 50),
        Asked("hottest path, 30 days and today", f"path/?path={hottest}&{since}"),
        Asked("rarest path, 30 days", f"path/?path={rarest}&{month}", 50),
        Asked("first page of all", "?limit=100", 20),
        Asked("first page, one day", f"?limit=100&{one}"),
        Asked("first page, 30 days", f"?limit=100&{month}", 300),
        Asked("first page, 30 days and today", f"?limit=100&{since}", 300),
    ]


_VARIANTS_OF_A_DAY = (("", "", 50), (", people", "&bot=false", 50))


class Times(NamedTuple):
    """Milliseconds."""

    p50: float
    p95: float


def ask(url: str, asked: list[Asked], rounds: int) -> dict[str, Times]:
    """Ask every question in turn; the first round only warms up."""
    seen: dict[str, list[float]] = {question.name: [] for question in asked}
    with requests.Session() as session:
        for number in range(rounds + 1):
            for question in asked:
                begun = time.perf_counter()
                answer = session.get(f"{url}/stats/{question.target}", timeout=600)
                took = (time.perf_counter() - begun) * 1000
                if answer.status_code != 200:
                    raise RuntimeError(f"{question.target}: {answer.status_code} {answer.text[:200]}")
                if number:
                    seen[question.name].append(took)
    return {name: _times(taken) for name, taken in seen.items()}


def _times(taken: list[float]) -> Times:
    return Times(statistics.median(taken), statistics.quantiles(taken, n=20, method="inclusive")[-1])


@contextmanager
def filled(directory: Path, hits: int, paths: int) -> Iterator[str]:
    """The address of a private PostgreSQL with so many hits, rolled up; made when today's is not in the directory."""
    done, today = directory / "filled", datetime.now(UTC).date()
    if not filled_on(today, done):
        discard(directory)
    with PrivatePostgres(directory / "postgres").held() as postgres:
        if not done.exists():
            manage(postgres.url, "migrate", "--verbosity", "0")
            begun = time.monotonic()
            load(postgres.url, hits, paths, DAYS, SEED)
            print(
                f"{hits:,} hits of {paths:,} paths over {DAYS} days loaded in {time.monotonic() - begun:.0f} s",
                flush=True,
            )
            begun = time.monotonic()
            manage(postgres.url, "maintain")
            print(f"rolled up in {time.monotonic() - begun:.0f} s: {sizes(postgres.url)}", flush=True)
            tidy(postgres.url)
            done.write_text(str(today))
        yield postgres.url


def filled_on(day: date, done: Path) -> bool:
    """Whether a database is whole, and its last days are those that are asked for on this day (UTC)."""
    return done.exists() and done.read_text() == str(day)


def discard(directory: Path) -> None:
    """Delete a database, which may be of another day or half filled, and whose server a killed run may have left."""
    (directory / "filled").unlink(missing_ok=True)
    if (directory / "postgres").exists():
        PrivatePostgres(directory / "postgres").stop()
        shutil.rmtree(directory / "postgres")


def tidy(url: str) -> None:
    """Do now what autovacuum and the next checkpoint would do while questions are timed."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def manage(url: str, *command: str) -> None:
    environment = {**os.environ, "DATABASE_URL": url}
    subprocess.run(
        [sys.executable, "manage.py", *command], cwd=PROJECT, env=environment, check=True, stdout=subprocess.DEVNULL
    )


def sizes(url: str) -> str:
    """What the tables take."""
    statement = """
        SELECT coalesce(p.inhparent::regclass, c.oid::regclass)::text AS name, sum(pg_total_relation_size(c.oid)) / 1e6
        FROM pg_class AS c LEFT JOIN pg_inherits AS p ON p.inhrelid = c.oid
        WHERE c.relkind = 'r' AND c.relname LIKE 'counters%' GROUP BY 1 HAVING sum(pg_total_relation_size(c.oid)) > 1e6
        ORDER BY 2 DESC
    """
    with psycopg.connect(url) as connection:
        return ", ".join(f"{name.removeprefix('counters_')} {mb:.0f} MB" for name, mb in connection.execute(statement))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--keep", type=Path, help="a directory for the databases, to use them again")
    options = parser.parse_args()
    asked = questions(options.paths)
    found = []
    with tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch:
        for hits in options.hits:
            directory = (options.keep or Path(scratch)) / str(hits)
            directory.mkdir(parents=True, exist_ok=True)
            with filled(directory, hits, options.paths) as url, Service(directory, DATABASE_URL=url) as service:
                found.append(ask(service.url, asked, options.rounds))
    print_table(asked, options.hits, found)


def print_table(asked: list[Asked], hits: list[int], found: list[dict[str, Times]]) -> None:
    """A line for each question: p50 / p95 for each number of hits, how it grew, and the goal."""
    print("| question | " + " | ".join(f"{n:,} hits" for n in hits) + " | growth | goal |")
    print("|---|" + "---|" * (len(hits) + 2))
    for question in asked:
        times = [one[question.name] for one in found]
        cells = [f"{one.p50:.0f} / {one.p95:.0f} ms" for one in times]
        growth = f"× {times[-1].p50 / times[0].p50:.1f}"
        goal = (
            ""
            if question.goal is None
            else f"{question.goal} ms" + ("" if times[-1].p95 < question.goal else ", missed")
        )
        print(f"| {question.name} | " + " | ".join(cells) + f" | {growth} | {goal} |")


if __name__ == "__main__":
    main()
