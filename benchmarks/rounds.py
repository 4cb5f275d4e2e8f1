"""Rounds in turn: each contestant once, then each again, so that all see the same moods of the machine."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from benchmarks import wrk
from benchmarks.contestants import Contestant
from benchmarks.records import Round

WARM_UP_SECONDS = 1
#: Who uses less CPU time than this while it is watched has nothing left to do. The kernel counts hundredths of a
#: second, and one of them may fall to a server that is idle.
SETTLED_CPU_SECONDS = 0.015
WATCHED_SECONDS = 0.2
MOST_SECONDS_TO_SETTLE = 10


class Turn(NamedTuple):
    """What a contestant is sent in each round."""

    contestant: Contestant
    requests: str
    connections: int


def alternate(part: str, turns: Sequence[Turn], rounds: int, seconds: int) -> Iterator[Round]:
    """So many rounds of all turns; one before them only warms up.

    Every other round goes through the turns backwards, so that nobody always follows the same one.
    """
    for turn in turns:
        _drive(turn, min(seconds, WARM_UP_SECONDS))
    for number in range(1, rounds + 1):
        for turn in turns if number % 2 else reversed(turns):
            yield measured(part, turn, number, seconds)


def measured(part: str, turn: Turn, number: int, seconds: int) -> Round:
    contestant = turn.contestant
    held = contestant.store.sizes()  # asked outside: what the asking costs the store is none of the cost of hits
    before = contestant.usage()
    run = _drive(turn, seconds)
    after = contestant.usage()
    sizes = contestant.store.sizes()
    return Round(
        part=part,
        contestant=contestant.name,
        workers=contestant.workers,
        requests=turn.requests,
        connections=turn.connections,
        number=number,
        rate=run.rate,
        answered=run.answered,
        failed=run.failed,
        p50=run.p50,
        p95=run.p95,
        p99=run.p99,
        wrk_cores=run.cores,
        server_cpu=after.server_cpu - before.server_cpu,
        store_cpu=after.store_cpu - before.store_cpu,
        server_memory=after.server_memory,
        store_memory=after.store_memory,
        kept=sizes.kept - held.kept,
        logged=sizes.logged - held.logged,
    )


def _drive(turn: Turn, seconds: int) -> wrk.Run:
    """A run that is over when its contestant is: what it had put off is its own cost, and no burden on the next."""
    run = wrk.drive(turn.contestant.url, turn.requests, turn.connections, seconds)
    settle(turn.contestant.cpu)
    return run


def settle(
    cpu: Callable[[], float], clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Wait until the CPU seconds that `cpu` tells hardly grow any more, or for MOST_SECONDS_TO_SETTLE."""
    deadline, before = clock() + MOST_SECONDS_TO_SETTLE, cpu()
    while clock() < deadline:
        sleep(WATCHED_SECONDS)
        now = cpu()
        if now - before < SETTLED_CPU_SECONDS:
            return
        before = now


def told(one: Round) -> str:
    """A line for those who watch."""
    return (
        f"{one.part:9} {one.contestant:18} {one.workers} workers {one.requests:8} {one.connections:5} connections"
        f" {one.rate:9,.0f}/s  p50 {one.p50:7.2f}  p95 {one.p95:7.2f}  p99 {one.p99:7.2f} ms"
        + (f"  {one.failed:,} failed" if one.failed else "")
    )
