"""How fast all that is counted is read, and how that grows with the paths and the hits."""

import http.client
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.contestants import Contestant, WorkerMemory, tree
from benchmarks.data import popular
from benchmarks.reading import DAYS, SEED, filled
from benchmarks.records import Read
from benchmarks.stores import Redis
from tests.service import PROJECT, Service

BLOCK = 1_048_576
#: A rival makes its list in memory: that of more paths would tell of the machine's memory alone.
MOST_PATHS_OF_RIVALS = 1_000_000
#: Rivals whose statistics are read as well, and how their store is filled: is a sorted set better than sorting?
RIVALS = {"flask_sorted_set": Redis.fill_sorted_set, "flask_hash": Redis.fill_hash}


class Held(NamedTuple):
    """What a store holds."""

    hits: int
    paths: int


def questions() -> dict[str, str]:
    """Addresses by what they ask; the series is of days that are over."""
    today = datetime.now(UTC).date()
    return {
        "first page": "/stats/?limit=100",
        "series by day, 30 days": f"/stats/series/?from={today - timedelta(days=DAYS)}&to={today}",
        "tree": "/stats/tree/",
        "full list": "/stats/?format=ndjson",
    }


def of_service(held: Held, rounds: int, workers: int, keep: Path | None) -> Iterator[Read]:
    """Fill a database, or use the one that was kept, and ask each question in turn; the first round only warms up."""
    with tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch:
        directory = (keep or Path(scratch)) / f"{held.hits}-{held.paths}"
        directory.mkdir(parents=True, exist_ok=True)
        with (
            filled(directory, *held) as url,
            Service(directory, DATABASE_URL=url, HITCOUNTER_WORKERS=str(workers), HITCOUNTER_OPEN="on") as service,
        ):
            yield from _ask("service", service, "/stats/?limit=1", questions(), held, rounds)


def of_rival(name: str, held: Held, rounds: int, workers: int) -> Iterator[Read]:
    """The same for the list of a rival, which keeps no more than the counts."""
    with (
        tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch,
        Contestant(name, Path(scratch), workers) as rival,
    ):
        assert isinstance(rival.store, Redis)
        RIVALS[name](rival.store, counts(held))
        yield from _ask(name, rival, "/api/ready/", {"full list": "/stats/"}, held, rounds)


def counts(held: Held) -> Iterator[tuple[str, int]]:
    """The paths of the service's database, with counts that fall as 1 / rank."""
    for rank, path in enumerate(popular(held.paths, SEED), start=1):
        yield path, max(1, held.hits // (10 * rank))


def _ask(name: str, service: Service, small: str, asked: dict[str, str], held: Held, rounds: int) -> Iterator[Read]:
    """Memory is compared with what workers have after a small request, before all that is measured.

    So what one keeps from the round that warms up, or from another question, counts as grown.
    """
    _fetch(service.url, small)
    memory, grown = WorkerMemory(one.pid for one in tree(service.process.pid)), dict.fromkeys(asked, 0)
    for number in range(rounds + 1):
        for question, target in asked.items():
            memory.forget_peaks()
            seconds, rows, size = _fetch(service.url, target)
            grown[question] = max(grown[question], memory.growth())
            if number:
                yield Read(name, *held, question, number, seconds, rows, size, grown[question])


def _fetch(url: str, target: str) -> tuple[float, int, int]:
    """Seconds, JSON objects and bytes of an answer, which is not kept."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    begun, objects, size = time.perf_counter(), 0, 0
    connection.request("GET", target)
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{target}: {answer.status} {answer.read(200)!r}")
    while block := answer.read(BLOCK):
        objects += block.count(b"{")
        size += len(block)
    took = time.perf_counter() - begun
    connection.close()
    return took, objects, size


def told(one: Read) -> str:
    """A line for those who watch."""
    return (
        f"read      {one.contestant:18} {one.hits:,} hits of {one.paths:,} paths: {one.question}"
        f" {one.seconds * 1000:,.1f} ms, {one.rows:,} rows, {one.size:,} bytes, + {one.growth / 1e6:.1f} MB"
    )
