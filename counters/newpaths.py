"""How many new paths may be counted: the hits of further ones go to one counter for all of them. Pure.

Whoever reaches the service can make up paths, and each takes room for good. So each prefix, which is the first segment
of a path, gets so many new ones in a minute and in total; past that, hits of paths that have no counter yet are counted
as `<prefix>(other)`. None is lost, and what lies under a prefix still adds up (docs/adr/0012).
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping

logger = logging.getLogger(__name__)

OTHER = "(other)"
MINUTE = 60
#: So many prefixes may gain paths in a minute; then only those that have paths already. What is new elsewhere is
#: counted as "/(other)", so that prefixes cannot be made up.
MOST_PREFIXES = 1_000
#: Longer first segments are no prefix of their own: a counter has to bear it.
LONGEST_PREFIX = 255
#: So many paths that have counters are remembered; past that, it begins anew.
MOST_REMEMBERED = 10_000
#: More prefixes than this are not told to the log in a minute.
MOST_TOLD = 10
_EVERYTHING = "/"
_BOUNDLESS = 2**63


def prefix_of(path: str) -> str:
    """The first segment, with its slashes; of a path with only one slash, or a very long first segment, that slash."""
    end = path.find("/", 1) + 1
    return path[:end] if 0 < end <= LONGEST_PREFIX else _EVERYTHING


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
        self._known: set[str] = set()  # some of the paths that have counters
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
                if path not in self._known:
                    by_prefix.setdefault(prefix_of(path), []).append(path)
            return [path for prefix, some in by_prefix.items() if len(some) > self._left(prefix) for path in some]

    def strange(self, paths: Iterable[str]) -> list[str]:
        """The prefixes of these paths that may gain some in this minute only if they have paths already."""
        with self._lock:
            self._turn()
            if not self._is_crowded():
                return []
            return [prefix for prefix in dict.fromkeys(map(prefix_of, paths)) if self._is_strange(prefix)]

    def others(self, doubtful: Iterable[str], known: Container[str], settled: Container[str] = ()) -> dict[str, str]:
        """Which of the doubtful paths are counted as others, and under which path.

        `known` are those that have counters, `settled` the strange prefixes that have paths.
        """
        with self._lock:
            self._turn()
            left: dict[str, int] = {}
            others: dict[str, str] = {}
            for path in doubtful:
                if path in known:
                    self._remember(path)
                    continue
                prefix = prefix_of(path)
                if self._is_strange(prefix) and prefix not in settled:
                    others[path] = self._other(_EVERYTHING)
                    continue
                left.setdefault(prefix, self._left_of_its_own(prefix))
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
                self._remember(path)
                prefix = prefix_of(path)
                self._gained[prefix] += 1
                if prefix in self._room:
                    self._room[prefix] -= 1
                self._least = min(self._least, self._left(prefix))
            if self._is_crowded():
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
            left = map(self._left, {*self._gained, *self._room})
            self._least = 0 if self._is_crowded() else min([self._per_minute, *left])

    def _turn(self) -> None:
        """Begin a new minute when it is time to."""
        minute = int(self._clock() // MINUTE)
        if minute != self._minute:
            self._gained_before = set(self._gained) if minute == self._minute + 1 else set()
            self._minute, self._gained, self._told = minute, Counter(), set()
            self._least = min([self._per_minute, *self._room.values()])

    def _is_crowded(self) -> bool:
        """Whether enough prefixes have gained paths in this minute."""
        return len(self._gained) >= MOST_PREFIXES

    def _is_strange(self, prefix: str) -> bool:
        return self._is_crowded() and prefix not in self._gained

    def _left(self, prefix: str) -> int:
        return 0 if self._is_strange(prefix) else self._left_of_its_own(prefix)

    def _left_of_its_own(self, prefix: str) -> int:
        return min(self._per_minute - self._gained[prefix], self._room.get(prefix, _BOUNDLESS))

    def _remember(self, path: str) -> None:
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known.add(path)

    def _other(self, prefix: str) -> str:
        """The path that counts for all that a prefix may not gain; told to the log once in a minute."""
        if prefix not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(prefix)
            logger.warning("Too many new paths under %s: hits of more are counted as %s.", prefix, prefix + OTHER)
        return prefix + OTHER
