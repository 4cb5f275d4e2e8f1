"""What can be asked of the statistics. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from zoneinfo import ZoneInfo

from counters.periods import Period

ALWAYS = Period(None, None, ZoneInfo("UTC"))


class Position(NamedTuple):
    """A place in a ranking: what follows has fewer hits, or as many and a later name (a path, a value)."""

    hits: int
    path: str


@dataclass(frozen=True)
class Question:
    """The hits of a period, of the paths with a prefix or of one path, with these values of dimensions.

    Values are text, as the statistics give them: "true" or "false" for bots, "200" for a status, "" for the unknown.
    """

    period: Period = ALWAYS
    prefix: str = ""
    path: str = ""
    filters: Mapping[str, str] = field(default_factory=dict)

    @property
    def always(self) -> bool:
        """Whether all hits are asked for, whenever they came and whatever is known of them: the counters tell."""
        return self.period.start is None and self.period.end is None and not self.filters
