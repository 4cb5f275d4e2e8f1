"""TCP proxies before PostgreSQL: one cuts connections, above all between a commit and its answer, one is slow."""

import asyncio
import random
import re
import threading
from enum import StrEnum
from typing import Self

#: How the server says that the batch statement is done, or COMMIT; it leaves the server after the commit, with
#: ReadyForQuery, which says that no transaction is open.
COMMITTED = re.compile(rb"(INSERT 0 1|COMMIT)\x00Z\x00\x00\x00\x05I")


SHARE = 0.05


class Place(StrEnum):
    """Where a connection is cut, of what the client sends and what the server answers."""

    BEFORE_SERVER = "before the server has the request"
    AMID_REQUEST = "amid the request"
    AMID_ANSWER = "amid the answer"
    AFTER_COMMIT = "after COMMIT"


class Proxy:
    """Listens on a loopback port and passes on to PostgreSQL's Unix socket."""

    def __init__(self, socket_path: str) -> None:
        self._socket_path = socket_path
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = server.result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """A libpq URL for the project's database behind it."""
        return f"postgresql://hitcounter@127.0.0.1:{self.port}/hitcounter"

    async def _passed(self, data: bytes, *, answer: bool) -> int:
        """How many bytes of what the client sent or the server answered to pass on; the connection ends after fewer."""
        return len(data)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._socket_path)
        try:
            await asyncio.wait(
                [
                    asyncio.create_task(self._pass_on(reader, server_writer, answer=False)),
                    asyncio.create_task(self._pass_on(server_reader, writer, answer=True)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            writer.close()
            server_writer.close()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answer: bool) -> None:
        while data := await source.read(65536):
            passed = await self._passed(data, answer=answer)
            sink.write(data[:passed])
            await sink.drain()
            if passed < len(data):
                return


class CuttingProxy(Proxy):
    """Once `cutting`, cuts one in 20 of those connections on which something comes by the place."""

    def __init__(self, socket_path: str, seed: object = 1, place: Place = Place.AFTER_COMMIT) -> None:
        super().__init__(socket_path)
        self._draw = random.Random(f"{seed}")
        self.place = place
        self.cutting = False
        self.cuts = 0

    async def _passed(self, data: bytes, *, answer: bool) -> int:
        if not (self.cutting and self._is_by(data, answer) and self._draw.random() < SHARE):
            return len(data)
        self.cuts += 1
        return self._draw.randrange(len(data)) if self.place in (Place.AMID_REQUEST, Place.AMID_ANSWER) else 0

    def _is_by(self, data: bytes, answer: bool) -> bool:
        if self.place is Place.AFTER_COMMIT:
            return answer and COMMITTED.search(data) is not None
        return answer == (self.place is Place.AMID_ANSWER)


class SlowProxy(Proxy):
    """Keeps each answer back for so many `seconds`."""

    def __init__(self, socket_path: str) -> None:
        super().__init__(socket_path)
        self.seconds = 0.0

    async def _passed(self, data: bytes, *, answer: bool) -> int:
        if answer:
            await asyncio.sleep(self.seconds)
        return len(data)
