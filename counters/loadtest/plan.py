"""What a load test sends, and what is told of it. Pure."""

import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from counters.hits import COUNTED_PREFIX

CONCURRENCY = 100
MOST_CONCURRENCY = 1000  # each takes a socket, and many systems give a process 1,024
WORDS = 3
WORD_LENGTH = 8
MOST_SEGMENTS = 6
ANSWER_SECONDS = 60

#: Of latencies, by name, in the order in which they are shown; PostgreSQL keeps no order in JSON.
PERCENTILES = {"p50": 50, "p95": 95, "p99": 99, "max": 100}

Report = dict[str, Any]
#: Called with how many more requests have ended.
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Plan:
    """What to send: `requests` GETs to `url`, `concurrency` at a time at most; the same `seed` draws the same paths."""

    url: str
    requests: int
    concurrency: int = CONCURRENCY
    seed: str = field(default_factory=lambda: f"{random.SystemRandom().getrandbits(64):x}")

    @property
    def words(self) -> list[str]:
        """The pool of random strings that the paths are made of."""
        return self._words(random.Random(self.seed))

    def paths(self) -> Iterator[str]:
        """The path of each request: 1 to 6 segments from the pool."""
        draw = random.Random(self.seed)
        words = self._words(draw)
        for _ in range(self.requests):
            yield COUNTED_PREFIX + "".join(f"{word}/" for word in draw.choices(words, k=draw.randint(1, MOST_SEGMENTS)))

    @staticmethod
    def _words(draw: random.Random) -> list[str]:
        return ["".join(draw.choices(string.ascii_lowercase, k=WORD_LENGTH)) for _ in range(WORDS)]


def unheard(_: object) -> None:
    """Hears what nobody wants to be told."""
