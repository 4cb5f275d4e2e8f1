"""Clients that keep asking while things break, and remember what they sent and what they were answered."""

import http.client
import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Self

from tests.client import Connection
from tests.service import Service

CLIENTS = 16
PATHS = 20


class Load:
    """Sends hits of some paths from `clients` connections until stopped; a connection that breaks is made anew.

    With several services, each client has one of them. What is `acknowledged` was answered 200; a client that was
    answered something else, or nothing, asks for another hit a moment later. What could not be sent, since nobody
    listened, is no hit.
    """

    def __init__(
        self, services: Service | Sequence[Service], prefix: str, seed: object = 1, clients: int = CLIENTS
    ) -> None:
        self._services = [services] if isinstance(services, Service) else services
        self._seed = seed
        self._clients = clients
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.prefix = prefix
        self.paths = [f"{prefix}{n}/" for n in range(PATHS)]
        self.sent: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        #: Those that may have been counted: not answered, or with the words that this is not known.
        self.in_doubt: Counter[str] = Counter()
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
            path, begun = draw.choice(self.paths), time.monotonic()
            with self._lock:
                self.sent[path] += 1
            status, told = self._ask(connection, path)
            ended = time.monotonic()
            with self._lock:
                self._note(path, status, told, ended - begun)
                if status == 200:
                    self.slowest_recovery = max(self.slowest_recovery, ended - waiting_since)
            if status == 200:
                waiting_since = time.monotonic()
            else:
                self._stop.wait(0.01)
        with self._lock:
            self.slowest_recovery = max(self.slowest_recovery, time.monotonic() - waiting_since)
        connection.close()

    def _ask(self, connection: Connection, path: str) -> tuple[int | str, Any]:
        """What is answered: its status, and its body."""
        try:
            answer = connection.ask(path)
            return answer.status, json.loads(answer.body)
        except ConnectionRefusedError:
            connection.close()
            return "nobody listens", {}
        except (OSError, http.client.HTTPException):
            connection.close()
            return "broken", {}

    def _note(self, path: str, status: int | str, told: Any, seconds: float) -> None:
        self.answers[status] += 1
        self.slowest[status] = max(self.slowest[status], seconds)
        if status == 200:
            self.acknowledged[path] += 1
            self.places[path][told["count"]] += 1
        elif status == "nobody listens":
            self.sent[path] -= 1
        elif status == "broken" or leaves_doubt(told):
            self.in_doubt[path] += 1

    def wait_for(self, acknowledged: int, seconds: float = 60) -> None:
        """Return once so many more hits have been acknowledged; a service that stays away fails the test."""
        goal = self.acknowledged.total() + acknowledged
        deadline = time.monotonic() + seconds
        while self.acknowledged.total() < goal:
            assert time.monotonic() < deadline, f"no {acknowledged} more hits acknowledged: {self.answers}"
            self._stop.wait(0.01)

    def assert_bounds_hold(self, counts: dict[str, int]) -> None:
        """What was acknowledged is counted, once, and of the rest at most what may have been, for every path.

        And no two hits have the same place, nor one beyond the count, but for those between which the path was reset.
        `counts` has what resets took off, too.
        """
        assert set(counts) <= set(self.sent), "hits are counted for paths that nobody has asked for"
        for path in self.sent:
            assert self.acknowledged[path] <= counts.get(path, 0) <= self.at_most[path], path
            assert max(self.places[path].values(), default=0) <= 1 + self.resets[path], path
            assert max(self.places[path], default=0) <= counts.get(path, 0), path

    @property
    def at_most(self) -> Counter[str]:
        """How many hits of each path may have been counted."""
        return self.acknowledged + self.in_doubt


def leaves_doubt(told: dict[str, Any]) -> bool:
    """Whether these are the words of a 503 that does not say "not counted"."""
    return "not counted" not in told["detail"]
