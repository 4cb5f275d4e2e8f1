"""One PostgreSQL session driven by the event loop through libpq, for the one statement that the service lives by.

psycopg's own `AsyncConnection.execute` costs more time on the processor than PostgreSQL needs for a batch: it registers
the socket with the loop and leaves it again for every statement. Here the socket stays registered, and a statement is
one call to send it and one callback when its result is complete (docs/adr/0003).
"""

import asyncio
import select
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection, OperationalError, errors
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

Parameters = Sequence[bytes]


class Session:
    """Runs one statement at a time, each in a transaction of its own. Not to be shared between tasks."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._pgconn: PGconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._results: list[PGresult] = []
        self._answer: asyncio.Future[list[PGresult]] | None = None  # while a statement is under way
        self._loop.add_reader(self._socket, self._read)
        self._watching = True

    @classmethod
    async def connect(cls, conninfo: str, **parameters: Any) -> "Session":
        """Raises psycopg.OperationalError when the server cannot be reached."""
        return cls(await AsyncConnection.connect(conninfo, autocommit=True, **parameters))

    @property
    def lost(self) -> bool:
        """Whether the connection is gone: then nobody knows what became of the last statement."""
        return self._connection.closed

    async def close(self) -> None:
        """Close the connection; what is under way is given up."""
        self._leave_socket()
        await self._connection.close()

    async def prepare(self, name: bytes, statement: bytes) -> None:
        """Prepare a statement with parameters $1, $2, …"""
        self._pgconn.send_prepare(name, statement)
        await self._rows()

    async def execute_prepared(self, name: bytes, parameters: Parameters) -> list[bytes]:
        """Run a prepared statement and return the first column of its rows, as text."""
        self._pgconn.send_query_prepared(name, parameters)
        return await self._rows()

    async def execute(self, statement: bytes, parameters: Parameters = ()) -> list[bytes]:
        """Run a statement and return the first column of its rows, as text."""
        self._pgconn.send_query_params(statement, parameters)
        return await self._rows()

    async def _rows(self) -> list[bytes]:
        """The first column of the result of what was sent, once the server is ready for the next statement.

        Not before, for the server says what a statement returned before it commits it. Raises psycopg.Error, of the
        class that belongs to the server's error code.
        """
        self._results = []
        self._answer = self._loop.create_future()
        self._write()
        try:
            results = await self._answer
        finally:
            self._answer = None
        for result in results:
            if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
                raise errors.error_from_result(result)
        rows = results[0]
        return [rows.get_value(row, 0) or b"" for row in range(rows.ntuples)]

    def _write(self) -> None:
        """Send what libpq holds back; the rest of a long statement when the socket has room again."""
        try:
            unsent = self._pgconn.flush()
        except OperationalError as error:
            self._lose(error)
            return
        if unsent:
            self._loop.add_writer(self._socket, self._write)
        else:
            self._loop.remove_writer(self._socket)

    def _read(self) -> None:
        """Take in what the server sent; the answer is complete when libpq has no further result to give."""
        try:
            self._take_in()
            while self._answer and not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    self._finish()
                    return
                self._results.append(result)
        except OperationalError as error:
            self._lose(error)

    def _take_in(self) -> None:
        """Take in all that there is, and notice an end that follows.

        Of a socket that has failed, uvloop tells once and then no more, whatever is left to be read.
        """
        self._pgconn.consume_input()
        while self._readable.poll(0):
            self._pgconn.consume_input()

    def _finish(self) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(self._results)

    def _lose(self, error: OperationalError) -> None:
        """The connection broke, and libpq has closed its socket."""
        self._leave_socket()
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)

    def _leave_socket(self) -> None:
        """Stop watching the socket, once: its number may soon be that of somebody else's."""
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
