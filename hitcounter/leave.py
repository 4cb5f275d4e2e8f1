"""How a worker ends: whoever was connected is answered, and told to go only when nobody listens who is about to end."""

import asyncio
import mmap
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from hitcounter.protocol import PatientProtocol, close_after

#: A connection that comes to rest while its worker ends is kept for so long, for a request that is on its way already.
LAST_REST_SECONDS = 1
#: How long to wait for a worker that has not heard yet that all are to end, or that still loads. With the wait for
#: connections after it, this stays below gunicorn's `graceful_timeout`, when the master kills.
LATE_SECONDS = 10
POLL_SECONDS = 0.05


class Listeners:
    """Which workers listen, by their places, and whether all are to end: memory that the master shares with them."""

    def __init__(self) -> None:
        self._places = mmap.mmap(-1, mmap.PAGESIZE)
        self._end = mmap.mmap(-1, 1)

    def add(self, place: int) -> None:
        self._places[place] = 1

    def remove(self, place: int) -> None:
        self._places[place] = 0

    def end(self) -> None:
        """All are to end, and nobody comes in their place."""
        self._end[0] = 1

    def some_are_late(self) -> bool:
        """Whether somebody listens who is to end: whoever was told to connect anew might be broken off there."""
        return bool(self._end[0]) and any(self._places[:])


def end_together(server: Any) -> None:
    """In the master: have workers that all are told to end wait for each other."""
    stop = server.stop

    def stop_all(graceful: bool = True) -> None:
        server.listeners.end()
        stop(graceful)

    server.stop = stop_all


async def take_leave(worker: Any, end_streams: Callable[[], None]) -> None:
    """Take no more connections, and return when those that there are have ended, or only long answers are left.

    Each is told with its next answer that it is the last; one that rests is closed by its timer. gunicorn's own way
    would be to break connections that it has just promised to keep. Answers that do not end by themselves are ended
    then too: whoever had one connects anew.
    """
    while not worker.servers:  # it starts still, and would listen afterwards
        await asyncio.sleep(POLL_SECONDS)
    await asyncio.sleep(POLL_SECONDS)
    loop = asyncio.get_running_loop()
    # With the last who listens, the system breaks all connections that wait to be accepted: a moment ago, this worker
    # may have been held up, and not have seen them. Nothing must come between the last look and the end.
    waiting = list(_waiting(worker.sockets))
    for server in worker.servers:
        server.close()
    worker.listeners.remove(worker.place)
    for connection in waiting:
        await loop.connect_accepted_socket(lambda: PatientProtocol(worker), connection)
    end = loop.time() + LATE_SECONDS
    while worker.listeners.some_are_late() and loop.time() < end:
        await asyncio.sleep(POLL_SECONDS)
    # Only now, so that until then nothing more is asked with each request.
    PatientProtocol._will_close = _will_close
    PatientProtocol._arm_keepalive_timer = _arm_last_timer
    end_streams()
    end = loop.time() + worker.cfg.keepalive + 1
    while worker.nr_conns and loop.time() < end:
        await asyncio.sleep(POLL_SECONDS)


def _waiting(sockets: Any) -> Iterator[socket.socket]:
    """The connections that nobody has accepted yet."""
    for listener in sockets:
        with suppress(OSError):  # there are no more, or no room for them
            while True:
                with suppress(ConnectionError):  # whoever came has left
                    yield listener.sock.accept()[0]


def _will_close(connection: PatientProtocol, request: Any, response_requires_close: bool) -> bool:
    return True


def _arm_last_timer(connection: PatientProtocol) -> None:
    connection._cancel_keepalive_timer()
    close_after(connection, LAST_REST_SECONDS)
