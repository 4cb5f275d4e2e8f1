"""What a flood of made-up paths does to the service past the bound on new paths.

    python -m benchmarks.newpaths [--paths 1000000] [--rounds 5] [--bound 10000] [--connections 32]

Starts this service on a fresh private PostgreSQL. A few connections ask for ordinary paths all the time, which is what
is timed; beside them, many send in turn the same number of hits of ordinary paths, and of random ones, each of which is
asked for once. Prints a line per round: rates, the 99th percentile of the ordinary paths, the memory of the service's
processes. At the end, the number of hits answered and of hits counted, which must be the same.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.service import PROJECT, Service

WORDS = ("alphawords", "betawords", "gammawords")
TIMED_CONNECTIONS = 4


def ordinary(draw: random.Random) -> Iterator[str]:
    """The paths of the load test: three words, one to six segments."""
    while True:
        yield "/api/" + "".join(f"{draw.choice(WORDS)}/" for _ in range(draw.randint(1, 6)))


def made_up(draw: random.Random) -> Iterator[str]:
    while True:
        yield f"/api/{draw.getrandbits(96):x}/"


class Round(NamedTuple):
    """Hits per second of the many, latencies of those that are timed in milliseconds, and hits acknowledged to all."""

    rate: float
    p50: float
    p99: float
    answered: int


class Client:
    """One connection that is kept alive; `answered` hits were acknowledged."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answered = 0

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def hit(self, path: str) -> None:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"The service answered {head.decode()}")
        self.answered += 1

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


async def send_round(port: int, connections: int, hits: int, paths: Callable[[random.Random], Iterator[str]]) -> Round:
    """Send `hits` hits over `connections`, and ordinary ones beside them until that is done."""
    crowd, timed = ([Client(port) for _ in range(number)] for number in (connections, TIMED_CONNECTIONS))
    for client in (*crowd, *timed):
        await client.connect()
    left, latencies = iter(range(hits)), list[float]()

    async def send(client: Client) -> None:
        drawn = paths(random.Random())
        for _ in left:
            await client.hit(next(drawn))

    async def ask(client: Client, stopped: asyncio.Event) -> None:
        drawn = ordinary(random.Random())
        while not stopped.is_set():
            begun = time.perf_counter()
            await client.hit(next(drawn))
            latencies.append(time.perf_counter() - begun)

    stopped, begun = asyncio.Event(), time.perf_counter()
    asking = asyncio.gather(*[ask(client, stopped) for client in timed])
    await asyncio.gather(*map(send, crowd))
    seconds = time.perf_counter() - begun
    stopped.set()
    await asking
    for client in (*crowd, *timed):
        await client.close()
    p50, p99 = (statistics.quantiles(latencies, n=100)[at - 1] * 1000 for at in (50, 99))
    return Round(hits / seconds, p50, p99, sum(client.answered for client in (*crowd, *timed)))


def memory(service: Service) -> float:
    """MB that the service's Python processes have to themselves, its server for PostgreSQL aside."""
    processes = psutil.Process(service.process.pid).children(recursive=True)
    return sum(one.memory_full_info().uss for one in processes if one.name().startswith("python")) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=1_000_000, help="random paths, over all rounds")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind, alternating")
    parser.add_argument("--bound", default="10000", help="HITCOUNTER_MAX_NEW_PATHS_PER_MINUTE")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    hits = options.paths // options.rounds
    with tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch:
        service = Service(Path(scratch), DATABASE_URL="", HITCOUNTER_MAX_NEW_PATHS_PER_MINUTE=options.bound)
        with service:
            answered, p99 = 0, dict[str, list[float]]()
            for number in range(options.rounds):
                for name, paths in (("ordinary", ordinary), ("made up", made_up)):
                    seen = asyncio.run(send_round(service.port, options.connections, hits, paths))
                    answered += seen.answered
                    p99.setdefault(name, []).append(seen.p99)
                    print(
                        f"{number + 1:2} {name:8} {hits:,} hits, {seen.rate:7,.0f}/s | timed: p50 {seen.p50:5.1f} ms"
                        f"  p99 {seen.p99:5.1f} ms | {memory(service):,.1f} MB",
                        flush=True,
                    )
            counts = service.counts("/api/")
    ratio = statistics.median(b / a for a, b in zip(p99["ordinary"], p99["made up"], strict=True))
    print(f"p99 beside made-up paths / beside ordinary ones: {ratio:.2f} (median of rounds)")
    print(f"answered {answered:,}, counted {sum(counts.values()):,} on {len(counts):,} paths")


if __name__ == "__main__":
    main()
