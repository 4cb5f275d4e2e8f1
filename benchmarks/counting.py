"""How fast hits are counted, beside an ASGI application that does nothing under the same server, for tuning.

    python -m benchmarks.counting [--seconds 4] [--rounds 5] [--connections 32 64 256] [--requests visitors]

Drives this service and an ASGI application that does nothing, under the same gunicorn settings, in turn, and prints a
line for each number of connections: medians, and the ratio of rounds of the same number. Every hit that is answered has
been committed, in all tables. Writes no file; the suite does (benchmarks/suite.py).
"""

import argparse
import os
from collections.abc import Sequence

from benchmarks import rounds, wrk
from benchmarks.records import Figure, Round, figure_of, matching, ratio
from benchmarks.rounds import Turn
from benchmarks.suite import started


def line(connections: int, found: Sequence[Round]) -> str:
    service, empty = (matching(found, contestant=name) for name in ("service", "empty"))
    compared = ratio(service, empty) or Figure(0, 0, 0)
    return (
        f"{connections:5} connections: service {median(service, 'rate'):8,.0f}/s"
        f"  p50 {median(service, 'p50'):6.2f} ms  p99 {median(service, 'p99'):6.2f} ms"
        f" | empty {median(empty, 'rate'):8,.0f}/s  p99 {median(empty, 'p99'):6.2f} ms"
        f" | ratio {compared.median:.2f} ({compared.least:.2f} to {compared.greatest:.2f})"
        f" | failed: {sum(one.failed for one in service)}"
    )


def median(found: Sequence[Round], name: str) -> float:
    seen = figure_of(found, name)
    return seen.median if seen else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, help="of each round")
    parser.add_argument("--rounds", type=int, default=5, help="of each server, alternating")
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 64, 256])
    parser.add_argument("--requests", choices=wrk.REQUESTS, default="visitors", help="mix sends the paths alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    wrk.prepare()
    with started(["empty", "service"], options.workers) as running:
        for connections in options.connections:
            turns = [Turn(one, options.requests, connections) for one in running.values()]
            found = list(rounds.alternate("counting", turns, options.rounds, options.seconds))
            print(line(connections, found), flush=True)


if __name__ == "__main__":
    main()
