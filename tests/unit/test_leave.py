"""hitcounter/leave.py: a worker that ends, with real connections, and an application that says what it was asked."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.config import Config

from hitcounter import leave
from hitcounter.leave import POLL_SECONDS, Listeners
from hitcounter.protocol import PatientProtocol

WAIT_SECONDS = 10
FIRST, SECOND = 0, 1
LAST_ANSWER = b"Connection: close"


class Counting:
    def answer_of(self, method: str, raw_path: bytes, *_: Any) -> Any:
        return self._answer(raw_path)

    async def _answer(self, raw_path: bytes) -> Any:
        return 200, [(b"content-length", b"%d" % len(raw_path))], raw_path


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes leave changes the protocol for all connections of its process."""
    for name in ("_arm_keepalive_timer", "_will_close"):
        monkeypatch.setattr(PatientProtocol, name, getattr(PatientProtocol, name))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture
async def worker(listener: socket.socket) -> Any:
    """One that never looks who has come: as one that is held up."""
    made = SimpleNamespace(
        cfg=Config(), log=Mock(access_log_enabled=False), loop=asyncio.get_running_loop(), nr_conns=0, nr=0, alive=True,
        max_requests=1000, asgi=None, state={"counting": Counting()}, place=FIRST, listeners=Listeners(),
        sockets=[SimpleNamespace(sock=listener)], servers=[Mock(close=listener.close)],
    )  # fmt: skip
    made.listeners.add(FIRST)
    return made


async def take_leave(worker: Any) -> None:
    await leave.take_leave(worker, end_streams=Mock())


def ask(connection: socket.socket, path: str) -> None:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


async def answer(connection: socket.socket) -> bytes:
    connection.setblocking(False)
    async with asyncio.timeout(WAIT_SECONDS):
        return await asyncio.get_running_loop().sock_recv(connection, 10_000)


async def test_connections_that_wait_to_be_accepted_are_answered(worker, listener):
    with ExitStack() as closed:
        waiting = [closed.enter_context(socket.create_connection(listener.getsockname())) for _ in range(8)]
        for number, connection in enumerate(waiting):
            ask(connection, f"/{number}")
        await take_leave(worker)
        for number, connection in enumerate(waiting):
            assert (await answer(connection)).endswith(f"\r\n\r\n/{number}".encode())


@pytest.mark.parametrize("all_end", [True, False], ids=["all end", "others come"])
async def test_nobody_is_told_to_go_before_all_who_end_have_ceased_to_listen(worker, listener, all_end):
    worker.cfg.set("keepalive", WAIT_SECONDS)
    worker.listeners.add(SECOND)
    if all_end:
        worker.listeners.end()
    with socket.create_connection(listener.getsockname()) as connection:
        leaving = asyncio.create_task(take_leave(worker))
        await asyncio.sleep(5 * POLL_SECONDS)
        ask(connection, "/while-the-other-listens")
        answered = await answer(connection)
        assert (LAST_ANSWER in answered) is not all_end
        worker.listeners.remove(SECOND)
        if all_end:
            await asyncio.sleep(5 * POLL_SECONDS)
            ask(connection, "/when-it-does-not")
            assert LAST_ANSWER in await answer(connection)
    async with asyncio.timeout(WAIT_SECONDS):
        await leaving


async def test_a_worker_that_does_not_hear_is_waited_for_no_longer_than_it_must(worker, monkeypatch):
    monkeypatch.setattr("hitcounter.leave.LATE_SECONDS", 0.1)
    worker.listeners.add(SECOND)
    worker.listeners.end()
    async with asyncio.timeout(WAIT_SECONDS):
        await take_leave(worker)
    assert worker.listeners.some_are_late()


async def test_a_worker_that_still_starts_ends_when_it_has_begun_to_listen(worker, listener):
    servers, worker.servers = worker.servers, []
    with socket.create_connection(listener.getsockname()) as connection:
        ask(connection, "/early")
        leaving = asyncio.create_task(take_leave(worker))
        await asyncio.sleep(5 * POLL_SECONDS)
        worker.listeners.end()
        assert worker.listeners.some_are_late() and not worker.nr_conns
        worker.servers = servers
        assert (await answer(connection)).endswith(b"/early")
    async with asyncio.timeout(WAIT_SECONDS):
        await leaving
    assert not worker.listeners.some_are_late()


async def test_what_does_not_end_by_itself_is_ended_when_its_connection_is_to_rest_briefly(worker):
    in_force = []
    await leave.take_leave(
        worker, lambda: in_force.append((PatientProtocol._will_close, PatientProtocol._arm_keepalive_timer))
    )
    assert in_force == [(leave._will_close, leave._arm_last_timer)]


async def test_a_connection_that_broke_before_it_was_accepted_hides_no_other(worker):
    accepted = Mock()
    accept = Mock(side_effect=[ConnectionAbortedError, (accepted, None), BlockingIOError])
    assert list(leave._waiting([SimpleNamespace(sock=Mock(accept=accept))])) == [accepted]
