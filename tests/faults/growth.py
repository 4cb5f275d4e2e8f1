"""How much more memory a service's workers come to hold while something goes on, and whether that levels off."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.processes import memory, wait_until, workers
from tests.service import Service

MB = 1_000_000
MOST_GROWTH = 100 * MB
#: What may come in the second half of a whole trial: garbage comes and goes.
LEVEL = 10 * MB
LOOK_SECONDS = 0.1


class Growth:
    """How much more memory the workers of a service hold than in the beginning, which is when all of them count.

    The service is ready as soon as one is; the others may still be loading what they need, tens of megabytes.
    """

    def __init__(self, service: Service) -> None:
        self._workers = workers(service)
        all_accept = f'hitcounter_workers{{state="accepting"}} {len(self._workers)}.0'
        wait_until(lambda: all_accept in service.get("/metrics").text)
        self._before = memory(*self._workers)
        self._seen: list[int] = []

    def look(self) -> None:
        self._seen.append(memory(*self._workers) - self._before)

    @property
    def bytes(self) -> int:
        """At most."""
        return max(self._seen)

    @property
    def late(self) -> int:
        """How much of it came in the second half: little, where it levels off."""
        half = len(self._seen) // 2
        return max(self._seen) - max(self._seen[:half])

    def __str__(self) -> str:
        return f"memory +{self.bytes / MB:.0f} MB, {self.late / MB:.0f} MB of it in the second half"


@contextmanager
def watched(service: Service) -> Iterator[Growth]:
    """Look again and again."""
    growth, done = Growth(service), threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_SECONDS):
            growth.look()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield growth
    finally:
        done.set()
        watching.join()
