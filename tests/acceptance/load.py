"""Clients that keep asking while things break, and remember what they sent and what they were answered."""

import http.client
import random
import threading
from collections import Counter
from typing import Self

from tests.acceptance.client import Connection
from tests.service import Service

CLIENTS = 16


class Load:
    """Sends hits on `paths` from `CLIENTS` connections until stopped; a connection that breaks is made anew."""

    def __init__(self, service: Service, prefix: str, seed: int = 1) -> None:
        self._service = service
        self._seed = seed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.paths = [f"{prefix}{n}/" for n in range(20)]
        self.sent: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.answers: Counter[int | str] = Counter()

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._client, args=[self._seed + n]) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _client(self, seed: int) -> None:
        draw = random.Random(seed)
        connection = Connection(self._service)
        while not self._stop.is_set():
            path = draw.choice(self.paths)
            with self._lock:
                self.sent[path] += 1
            try:
                status: int | str = connection.ask(path).status
            except (OSError, http.client.HTTPException):
                status = "broken"
                connection.close()
                self._stop.wait(0.01)
            with self._lock:
                self.answers[status] += 1
                self.acknowledged[path] += status == 200
        connection.close()

    def wait_for(self, acknowledged: int) -> None:
        """Return once so many more hits have been acknowledged; a service that stays away fails the test."""
        goal = self.acknowledged.total() + acknowledged
        for _ in range(6000):
            if self.acknowledged.total() >= goal:
                return
            self._stop.wait(0.01)
        raise AssertionError(f"no {acknowledged} more hits acknowledged in a minute: {self.answers}")

    def assert_bounds_hold(self, counts: dict[str, int]) -> None:
        """Nothing acknowledged is lost, nothing is counted twice: acknowledged <= counted <= sent, for every path."""
        for path in self.paths:
            assert self.acknowledged[path] <= counts.get(path, 0) <= self.sent[path], path
