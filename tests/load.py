"""Clients that keep asking while things break, and remember what they sent and what they were answered."""

import http.client
import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Self

from tests.client import Connection
from tests.service import Service

CLIENTS = 16
PATHS = 20


class Load:
    """Sends hits of some paths from `clients` connections until stopped; a connection that breaks is made anew.

    With several services, each client has one of them. What is `acknowledged` was answered 200; a client that was
    answered something else, or nothing, asks for another hit a moment later.
    """

    def __init__(
        self, services: Service | Sequence[Service], prefix: str, seed: object = 1, clients: int = CLIENTS
    ) -> None:
        self._services = [services] if isinstance(services, Service) else services
        self._seed = seed
        self._clients = clients
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.paths = [f"{prefix}{n}/" for n in range(PATHS)]
        self.sent: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.answers: Counter[int | str] = Counter()
        #: Of each path, the places that the answers told; each hit has one of its own.
        self.places: defaultdict[str, Counter[int]] = defaultdict(Counter)
        #: Seconds until an answer came, at most, by status.
        self.slowest: defaultdict[int | str, float] = defaultdict(float)
        #: Seconds that a client waited, with all its attempts, until a hit of its was acknowledged, at most.
        self.slowest_recovery = 0.0
        #: How often hits of each path were taken off meanwhile; it counts from one again after each.
        self.resets: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._client, args=[number]) for number in range(self._clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _client(self, number: int) -> None:
        draw = random.Random(f"{self._seed} {number}")
        connection = Connection(self._services[number % len(self._services)])
        waiting_since = time.monotonic()
        while not self._stop.is_set():
            path = draw.choice(self.paths)
            with self._lock:
                self.sent[path] += 1
            begun, place = time.monotonic(), None
            try:
                answer = connection.ask(path)
                status: int | str = answer.status
                if status == 200:
                    place = json.loads(answer.body)["count"]
            except (OSError, http.client.HTTPException):
                status = "broken"
                connection.close()
            ended = time.monotonic()
            with self._lock:
                self.answers[status] += 1
                self.slowest[status] = max(self.slowest[status], ended - begun)
                if place is not None:
                    self.acknowledged[path] += 1
                    self.places[path][place] += 1
                    self.slowest_recovery = max(self.slowest_recovery, ended - waiting_since)
            if place is None:
                self._stop.wait(0.01)
            else:
                waiting_since = time.monotonic()
        connection.close()

    def wait_for(self, acknowledged: int, seconds: float = 60) -> None:
        """Return once so many more hits have been acknowledged; a service that stays away fails the test."""
        goal = self.acknowledged.total() + acknowledged
        deadline = time.monotonic() + seconds
        while self.acknowledged.total() < goal:
            assert time.monotonic() < deadline, f"no {acknowledged} more hits acknowledged: {self.answers}"
            self._stop.wait(0.01)

    def assert_bounds_hold(self, counts: dict[str, int]) -> None:
        """Nothing acknowledged is lost, nothing is counted twice: acknowledged <= counted <= sent, for every path.

        And no two hits have the same place, nor one beyond the count, but for those between which the path was reset.
        `counts` has what resets took off, too.
        """
        for path in self.sent:
            assert self.acknowledged[path] <= counts.get(path, 0) <= self.sent[path], path
            assert max(self.places[path].values(), default=0) <= 1 + self.resets[path], path
            assert max(self.places[path], default=0) <= counts.get(path, 0), path

    def told_twice(self, path: str) -> int:
        """How many hits of a path were told a place that another one has."""
        return self.places[path].total() - len(self.places[path])
