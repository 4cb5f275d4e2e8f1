"""What the service is to reach, and whether it did. Pure."""

from collections.abc import Callable, Iterator
from itertools import groupby, pairwise, starmap
from typing import NamedTuple

from benchmarks.records import Figure, Read, Results, distinct, figure, figure_of, matching, ratio

SERVICE, EMPTY, RIVAL = "service", "empty", "quart_redis"
CONNECTIONS = 64
MANY_PATHS = 1_000_000
MOST_PATHS, MOST_HITS = 5_000_000, 50_000_000
#: Times of a few milliseconds differ by so much from one run to the next.
NOISE = 1.25


class Goal(NamedTuple):
    """`measured` finds the figure, None where it was not measured; it is to be at least, or at most, so much."""

    sentence: str
    measured: Callable[[Results], float | None]
    least: float | None = None
    most: float | None = None
    form: str = "{:.2f}"


class Judged(NamedTuple):
    sentence: str
    measured: str
    verdict: str


def judged(results: Results) -> list[Judged]:
    return [_judge(goal, goal.measured(results)) for goal in GOALS]


def _judge(goal: Goal, measured: float | None) -> Judged:
    if measured is None:
        return Judged(goal.sentence, "", "not measured")
    met = (goal.least is None or measured >= goal.least) and (goal.most is None or measured <= goal.most)
    return Judged(goal.sentence, goal.form.format(measured), "met" if met else "missed")


def _beside(other: str, connections: int) -> Callable[[Results], float | None]:
    """How many times the rate of another, in the same rounds."""

    def measured(results: Results) -> float | None:
        asked = {"requests": "mix", "connections": connections}
        ours, theirs = (results.select("counting", contestant=name, **asked) for name in (SERVICE, other))
        return _median(ratio(ours, theirs))

    return measured


def _latency(results: Results) -> float | None:
    asked = {"contestant": SERVICE, "requests": "mix", "connections": CONNECTIONS}
    return _median(figure_of(results.select("counting", **asked), "p99"))


def _of_mix(requests: str) -> Callable[[Results], float | None]:
    """The rate of other requests, as a share of that of the mix."""

    def measured(results: Results) -> float | None:
        some, mix = (results.select("mixes", contestant=SERVICE, requests=name) for name in (requests, "mix"))
        return _median(ratio(some, mix))

    return measured


def _rows_per_second(results: Results) -> float | None:
    return _median(figure([one.rows / one.seconds for one in _full_lists(results)]))


def _growth(results: Results) -> float | None:
    grown = [one.growth / 1e6 for one in _full_lists(results)]
    return max(grown) if grown else None


def _full_lists(results: Results) -> list[Read]:
    return matching(results.reads, contestant=SERVICE, question="full list", paths=MANY_PATHS)


def _worst_growth(results: Results) -> float | None:
    """Among all questions: how many times faster a read's time grew than its output, up to the most that is asked."""
    if not matching(results.reads, contestant=SERVICE, hits=MOST_HITS, paths=MOST_PATHS):
        return None
    return max((grown for _, grown in growths(results, SERVICE)), default=None)


def growths(results: Results, contestant: str) -> Iterator[tuple[str, float]]:
    """For each question: how much the time grew from one store to another, over how much the output did; the most.

    Each store is compared with the next larger one, which shows where a step is, and the smallest with the greatest,
    which adds up what creeps. An output that became smaller counts as one that stayed the same.
    """
    reads = matching(results.reads, contestant=contestant)
    for question in distinct(reads, "question"):
        asked = sorted(matching(reads, question=question), key=_held)
        held = [list(some) for _, some in groupby(asked, key=_held)]
        if len(held) > 1:
            yield question, max(starmap(_time_over_output, [*pairwise(held), (held[0], held[-1])]))


def _held(read: Read) -> tuple[int, int]:
    return read.hits, read.paths


def _time_over_output(before: list[Read], after: list[Read]) -> float:
    return _times(before, after, "seconds") / max(1.0, _times(before, after, "size"))


def _times(before: list[Read], after: list[Read], name: str) -> float:
    first, last = _median(figure_of(before, name)), _median(figure_of(after, name))
    return last / first if first and last else 1.0


def _median(found: Figure | None) -> float | None:
    return found.median if found else None


GOALS = (
    Goal("at least 8 times Quart with Redis (not fsynced) at 64 connections", _beside(RIVAL, 64), least=8),
    Goal("at least 6 times it at 32 connections", _beside(RIVAL, 32), least=6),
    Goal("at least 6 times it at 256 connections", _beside(RIVAL, 256), least=6),
    Goal("at least 0.6 of the empty application at 64 connections", _beside(EMPTY, CONNECTIONS), least=0.6),
    Goal("99th percentile at most 10 ms at 64 connections", _latency, most=10, form="{:.1f} ms"),
    Goal("one hot path no slower than the mix", _of_mix("hot"), least=1),
    Goal("all-new paths at least 0.5 of the mix", _of_mix("new"), least=0.5),
    Goal("Zipf over a million paths at least 0.7 of the mix", _of_mix("zipf"), least=0.7),
    Goal("full list of a million paths at least 200,000 rows/s", _rows_per_second, least=200_000, form="{:,.0f}/s"),
    Goal("a worker grows by less than 50 MB meanwhile", _growth, most=50, form="{:.1f} MB"),
    Goal(
        f"no read grows faster than its output, to {MOST_PATHS:,} paths and {MOST_HITS:,} hits"
        f" (by more than the noise, {NOISE} times)",
        _worst_growth,
        most=NOISE,
        form="{:.2f} times",
    ),
)
