"""A client that offers more hits than a service can take: over many connections, or at a rate whatever comes back."""

import asyncio
import json
import math
import random
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.load import leaves_doubt
from tests.service import Service

PATHS = 20
#: After the last hit was sent, until its answer.
LAST_ANSWER_SECONDS = 30
#: A connection that has rested for longer may be closed by the service at the moment that it is used again.
LONGEST_REST_SECONDS = 2
#: So many hits are sent before answers are looked for, where the client is late: their connections can be used again.
TURN = 20
#: So many connections are made at once.
CONNECTING = 50
#: What a process has open besides its connections.
OTHER_FILES = 200


@contextmanager
def files_for(connections: int) -> Iterator[None]:
    """Let this process, and those that it starts meanwhile, have so many connections; skip the test if they may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + OTHER_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"A process may open {hard:,} files here (ulimit -Hn), and this test needs {needed:,}.")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Flood:
    """Hits of some paths from one event loop; remembers what was sent, what came back, and when.

    A hit is sent at most once: one whose connection breaks, and one of which the service cannot say whether it was
    counted, are `in_doubt`. The seconds that hits took until they were answered, from the moment at which a connection
    was sought for them, are `waits`, by status.
    """

    def __init__(self, service: Service, prefix: str, seed: object = 1) -> None:
        self._port = service.port
        self._draw = random.Random(f"{seed}")
        self._idle: list[_Connection] = []
        self._connections: list[_Connection] = []
        self._under_way = 0
        self.prefix = prefix
        self.paths = [f"{prefix}{n}/" for n in range(PATHS)]
        self.sent: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.in_doubt: Counter[str] = Counter()
        self.answers: Counter[int | str] = Counter()
        #: Of each sentence that came with a 503, how often.
        self.reasons: Counter[str] = Counter()
        self.places: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.waits: defaultdict[int | str, list[float]] = defaultdict(list)
        #: How long hits were sent for: longer than was asked for, where this client cannot keep up.
        self.seconds = 0.0

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
        """Have so many connections send one hit after the other, as soon as each is answered; all for so long."""
        asyncio.run(self._press(connections, seconds))

    async def _offer(self, rate: float, seconds: float) -> None:
        begun = time.monotonic()
        async with asyncio.TaskGroup() as soon:
            await self._send_those_due(rate, seconds, soon)
        self.seconds = time.monotonic() - begun
        await self._last_answers()

    async def _send_those_due(self, rate: float, seconds: float, soon: asyncio.TaskGroup) -> None:
        begun, number, connecting = time.monotonic(), 0, asyncio.Semaphore(CONNECTING)
        while number < rate * seconds:
            due = begun + number / rate
            if (ahead := due - time.monotonic()) > 0.001:
                await asyncio.sleep(ahead)
            elif number % TURN == 0:
                await asyncio.sleep(0)
            if connection := self._rested():
                self._send(connection, time.monotonic())
            else:
                soon.create_task(self._send_soon(connecting))
            number += 1

    async def _send_soon(self, connecting: asyncio.Semaphore) -> None:
        """Over a connection that rests by then, or a new one; those that come after do not wait for it."""
        async with connecting:
            begun = time.monotonic()
            connection = self._rested() or await self._connect(self._idle.append)
        self._send(connection, begun)

    def _rested(self) -> "_Connection | None":
        """A connection that can be used again: the one that was used last."""
        if not self._idle or time.monotonic() - self._idle[-1].answered_at > LONGEST_REST_SECONDS:
            return None
        return self._idle.pop()

    async def _press(self, connections: int, seconds: float) -> None:
        begun, until = time.monotonic(), math.inf

        def again(connection: _Connection) -> None:
            now = time.monotonic()
            if now < until:
                self._send(connection, now)

        for _ in range(connections):
            again(await self._connect(again))
        until = time.monotonic() + seconds  # to connect takes as long on a slow machine
        await asyncio.sleep(seconds)
        self.seconds = time.monotonic() - begun
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

    def _send(self, connection: "_Connection", begun: float) -> None:
        path = self._draw.choice(self.paths)
        self.sent[path] += 1
        self._under_way += 1
        connection.ask(path, begun)

    def note(self, path: str, begun: float, status: int | str, body: bytes) -> None:
        """Remember what a hit was answered."""
        self._under_way -= 1
        self.answers[status] += 1
        self.waits[status].append(time.monotonic() - begun)
        if status == 200:
            self.acknowledged[path] += 1
            self.places[path][int(body.rpartition(b" ")[2][:-1])] += 1
        elif status == "broken":
            self.in_doubt[path] += 1
        elif status == 503:
            told = json.loads(body)
            self.reasons[told["detail"]] += 1
            self.in_doubt[path] += leaves_doubt(told)

    @property
    def at_most(self) -> Counter[str]:
        """How many hits of each path may have been counted."""
        return self.acknowledged + self.in_doubt

    def assert_bounds_hold(self, counts: dict[str, int]) -> None:
        """Of each path, acknowledged <= counted <= acknowledged + in doubt; each hit has its own place."""
        assert self.answers.total() == self.sent.total(), "some hits were not answered, nor did their connection break"
        for path in self.paths:
            assert self.acknowledged[path] <= counts.get(path, 0) <= self.at_most[path], path
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

    def ask(self, path: str, begun: float) -> None:
        self._hit = path, begun
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
        self._answered(status, body)
        if b"connection: close" not in head.lower():
            self._rested(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._hit:
            self._answered("broken", b"")

    def close(self) -> None:
        self._transport.close()

    def _answered(self, status: int | str, body: bytes) -> None:
        assert self._hit
        (path, begun), self._hit = self._hit, None
        self.answered_at = time.monotonic()
        self._flood.note(path, begun, status, body)


def _length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.split(b"\r\n", 1)[0])
