"""From the spool to the service: two threads in each process that counts hits, for the network and for the disk."""

import json
import logging
import os
import random
import time
from collections.abc import Callable
from threading import Event, Lock, Thread

from counters.middleware.complaint import Complaint
from counters.middleware.request import Hit
from counters.middleware.service import NotCounted, Refused
from counters.middleware.spool import Segment, Spool

TICK_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
EXIT_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 3600.0

#: Has lines counted under a key, with so many seconds of patience; raises NotCounted.
Deliver = Callable[[str, bytes, float], None]
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
logger = logging.getLogger("counters.middleware")


class Sender:
    """Keeps hits in the spool, and sends what is there once a second; with growing pauses when that fails.

    However long the service takes, hits are on disk (`fsync`) within two seconds or so.

    `draw` gives random numbers from 0 to 1, so that processes that failed together do not try again together.
    """

    def __init__(
        self,
        spool: Spool,
        deliver: Deliver,
        *,
        clock: Callable[[], float] = time.monotonic,
        draw: random.Random | None = None,
    ) -> None:
        self._spool = spool
        self._deliver = deliver
        self._clock = clock
        self._draw = draw or random.Random()
        self._trouble = Complaint("Hits cannot be sent and wait on disk (failures: %d): %s", logging.WARNING)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """As it is in a process that has counted nothing yet."""
        self._starting = Lock()
        self._keeping: Thread | None = None
        self._sending: Thread | None = None
        self._stopping = Event()
        self._failures = 0
        self._not_before = 0.0

    def attend_forks(self) -> None:
        """Have each child process begin with a segment and a thread of its own. Cannot be undone: once per process."""
        os.register_at_fork(
            before=self._spool.before_fork,
            after_in_parent=self._spool.after_fork_in_parent,
            after_in_child=self._spool.after_fork_in_child,
        )
        os.register_at_fork(after_in_child=self._begin_anew)

    def count(self, hit: Hit) -> None:
        """Keep a hit on disk, to be sent soon. Raises SpoolFull, OSError."""
        try:
            self._spool.append(_encode(hit).encode() + b"\n")
        finally:
            # Also when the spool is full: this is what empties it.
            if self._sending is None:
                self._start()

    def close(self) -> None:
        """Try once more, for a short time; what is left then stays for the next process."""
        self._stopping.set()
        if self._sending is not None:
            self._sending.join(2 * EXIT_SECONDS)  # for the connection and for the answer

    def _start(self) -> None:
        with self._starting:
            try:
                self._keeping = self._keeping or _started(self._keep)
                self._sending = self._sending or _started(self._send_on)
            except RuntimeError as error:  # the system gives no more threads: the next hit asks again
                self._trouble.say(repr(error))

    def _keep(self) -> None:
        while True:
            try:
                self._spool.measure()
                self._spool.sync()
            except Exception as error:
                self._trouble.say(repr(error))
            if self._stopping.wait(TICK_SECONDS):
                return

    def _send_on(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            self.send_due()
        self._failures, self._not_before = 0, 0.0
        self.send_due(EXIT_SECONDS)

    def send_due(self, patience: float = PATIENCE_SECONDS) -> None:
        """Send what waits, unless the service is to be left alone for now."""
        if self._clock() < self._not_before:
            return
        try:
            # After 0, 1, 2, 4, 8 … failures: a day's outage leaves a dozen segments, and one that the service fails at
            # (500) does not hold up what comes later.
            if not self._failures & (self._failures - 1):
                self._spool.seal()
            self._send_all(patience)
        except Exception as error:  # whatever it is, hits are kept on, and it is tried again
            self._postpone(error)
        else:
            self._failures = 0

    def _send_all(self, patience: float) -> None:
        waiting = self._spool.waiting()
        # In no order: processes do not queue up behind one another, nor all hits behind some that the service fails at.
        self._draw.shuffle(waiting)
        for path in waiting:
            with self._spool.claim(path) as segment:
                if segment is not None:
                    self._send(segment, patience)

    def _send(self, segment: Segment, patience: float) -> None:
        try:
            self._deliver(segment.key, segment.lines, patience)
        except Refused as refusal:
            refused = segment.set_aside(refusal.index)
            hits = refused.lines.count(b"\n")
            logger.error("%d hits will not be counted, and stay in %s: %s", hits, refused.path, refusal)
        else:
            segment.remove()
            if self._failures:
                logger.warning("Hits are sent again.")
            self._failures = 0  # even if it fails at another

    def _postpone(self, error: Exception) -> None:
        self._failures += 1
        pause = min(2.0**self._failures, LONGEST_PAUSE_SECONDS) * self._draw.uniform(0.5, 1)
        if (asked := getattr(error, "retry_after", None)) is not None:
            pause = min(max(asked, pause), LONGEST_RETRY_AFTER_SECONDS)
        self._not_before = self._clock() + pause
        self._trouble.say(error if isinstance(error, NotCounted) else repr(error))


def _started(run: Callable[[], None]) -> Thread:
    thread = Thread(target=run, name=f"hitcounter{run.__name__}", daemon=True)
    thread.start()
    return thread
