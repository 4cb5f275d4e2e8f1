"""What the fault suite writes down of each fault, and the table in which it ends."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: The property of a test's report that holds one.
OUTCOME = "outcome"
HEADINGS = ("fault", "times", "hits sent", "acknowledged", "counted", "lost", "double", "slowest recovery", "besides")


@dataclass
class Outcome:
    """What became of the hits that were sent during one kind of fault.

    `lost` are those acknowledged (or sent until acknowledged, under a key) and not counted; `double` those counted
    beyond what was acknowledged, not answered, or answered with the words that it is not known; `recovery` is how many
    seconds a client waited at most, with all its attempts, to be acknowledged. What was not looked at is None.
    """

    fault: str
    times: int
    sent: int
    acknowledged: int | None = None
    counted: int | None = None
    lost: int | None = None
    double: int | None = None
    recovery: float | None = None
    besides: str = ""

    @classmethod
    def of(
        cls,
        fault: str,
        times: int,
        *,
        sent: Counter[str],
        acknowledged: Counter[str],
        at_most: Counter[str],
        counts: Mapping[str, int],
        recovery: float | None = None,
        besides: str = "",
    ) -> "Outcome":
        counted = Counter(counts)
        return cls(
            fault,
            times,
            sent.total(),
            acknowledged.total(),
            counted.total(),
            (acknowledged - counted).total(),
            (counted - at_most).total(),
            recovery,
            besides,
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def table(outcomes: list[Outcome]) -> list[str]:
    """The lines of a table in Markdown."""
    rows = [_cells(outcome) for outcome in sorted(outcomes, key=lambda outcome: outcome.fault)]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines = [HEADINGS, ["-" * width for width in widths], *rows]
    return [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]


def _cells(outcome: Outcome) -> list[str]:
    numbers = (outcome.times, outcome.sent, outcome.acknowledged, outcome.counted, outcome.lost, outcome.double)
    recovery = "–" if outcome.recovery is None else f"{outcome.recovery:.1f} s"
    return [outcome.fault, *("–" if number is None else f"{number:,}" for number in numbers), recovery, outcome.besides]
