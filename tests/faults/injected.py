"""Sessions of the writer that fail on purpose, by a seeded draw: before send, after send and after commit."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from psycopg import OperationalError, errors

from counters.ingest.session import Parameters, Session

#: What PostgreSQL reports where others are in the way, or a statement takes too long: serialization failure, deadlock,
#: lock not available (a lock timeout), query canceled (a statement timeout).
ERRORS = ("40001", "40P01", "55P03", "57014")
#: The connection is cut, or one of the errors is reported, and nothing was sent; it is cut when the statement has been
#: sent, which commits or not; it is cut when the answer has come.
FAULTS = ("before send", *ERRORS, "after send", "after commit")
#: So long, in seconds, a connection may last after a statement that nobody reads the answer of.
LONGEST_REST = 0.005


class Faults:
    """Meets one statement in `1 / rate` with a fault; `met` says how often each has happened."""

    def __init__(self, seed: object, rate: float) -> None:
        self.draw = random.Random(f"{seed}")
        self.met: Counter[str] = Counter()
        self._rate = rate

    async def connect(self, conninfo: str, **parameters: Any) -> Session:
        """A session that fails now and then, for `PostgresWriter(connect=…)`."""
        session = await FailingSession.connect(conninfo, **parameters)
        assert isinstance(session, FailingSession)
        session.faults = self
        return session

    def next(self) -> str:
        """What befalls the next statement, nothing mostly."""
        if self.draw.random() >= self._rate:
            return ""
        fault = self.draw.choice(FAULTS)
        self.met[fault] += 1
        return fault


class FailingSession(Session):
    """A real session, to a real PostgreSQL, whose statements meet faults."""

    faults: Faults

    async def execute_prepared(self, name: bytes, parameters: Parameters) -> list[bytes]:
        send = partial(self._pgconn.send_query_prepared, name, parameters)
        return await self._meet(send, partial(super().execute_prepared, name, parameters))

    async def execute(self, statement: bytes, parameters: Parameters = ()) -> list[bytes]:
        send = partial(self._pgconn.send_query_params, statement, parameters)
        return await self._meet(send, partial(super().execute, statement, parameters))

    async def _meet(self, send: Callable[[], None], run: Callable[[], Awaitable[list[bytes]]]) -> list[bytes]:
        fault = self.faults.next()
        if fault in ERRORS:
            raise errors.lookup(fault)("injected before send")
        if fault == "before send":
            await self._cut(fault)
        if fault == "after send":
            await self._send_and_read_nothing(send)
            await self._cut(fault)
        rows = await run()
        if fault == "after commit":
            await self._cut(fault)
        return rows

    async def _send_and_read_nothing(self, send: Callable[[], None]) -> None:
        self._leave_socket()
        send()
        while self._pgconn.flush():
            await asyncio.sleep(0)
        await asyncio.sleep(self.faults.draw.choice([0, self.faults.draw.uniform(0, LONGEST_REST)]))

    async def _cut(self, when: str) -> None:
        await self.close()
        raise OperationalError(f"the connection was cut {when}")
