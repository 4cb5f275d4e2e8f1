"""The writer's session on the event loop that the service runs on."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import uvloop

from counters.ingest.session import Session

#: What a server says first that ends with all of its sessions.
NOTICE = b"SWARNING\x00C57P02\x00Mterminating connection because of crash of another server process\x00\x00"
READY = b"R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I"


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[str]:
    """A server that takes leave and ends as soon as something is asked, which it does not read."""

    def serve() -> None:
        with suppress(OSError), listener.accept()[0] as client:
            client.recv(4096)
            client.sendall(READY)
            client.recv(1, socket.MSG_PEEK)
            client.sendall(b"N" + (len(NOTICE) + 4).to_bytes(4) + NOTICE)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen()
        serving = threading.Thread(target=serve)
        serving.start()
        yield f"host={tmp_path} user=a dbname=a"
        serving.join()


def test_a_server_that_ends_between_a_last_word_and_an_answer_is_noticed(failing: str):
    async def ask() -> None:
        session = await Session.connect(failing)
        asked = asyncio.ensure_future(session.execute(b"SELECT 1"))
        await asyncio.sleep(0)
        time.sleep(0.2)  # so that the word and the end are there when the loop looks
        with pytest.raises(psycopg.OperationalError, match=r"closed|reset"):
            await asyncio.wait_for(asked, 5)
        assert session.lost
        await session.close()

    uvloop.run(ask())
