"""The statement that counts a batch, alone: what PostgreSQL could take from one client that does nothing else."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count, islice

from benchmarks.newpaths import ordinary
from benchmarks.records import Statement
from counters.dimensions import PLAIN, Origin
from counters.ingest.writer import PostgresWriter

BATCHES = 200

Batch = dict[str, list[Origin]]


def batches(hits: int, seed: int) -> list[Batch]:
    """So many different batches of hits, of the paths of the load test."""
    paths = ordinary(random.Random(seed))
    return [_batch(islice(paths, hits)) for _ in range(BATCHES)]


def _batch(paths: Iterator[str]) -> Batch:
    batch: Batch = defaultdict(list)
    for path in paths:
        batch[path].append(PLAIN)
    return batch


async def measure(conninfo: str, sizes: Sequence[int], rounds: int, seconds: int) -> list[Statement]:
    """Hits per second for batches of each size in turn; the first round only warms up."""
    drawn = {hits: batches(hits, seed=1) for hits in sizes}
    writer, numbers, found = PostgresWriter(conninfo), count(1), []
    await writer.connect()
    for number in range(rounds + 1):
        for hits in sizes:
            sent = await _write(writer, numbers, drawn[hits], seconds if number else 1)
            if number:
                found.append(Statement(hits, number, hits * sent))
    await writer.close()
    return found


async def _write(writer: PostgresWriter, numbers: Iterator[int], drawn: list[Batch], seconds: int) -> float:
    """Batches per second."""
    begun, sent = time.perf_counter(), 0
    while (took := time.perf_counter() - begun) < seconds:
        await writer.write(next(numbers), drawn[sent % BATCHES])
        sent += 1
    return sent / took


def run(conninfo: str, sizes: Sequence[int], rounds: int, seconds: int) -> list[Statement]:
    return asyncio.run(measure(conninfo, sizes, rounds, seconds))
