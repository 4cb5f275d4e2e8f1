"""What the service is to reach, and whether it did. Pure."""

from collections.abc import Callable, Iterator
from itertools import groupby, pairwise, starmap
from typing import NamedTuple

from benchmarks.records import Figure, Read, Results, Round, distinct, figure, figure_of, matching, ratio

SERVICE, EMPTY, RIVAL = "service", "empty", "quart_redis"
CONNECTIONS = 64
MANY_PATHS = 1_000_000
MOST_PATHS, MOST_HITS = 5_000_000, 50_000_000
#: Times of a few milliseconds differ by so much from one run to the next.
NOISE = 1.25


def _no_rounds(results: Results) -> list[Round]:
    return []


class Goal(NamedTuple):
    """`measured` finds the figure, None where it was not measured; it is to be at least, or at most, so much.

    `rounds` finds those that it is made of: with requests that failed in them it tells nothing, and is not met.
    """

    sentence: str
    measured: Callable[[Results], float | None]
    rounds: Callable[[Results], list[Round]] = _no_rounds
    least: float | None = None
    most: float | None = None
    form: str = "{:.2f}"


class Judged(NamedTuple):
    sentence: str
    measured: str
    verdict: str


def judged(results: Results) -> list[Judged]:
    return [_judge(goal, results) for goal in GOALS]


def _judge(goal: Goal, results: Results) -> Judged:
    measured = goal.measured(results)
    told = "" if measured is None else goal.form.format(measured)
    if failed := sum(one.failed for one in goal.rounds(results)):
        return Judged(goal.sentence, told, f"not met: {failed:,} failed")
    if measured is None:
        return Judged(goal.sentence, told, "not measured")
    met = (goal.least is None or measured >= goal.least) and (goal.most is None or measured <= goal.most)
    return Judged(goal.sentence, told, "met" if met else "missed")


def _rounds(
    part: str, *contestants: str, requests: tuple[str, ...] = ("mix",), connections: int = CONNECTIONS
) -> Callable[[Results], list[Round]]:
    def rounds(results: Results) -> list[Round]:
        found: list[Round] = results.select(part, connections=connections)
        return [one for one in found if one.contestant in contestants and one.requests in requests]

    return rounds


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
    """Among all questions: how many times faster a read's time grew than its output, up to the most that is asked.

    What has grown too fast before is told, however much has been read.
    """
    worst = max((grown for _, grown in growths(results, SERVICE)), default=0.0)
    whole = matching(results.reads, contestant=SERVICE, hits=MOST_HITS, paths=MOST_PATHS)
    return worst if worst and (whole or worst > NOISE) else None


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


def _rate_beside(other: str, connections: int, least: float, sentence: str) -> Goal:
    rounds = _rounds("counting", SERVICE, other, connections=connections)
    return Goal(sentence, _beside(other, connections), rounds, least=least)


def _rate_of_mix(requests: str, least: float, sentence: str) -> Goal:
    return Goal(sentence, _of_mix(requests), _rounds("mixes", SERVICE, requests=(requests, "mix")), least=least)


GOALS = (
    _rate_beside(RIVAL, 64, 8, "at least 8 times Quart with Redis (not fsynced) at 64 connections"),
    _rate_beside(RIVAL, 32, 6, "at least 6 times it at 32 connections"),
    _rate_beside(RIVAL, 256, 6, "at least 6 times it at 256 connections"),
    _rate_beside(EMPTY, CONNECTIONS, 0.6, "at least 0.6 of the empty application at 64 connections"),
    Goal(
        "99th percentile at most 10 ms at 64 connections",
        _latency,
        _rounds("counting", SERVICE),
        most=10,
        form="{:.1f} ms",
    ),
    _rate_of_mix("hot", 1, "one hot path no slower than the mix"),
    _rate_of_mix("new", 0.5, "all-new paths at least 0.5 of the mix"),
    _rate_of_mix("zipf", 0.7, "Zipf over a million paths at least 0.7 of the mix"),
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
