"""Sessions of the writer that fail on purpose, by a seeded draw: before send, after send and after commit."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import product
from typing import Any, Never

from psycopg import OperationalError, errors

from counters.ingest.session import Parameters, Session

#: What befalls a statement, and when.
Fault = tuple[str, str]

CUT = "cut"
#: What PostgreSQL reports where others are in the way, or a statement takes too long: serialization failure, deadlock,
#: lock not available (a lock timeout), query canceled (a statement timeout).
ERRORS = ("40001", "40P01", "55P03", "57014")
#: Before send, nothing reaches the server. After send, the server commits the statement or not, and nobody hears of it,
#: or it has done the statement and reports the error instead of committing. After commit, the answer has come.
FAULTS: tuple[Fault, ...] = (
    *product([CUT], ["before send", "after send", "after commit"]),
    *product(ERRORS, ["before send", "after send"]),
)
NOTHING: Fault = ("", "")
#: So long, in seconds, a connection may last after a statement that nobody reads the answer of.
LONGEST_REST = 0.005


class Faults:
    """Meets one statement in `1 / rate` with a fault; `met` says how often each has happened.

    `limits` are settings that sessions have from when the writer has made its own.
    """

    def __init__(self, seed: object, rate: float, limits: Mapping[str, str] | None = None) -> None:
        self.draw = random.Random(f"{seed}")
        self.limits = limits or {}
        self.met: Counter[Fault] = Counter()
        self._rate = rate

    async def connect(self, conninfo: str, **parameters: Any) -> Session:
        """A session that fails now and then, for `PostgresWriter(connect=…)`."""
        session = await FailingSession.connect(conninfo, **parameters)
        assert isinstance(session, FailingSession)
        session.faults = self
        return session

    def next(self) -> Fault:
        """What is to befall the next statement, nothing mostly."""
        return self.draw.choice(FAULTS) if self.draw.random() < self._rate else NOTHING

    def happened(self, fault: Fault) -> None:
        self.met[fault] += 1


class FailingSession(Session):
    """A real session, to a real PostgreSQL, whose statements meet faults."""

    faults: Faults

    async def prepare(self, name: bytes, statement: bytes) -> None:
        await super().prepare(name, statement)
        for limit, value in self.faults.limits.items():
            await super().execute(b"SELECT set_config($1, $2, false)", [limit.encode(), value.encode()])

    async def execute_prepared(self, name: bytes, parameters: Parameters) -> list[bytes]:
        send = partial(self._pgconn.send_query_prepared, name, parameters)
        return await self._meet(send, partial(super().execute_prepared, name, parameters))

    async def execute(self, statement: bytes, parameters: Parameters = ()) -> list[bytes]:
        send = partial(self._pgconn.send_query_params, statement, parameters)
        return await self._meet(send, partial(super().execute, statement, parameters))

    async def _meet(self, send: Callable[[], None], run: Callable[[], Awaitable[list[bytes]]]) -> list[bytes]:
        what, when = self.faults.next()
        if what in ERRORS and when == "before send":
            self.faults.happened((what, when))
            raise errors.lookup(what)("injected before send")
        if what in ERRORS:
            await self._run_and_undo(run, what)
        if (what, when) == (CUT, "before send"):
            await self._cut(when)
        if (what, when) == (CUT, "after send"):
            await self._send_and_read_nothing(send)
            await self._cut(when)
        rows = await run()
        if when == "after commit":
            await self._cut(when)
        return rows

    async def _run_and_undo(self, run: Callable[[], Awaitable[list[bytes]]], code: str) -> None:
        """Have the server do all of the statement, and then report an error; what it reports itself comes first."""
        await super().execute(b"BEGIN")
        try:
            await run()
            self.faults.happened((code, "after send"))
            error = f"DO $$ BEGIN RAISE EXCEPTION 'injected after send' USING ERRCODE = '{code}'; END $$"
            await super().execute(error.encode())
        finally:
            await super().execute(b"ROLLBACK")

    async def _send_and_read_nothing(self, send: Callable[[], None]) -> None:
        self._leave_socket()
        send()
        while self._pgconn.flush():
            await asyncio.sleep(0)
        await asyncio.sleep(self.faults.draw.choice([0, self.faults.draw.uniform(0, LONGEST_REST)]))

    async def _cut(self, when: str) -> Never:
        self.faults.happened((CUT, when))
        await self.close()
        raise OperationalError(f"the connection was cut {when}")
