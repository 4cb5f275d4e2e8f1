"""How fast hits are taken in by `POST /hits/`, over one connection that is kept alive.

    python -m benchmarks.batches [--rounds 10] [--requests 20] [--hits 10000] [--seed 1]

Starts this service on a fresh private PostgreSQL. Each round sends --requests bodies of NDJSON, made beforehand, with
--hits hits each: of 20,000 paths, at times of the last hour, from 300 user agents, 50 consumers and 5,000 visitors.
Rounds alternate between requests without an `Idempotency-Key` and requests with one of their own; the first of each
only warms up. Prints hits per second of each round, and medians.
"""

import argparse
import http.client
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.service import PROJECT, Service

PATHS, CONSUMERS, VISITORS = 20_000, 50, 5_000
REFERRERS = [*[f"https://site{n}.example/page?id={n}" for n in range(20)], *[""] * 80]
USER_AGENTS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64")
    for version in range(40, 140)
]


def popular(draw: random.Random, number: int) -> int:
    """Below `number`; the n-th is drawn about as often as 1 / n."""
    return int(number ** draw.random())


def bodies(number: int, hits: int, seed: int) -> Iterator[bytes]:
    draw, now = random.Random(seed), datetime.now(UTC)
    for _ in range(number):
        yield "".join(f"{json.dumps(hit(draw, now))}\n" for _ in range(hits)).encode()


def hit(draw: random.Random, now: datetime) -> dict[str, Any]:
    """Each visitor has one user agent and belongs to one consumer; a fifth of the hits come from other sites."""
    at, visitor = now - timedelta(milliseconds=draw.randrange(3_600_000)), draw.randrange(VISITORS)
    return {
        "path": f"/api/item/{popular(draw, PATHS)}/",
        "at": at.isoformat(timespec="milliseconds"),
        "method": "GET",
        "status": draw.choice((200, 200, 200, 304, 404)),
        "consumer": f"consumer-{visitor % CONSUMERS}",
        "referrer": draw.choice(REFERRERS),
        "user_agent": USER_AGENTS[visitor % len(USER_AGENTS)],
        "visitor": f"visitor-{visitor}",
    }


def send(connection: http.client.HTTPConnection, some: list[bytes], *, keyed: bool) -> float:
    """Seconds for these requests, one after the other."""
    begun = time.perf_counter()
    for body in some:
        headers = {"Content-Type": "application/x-ndjson"} | ({"Idempotency-Key": str(uuid4())} if keyed else {})
        connection.request("POST", "/hits/", body, headers)
        answer = connection.getresponse()
        told = answer.read()
        assert answer.status == 200, told
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="of each kind, alternating")
    parser.add_argument("--requests", type=int, default=20, help="of each round")
    parser.add_argument("--hits", type=int, default=10_000, help="of each request")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    some = list(bodies(options.requests, options.hits, options.seed))
    print(f"{len(some)} bodies of {statistics.mean(map(len, some)) / 1e6:.2f} MB")
    rates: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch, Service(Path(scratch)) as service:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        for number in range(options.rounds + 1):
            for keyed, kept in rates.items():
                rate = options.hits * len(some) / send(connection, some, keyed=keyed)
                if number:
                    kept.append(rate)
                    print(f"{'keys   ' if keyed else 'no keys'} {rate:8,.0f} hits/s", flush=True)
        connection.close()
    for keyed, kept in rates.items():
        print(f"median {'with' if keyed else 'without'} keys: {statistics.median(kept):,.0f} hits/s")


if __name__ == "__main__":
    main()
