"""What was measured, as it is kept in JSON, and the figures that are made of it. Pure."""

import json
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

MILLION = 1_000_000
STATEMENTS, READS = "limits", "reads"  # the parts that have no rounds


@dataclass(frozen=True)
class Round:
    """One run of wrk against one contestant; what the contestant used is the difference of before and after.

    `rate` is answers per second, latencies are milliseconds, CPU seconds, memory and sizes bytes; `wrk_cores` is the
    share of one core that wrk used itself.
    """

    part: str
    contestant: str
    workers: int
    requests: str
    connections: int
    number: int
    rate: float
    answered: int
    failed: int
    p50: float
    p95: float
    p99: float
    wrk_cores: float
    server_cpu: float
    store_cpu: float
    server_memory: int
    store_memory: int
    kept: int
    logged: int

    def per_million(self, name: str) -> float:
        """So much of this field for a million hits."""
        return float(getattr(self, name)) * MILLION / self.answered if self.answered else 0.0


@dataclass(frozen=True)
class Statement:
    """One round of the statement that counts a batch, sent by one client and without a server."""

    batch: int
    number: int
    hits_per_second: float


@dataclass(frozen=True)
class Read:
    """One answer: `hits` and `paths` are what the store held.

    `growth` is the most bytes by which a worker's memory had grown while this question was answered, in this round and
    in those before, from what it had when it was started.
    """

    contestant: str
    hits: int
    paths: int
    question: str
    number: int
    seconds: float
    rows: int
    size: int
    growth: int


@dataclass
class Results:
    """All of the suite's runs on one day and commit; `about` says on what machine, and each part with what options."""

    about: dict[str, Any]
    rounds: list[Round] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Results":
        told = json.loads(text)
        return cls(
            told["about"],
            [Round(**one) for one in told["rounds"]],
            [Statement(**one) for one in told["statements"]],
            [Read(**one) for one in told["reads"]],
        )

    @property
    def parts(self) -> set[str]:
        """Those that have figures."""
        without_rounds = {part for part, found in ((STATEMENTS, self.statements), (READS, self.reads)) if found}
        return {one.part for one in self.rounds} | without_rounds

    def without(self, parts: Collection[str]) -> "Results":
        return Results(
            self.about,
            [one for one in self.rounds if one.part not in parts],
            [] if STATEMENTS in parts else self.statements,
            [] if READS in parts else self.reads,
        )

    def select(self, part: str, **wanted: object) -> list[Round]:
        """The rounds of a part whose fields have these values."""
        return matching([one for one in self.rounds if one.part == part], **wanted)


def merged(earlier: Results, later: Results) -> Results:
    """Both; of a part that both have measured, what the later one found, with its options."""
    kept = earlier.without(later.parts)
    begun = {part: told for part, told in later.about["parts"].items() if part in later.parts}
    about = {
        **later.about,
        "begun": earlier.about["begun"],
        "changed": earlier.about["changed"] or later.about["changed"],
        "parts": earlier.about["parts"] | begun,
        "stores": earlier.about["stores"] | later.about["stores"],
    }
    return Results(about, kept.rounds + later.rounds, kept.statements + later.statements, kept.reads + later.reads)


def matching(some: Iterable[Any], **wanted: object) -> list[Any]:
    return [one for one in some if all(getattr(one, name) == value for name, value in wanted.items())]


def distinct(some: Iterable[Any], name: str) -> list[Any]:
    """The values of a field, in the order in which they come first."""
    return list(dict.fromkeys(getattr(one, name) for one in some))


class Figure(NamedTuple):
    median: float
    least: float
    greatest: float


def figure(values: Sequence[float]) -> Figure | None:
    return Figure(statistics.median(values), min(values), max(values)) if values else None


def figure_of(some: Iterable[Any], name: str) -> Figure | None:
    return figure([float(getattr(one, name)) for one in some])


def ratio(some: Sequence[Any], others: Sequence[Any], name: str = "rate") -> Figure | None:
    """Of a field, in rounds of the same number: those of one pass over all turns, seconds apart."""
    beside = {one.number: float(getattr(one, name)) for one in others}
    return figure([getattr(one, name) / beside[one.number] for one in some if beside.get(one.number)])
