"""A client that offers more hits than a service can take: over many connections, or at a rate whatever comes back."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from tests.service import Service

PATHS = 20
#: After the last hit was sent, until its answer.
LAST_ANSWER_SECONDS = 30
#: A connection that has rested for longer may be closed by the service at the moment that it is used again.
LONGEST_REST_SECONDS = 2


class Flood:
    """Hits of some paths from one event loop; remembers what was sent, what came back, and when.

    A hit is sent at most once: one whose connection breaks is `broken`. The seconds that hits took until they were
    answered, from the moment at which each was due, are `waits`, by status.
    """

    def __init__(self, service: Service, prefix: str, seed: object = 1) -> None:
        self._port = service.port
        self._draw = random.Random(f"{seed}")
        self._idle: list[_Connection] = []
        self._connections: list[_Connection] = []
        self._under_way = 0
        self.paths = [f"{prefix}{n}/" for n in range(PATHS)]
        self.sent: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.answers: Counter[int | str] = Counter()
        self.places: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.waits: defaultdict[int | str, list[float]] = defaultdict(list)

    @property
    def slowest_recovery(self) -> float:
        """Nobody asks again here: how long a hit waited until it was acknowledged, at most."""
        return max(self.waits[200], default=0.0)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def wait_at(self, share: float) -> float:
        """So many seconds at most did this share of the acknowledged hits wait."""
        waits = sorted(self.waits[200])
        return waits[min(int(share * len(waits)), len(waits) - 1)]

    def offer(self, rate: float, seconds: float) -> None:
        """Send so many hits a second, over as many connections as it takes, whatever comes back."""
        asyncio.run(self._offer(rate, seconds))

    def press(self, connections: int, seconds: float) -> None:
        """Have so many connections send one hit after the other, as soon as each is answered."""
        asyncio.run(self._press(connections, seconds))

    async def _offer(self, rate: float, seconds: float) -> None:
        begun, number = time.monotonic(), 0
        while number < rate * seconds:
            due = begun + number / rate
            if (ahead := due - time.monotonic()) > 0.001:
                await asyncio.sleep(ahead)
            connection = self._rested() or await self._connect(self._idle.append)
            self._send(connection, due)
            number += 1
        await self._last_answers()

    def _rested(self) -> "_Connection | None":
        """A connection that can be used again: the one that was used last."""
        if not self._idle or time.monotonic() - self._idle[-1].answered_at > LONGEST_REST_SECONDS:
            return None
        return self._idle.pop()

    async def _press(self, connections: int, seconds: float) -> None:
        until = time.monotonic() + seconds

        def again(connection: _Connection) -> None:
            now = time.monotonic()
            if now < until:
                self._send(connection, now)

        for _ in range(connections):
            again(await self._connect(again))
        await asyncio.sleep(until - time.monotonic())
        await self._last_answers()

    async def _connect(self, rested: "Callable[[_Connection], None]") -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self, rested), "127.0.0.1", self._port)
        self._connections.append(connection)
        return connection

    async def _last_answers(self) -> None:
        deadline = time.monotonic() + LAST_ANSWER_SECONDS
        while self._under_way and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)

    def _send(self, connection: "_Connection", due: float) -> None:
        path = self._draw.choice(self.paths)
        self.sent[path] += 1
        self._under_way += 1
        connection.ask(path, due)

    def note(self, path: str, due: float, status: int | str, place: int | None) -> None:
        """Remember what a hit was answered."""
        self._under_way -= 1
        self.answers[status] += 1
        self.waits[status].append(time.monotonic() - due)
        if place is not None:
            self.acknowledged[path] += 1
            self.places[path][place] += 1

    def assert_bounds_hold(self, counts: dict[str, int]) -> None:
        """What was answered is known: acknowledged <= counted <= acknowledged + broken, each in a place of its own."""
        assert Counter(counts).total() <= self.acknowledged.total() + self.answers["broken"]
        for path in self.paths:
            assert self.acknowledged[path] <= counts.get(path, 0) <= self.sent[path], path
            assert self.acknowledged[path] == len(self.places[path]), path
            assert max(self.places[path], default=0) <= counts.get(path, 0), path


class _Connection(asyncio.Protocol):
    """One hit at a time; `rested` is called when another may be sent. It knows no more of HTTP than answers need."""

    def __init__(self, flood: Flood, rested: "Callable[[_Connection], None]") -> None:
        self._flood = flood
        self._rested = rested
        self._received = b""
        self._hit: tuple[str, float] | None = None
        self.answered_at = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def ask(self, path: str, due: float) -> None:
        self._hit = path, due
        if self._transport.is_closing():
            self.connection_lost(None)
        else:
            self._transport.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended or len(body) < _length(head):
            return
        status, self._received = int(head[9:12]), b""
        self._answered(status, int(body.rpartition(b" ")[2][:-1]) if status == 200 else None)
        if b"connection: close" not in head.lower():
            self._rested(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._hit:
            self._answered("broken", None)

    def close(self) -> None:
        self._transport.close()

    def _answered(self, status: int | str, place: int | None) -> None:
        assert self._hit
        (path, due), self._hit = self._hit, None
        self.answered_at = time.monotonic()
        self._flood.note(path, due, status, place)


def _length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.split(b"\r\n", 1)[0])
