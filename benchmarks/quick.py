"""Whether counting has become slower: ratios alone, of rounds that were seconds apart, in less than two minutes.

    python -m benchmarks.quick [--rounds 5] [--seconds 1]

Drives the service, the empty application and the first rival in turn, at 64 connections, and the service with other
requests. Prints each ratio beside the least that is asked of it, and ends with status 1 when one is below. It is a
benchmark, to be run on a machine that does nothing else, and no test.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import rounds, wrk
from benchmarks.goals import CONNECTIONS
from benchmarks.records import Figure, Round, matching, ratio
from benchmarks.rounds import Turn
from benchmarks.suite import UNBOUNDED, know_paths, started

PART = "quick"


class Threshold(NamedTuple):
    """The rate of the first (contestant, requests) is to be at least so many times that of the second."""

    name: str
    first: tuple[str, str]
    second: tuple[str, str]
    least: float


SERVICE = ("service", "mix")
#: A fifth or so below what was measured on 30 November 2026 with 2 cores: in five rounds 0.44 (0.38 to 0.54), 5.39
#: (4.19 to 5.52), 1.28 (1.28 to 1.73), 0.84 (0.71 to 0.96) and 0.93 (0.85 to 1.16), in this order.
THRESHOLDS = (
    Threshold("of the empty application", SERVICE, ("empty", "mix"), 0.36),
    Threshold("times Quart with Redis", SERVICE, ("quart_redis", "mix"), 4.4),
    Threshold("one hot path, of the mix", ("service", "hot"), SERVICE, 1.0),
    Threshold("a million paths (Zipf), of the mix", ("service", "zipf"), SERVICE, 0.65),
    Threshold("all-new paths, of the mix", ("service", "new"), SERVICE, 0.70),
)
TURNS = tuple(dict.fromkeys(side for one in THRESHOLDS for side in (one.first, one.second)))


def measured(options: argparse.Namespace) -> list[Round]:
    with started(list(dict.fromkeys(name for name, _ in TURNS)), options.workers, **UNBOUNDED) as running:
        know_paths(running["service"])
        turns = [Turn(running[name], requests, CONNECTIONS) for name, requests in TURNS]
        return list(rounds.alternate(PART, turns, options.rounds, options.seconds))


def compared(found: Sequence[Round], threshold: Threshold) -> Figure | None:
    first, second = (
        matching(found, contestant=name, requests=requests) for name, requests in (threshold.first, threshold.second)
    )
    return ratio(first, second)


def missed(found: Sequence[Round], thresholds: Sequence[Threshold] = THRESHOLDS) -> list[str]:
    """A sentence for each threshold that was missed, and one for requests that failed."""
    sentences = []
    if failed := sum(one.failed for one in found):
        sentences.append(f"{failed:,} requests failed.")
    for one in thresholds:
        seen = compared(found, one)
        if seen is None or seen.median < one.least:
            told = "nothing" if seen is None else f"{seen.median:.2f} ({seen.least:.2f} to {seen.greatest:.2f})"
            sentences.append(f"Slower than it was: {told} {one.name}, where it is to be at least {one.least:.2f}.")
    return sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each, alternating")
    parser.add_argument("--seconds", type=int, default=1, help="of each round")
    parser.add_argument("--workers", type=int, default=2)
    wrk.prepare("redis-server")
    found = measured(parser.parse_args())
    for one in THRESHOLDS:
        if seen := compared(found, one):
            print(f"{seen.median:6.2f} ({seen.least:.2f} to {seen.greatest:.2f}) {one.name}; at least {one.least:.2f}")
    if sentences := missed(found):
        sys.exit("\n".join(sentences))


if __name__ == "__main__":
    main()
