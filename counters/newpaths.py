"""How many new paths may be counted: the hits of further ones go to one counter for all of them. Pure.

Whoever reaches the service can make up paths, and each takes room for good. So each prefix, which is the first segment
of a path, gets so many new ones in a minute and in total; past that, hits of paths that have no counter yet are counted
as `<prefix>(other)`. None is lost, and what lies under a prefix still adds up (docs/adr/0012).
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

logger = logging.getLogger(__name__)

OTHER = "(other)"
MINUTE = 60
#: In a minute; paths that are new in further prefixes are counted as "/(other)", so that prefixes cannot be made up.
MOST_PREFIXES = 1_000
#: More prefixes than this are not told to the log in a minute.
MOST_TOLD = 10
_EVERYTHING = "/"
_BOUNDLESS = 2**63


def prefix_of(path: str) -> str:
    """The first segment, with its slashes; of a path with only one slash, that slash."""
    return path[: path.find("/", 1) + 1] or _EVERYTHING


class NewPaths:
    """What may still be counted under new paths. May be asked by several threads.

    `per_minute` is how many a prefix may gain in a minute, `in_total` how many it may have, 0 for no bound; each of
    `sharers` processes, which do not know of each other, takes its share of that. `clock` tells seconds.
    """

    def __init__(
        self, *, per_minute: int, in_total: int = 0, sharers: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = max(1, per_minute // sharers) if per_minute else _BOUNDLESS
        self._sharers = sharers
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = -1
        self._gained: Counter[str] = Counter()  # new paths of this minute, by prefix
        self._gained_before: set[str] = set()  # prefixes that had some in the minute before
        self._room: dict[str, int] = {}  # how many more a prefix may have in total, where that was counted
        self._least = self._per_minute  # so many new paths are allowed whatever their prefixes
        self._told: set[str] = set()  # prefixes of this minute that the log knows of
        self.in_total = in_total
        self.bounded = bool(per_minute or in_total)

    def doubtful(self, paths: Iterable[str], number: int) -> list[str]:
        """Those of `number` paths that may not all be counted, if they are new. Mostly none, which is quick to say."""
        with self._lock:
            self._turn()
            if number <= self._least:
                return []
            by_prefix: dict[str, list[str]] = {}
            for path in paths:
                by_prefix.setdefault(prefix_of(path), []).append(path)
            return [path for prefix, some in by_prefix.items() if len(some) > self._left(prefix) for path in some]

    def others(self, new: Iterable[str]) -> dict[str, str]:
        """Which of these new paths, in this order, are counted as others, and under which path."""
        with self._lock:
            self._turn()
            left: dict[str, int] = {}
            others: dict[str, str] = {}
            for path in new:
                prefix = prefix_of(path)
                left.setdefault(prefix, self._left(prefix))
                if left[prefix] > 0:
                    left[prefix] -= 1
                elif path != prefix + OTHER:
                    others[path] = self._other(prefix)
            return others

    def gained(self, new: Iterable[str]) -> None:
        """Take note of paths that had their first hits."""
        with self._lock:
            self._turn()
            for path in new:
                prefix = prefix_of(path)
                self._gained[prefix] += 1
                if prefix in self._room:
                    self._room[prefix] -= 1
                self._least = min(self._least, self._left(prefix))
            if len(self._gained) >= MOST_PREFIXES:
                self._least = 0

    def to_be_counted(self) -> list[str]:
        """Prefixes whose number of paths matters: they have gained some lately, or could have no more."""
        with self._lock:
            self._turn()
            full = [prefix for prefix, room in self._room.items() if room <= 0]
            return list(dict.fromkeys([*self._gained, *self._gained_before, *full]))[:MOST_PREFIXES]

    def counted(self, numbers: Mapping[str, int]) -> None:
        """Be told how many paths there are under prefixes; what is left of the total is shared out."""
        with self._lock:
            self._room = {prefix: (self.in_total - number) // self._sharers for prefix, number in numbers.items()}
            self._least = min([self._per_minute, *map(self._left, {*self._gained, *self._room})])

    def _turn(self) -> None:
        """Begin a new minute when it is time to."""
        minute = int(self._clock() // MINUTE)
        if minute != self._minute:
            self._gained_before = set(self._gained) if minute == self._minute + 1 else set()
            self._minute, self._gained, self._told = minute, Counter(), set()
            self._least = min([self._per_minute, *self._room.values()])

    def _is_beyond(self, prefix: str) -> bool:
        """Whether enough other prefixes have gained paths in this minute."""
        return prefix not in self._gained and len(self._gained) >= MOST_PREFIXES

    def _left(self, prefix: str) -> int:
        if self._is_beyond(prefix):
            return 0
        return min(self._per_minute - self._gained[prefix], self._room.get(prefix, _BOUNDLESS))

    def _other(self, prefix: str) -> str:
        """The path that counts for all that a prefix may not gain; told to the log once in a minute."""
        if self._is_beyond(prefix):
            prefix = _EVERYTHING
        if prefix not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(prefix)
            logger.warning("Too many new paths under %s: hits of more are counted as %s.", prefix, prefix + OTHER)
        return prefix + OTHER
