"""A TCP proxy before PostgreSQL that cuts connections when a commit has been made and before its answer arrives."""

import asyncio
import random
import re
import threading
from typing import Self

#: How the server says that the batch statement is done, or COMMIT; it leaves the server after the commit, with
#: ReadyForQuery, which says that no transaction is open.
COMMITTED = re.compile(rb"(INSERT 0 1|COMMIT)\x00Z\x00\x00\x00\x05I")


class CuttingProxy:
    """Listens on a loopback port and passes on to PostgreSQL's Unix socket; once `cutting`, drops one answer in 20."""

    def __init__(self, socket_path: str, seed: object = 1) -> None:
        self._socket_path = socket_path
        self._draw = random.Random(f"{seed}")
        self._loop = asyncio.new_event_loop()
        self.cutting = False
        self.cuts = 0

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
                    asyncio.create_task(self._pass_on(reader, server_writer, may_cut=False)),
                    asyncio.create_task(self._pass_on(server_reader, writer, may_cut=True)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            writer.close()
            server_writer.close()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, may_cut: bool) -> None:
        while data := await source.read(65536):
            if may_cut and self.cutting and COMMITTED.search(data) and self._draw.random() < 0.05:
                self.cuts += 1
                return
            sink.write(data)
            await sink.drain()
