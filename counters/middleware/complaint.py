"""Telling the log of what may go wrong with every request."""

import logging
import time
from collections.abc import Callable

SECONDS_BETWEEN = 60

logger = logging.getLogger("counters.middleware")


class Complaint:
    """A line in the log, once a minute at most: `message` has places for how often it happened, and for why at last."""

    # Without a lock, which a forked child could inherit held: two threads at once may miss one of their two.

    def __init__(self, message: str, level: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._message = message
        self._level = level
        self._clock = clock
        self._times = 0
        self._reason: object = None
        self._due = clock()

    def say(self, reason: object) -> None:
        """It has happened again."""
        self._times += 1
        self._reason = reason
        self.repeat()

    def repeat(self) -> None:
        """Log what has not been logged yet, when it is time."""
        if self._times and self._clock() >= self._due:
            self.finish()

    def finish(self) -> None:
        """Log what has not been logged yet."""
        if self._times:
            times, self._times = self._times, 0
            self._due = self._clock() + SECONDS_BETWEEN
            logger.log(self._level, self._message, times, self._reason)
