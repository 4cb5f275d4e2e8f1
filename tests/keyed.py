"""Clients of `POST /hits/` that send each batch under its key until it is answered."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import accumulate
from typing import Any

import aiohttp

from tests.service import Service

CONNECTIONS = 50
GIVE_UP_SECONDS = 120
PATHS = 20
BROKEN = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)


class KeyedLoad:
    """Batches under keys of their own, sent by `connections` clients that send each again until it is answered."""

    def __init__(self, service: Service, prefix: str, seed: object = 1, connections: int = CONNECTIONS) -> None:
        self._url = f"{service.url}/hits/"
        self.prefix = prefix
        self._connections = connections
        self._draw = random.Random(f"{seed}")
        #: After an answer that is none; the service asks for a second.
        self.pause_seconds = 0.02
        self.sent: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.answers: Counter[int | str] = Counter()
        self.reasons: Counter[str] = Counter()
        #: Seconds until a batch was answered 200, with all attempts, at most.
        self.slowest_recovery = 0.0

    @property
    def at_most(self) -> Counter[str]:
        """How many hits of each path may have been counted."""
        return self.sent

    def make(self) -> tuple[str, list[dict[str, Any]]]:
        """A key, and hits of some of twenty paths, which are taken as sent."""
        hits = [
            {"path": f"{self.prefix}{self._draw.randrange(PATHS)}", "n": self._draw.randint(1, 3)}
            for _ in range(self._draw.randint(1, 5))
        ]
        self.sent += _hits_of(hits)
        return f"{self.prefix}{self._draw.getrandbits(64)}", hits

    async def send(self, session: aiohttp.ClientSession, key: str, hits: list[dict[str, Any]]) -> None:
        """Return when the batch is answered."""
        begun = time.monotonic()
        while time.monotonic() < begun + GIVE_UP_SECONDS:
            status, answer = await self._try(session, key, hits)
            self.answers[status] += 1
            if status == 200:
                assert answer == {"counted": sum(hit["n"] for hit in hits)}
                self.slowest_recovery = max(self.slowest_recovery, time.monotonic() - begun)
                return
            assert status in (503, "broken"), (status, answer)
            self.reasons[answer["detail"]] += 1
            await asyncio.sleep(self.pause_seconds)
        raise AssertionError(f"not answered: {self.answers} {self.reasons}")

    async def _try(self, session: aiohttp.ClientSession, key: str, hits: Any) -> tuple[int | str, Any]:
        try:
            async with session.post(self._url, json=hits, headers={"Idempotency-Key": key}) as answer:
                return answer.status, await answer.json()
        except BROKEN as error:
            return "broken", {"detail": type(error).__name__}

    def keep_sending(self, until: Callable[[], bool]) -> None:
        """New batches from all connections at once, until it has come about."""

        async def client(session: aiohttp.ClientSession) -> None:
            while not until():
                key, hits = self.make()
                await self.send(session, key, hits)
                self.acknowledged += _hits_of(hits)

        self.run(lambda session: asyncio.gather(*[client(session) for _ in range(self._connections)]))

    def keep_sending_while(self, act: Callable[[], None], times: int, draw: random.Random) -> None:
        """New batches, and so many times amid them `act`: after 100 to 400 answers each."""
        due = list(accumulate(draw.randint(100, 400) for _ in range(times)))

        def done() -> bool:
            if due and self.answers[200] > due[0]:
                act()
                due.pop(0)
            return not due

        self.keep_sending(done)

    def run(self, act: Callable[[aiohttp.ClientSession], Awaitable[Any]]) -> None:
        async def connected() -> None:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=self._connections)) as session:
                await act(session)

        asyncio.run(connected())

    def assert_bounds_hold(self, counts: dict[str, int]) -> None:
        """All that was sent was sent until it was answered, so it is counted, and once: counted = sent."""
        assert counts == self.sent


def _hits_of(hits: list[dict[str, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for hit in hits:
        found[hit["path"]] += hit["n"]
    return found
