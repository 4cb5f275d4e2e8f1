"""How a connection is spoken to, and when it is given up."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.config import Config

from hitcounter.protocol import TAKE_SECONDS, PatientProtocol


def test_requests_are_parsed_by_the_parser_in_c_where_it_is_installed():
    in_c = pytest.importorskip("gunicorn_h1c").H1CProtocol
    connection = PatientProtocol(SimpleNamespace(cfg=Config(), log=None, asgi=None))
    connection._setup_callback_parser()
    assert type(connection._callback_parser) is in_c


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One without a server behind it; its timer is `connection.timer`, once it has one."""
    for name in ("pause_writing", "resume_writing", "connection_lost"):
        monkeypatch.setattr(ASGIProtocol, name, Mock())
    made: Any = object.__new__(PatientProtocol)
    made.timer = Mock(spec=asyncio.TimerHandle)
    made.worker = SimpleNamespace(loop=Mock(**{"call_later.return_value": made.timer}))
    made.transport = Mock(spec=asyncio.Transport)
    return made


def test_who_does_not_take_what_waits_is_cut_off_after_a_minute(connection: Any):
    connection.pause_writing()
    connection.worker.loop.call_later.assert_called_once_with(TAKE_SECONDS, connection.transport.abort)
    assert TAKE_SECONDS == 60 and not connection.timer.cancel.called


@pytest.mark.parametrize("act", ["resume_writing", "connection_lost"])
def test_who_takes_it_or_leaves_is_not(connection: Any, act: str):
    connection.pause_writing()
    getattr(connection, act)(*([None] if act == "connection_lost" else []))
    connection.timer.cancel.assert_called_once_with()


async def test_a_connection_that_takes_nothing_is_aborted():
    lost, loop = asyncio.Event(), asyncio.get_running_loop()

    class Sending(PatientProtocol):
        take_seconds = 0.05

        def __init__(self) -> None:
            self.worker = SimpleNamespace(loop=loop)
            self._flow_control = None
            self._h2_writer_protocol = None

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.write(bytes(50_000_000))

        def connection_lost(self, exc: Exception | None) -> None:
            self._take_again()
            lost.set()

    server = await loop.create_server(Sending, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1024)
    await asyncio.wait_for(lost.wait(), 10)
    writer.close()
    server.close()


class FakeCounting:
    """Counts what begins with /api/; an answer is the request's own line, or a defect."""

    def answer_of(self, method: str, raw_path: bytes, query: bytes, headers: Any, address: str | None) -> Any:
        return self._answer(method, raw_path, address) if raw_path.startswith(b"/api/") else None

    async def _answer(self, method: str, raw_path: bytes, address: str | None) -> Any:
        if raw_path == b"/api/defect":
            raise ZeroDivisionError
        body = f"{method} {raw_path.decode()} from {address}".encode()
        return 204 if method == "PUT" else 200, [(b"content-length", b"%d" % len(body)), (b"x-lane", b"fast")], body


async def through_asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"ASGI"})


async def exchange(*requests: bytes) -> bytes:
    """All that is answered to these requests, sent at once over one connection, which the last of them ends."""
    loop = asyncio.get_running_loop()
    worker = SimpleNamespace(
        cfg=Config(), log=Mock(access_log_enabled=False), asgi=through_asgi, loop=loop, nr_conns=0, nr=0, alive=True,
        max_requests=1000, state={"counting": FakeCounting()},
    )  # fmt: skip
    server = await loop.create_server(lambda: PatientProtocol(worker), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"".join(requests))
    answered = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    server.close()
    return answered


def request(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


LAST = request("GET /last", "Connection: close")


async def test_what_is_counted_is_answered_in_its_turn_without_an_asgi_application():
    answered = await exchange(request("GET /api/a"), request("GET /other"), request("GET /api/b"), LAST)
    first, other, second, last = answered.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 OK\r\n") and b"x-lane: fast\r\n" in first
    assert first.endswith(b"\r\n\r\nGET /api/a from 127.0.0.1")
    assert second.endswith(b"\r\n\r\nGET /api/b from 127.0.0.1")
    assert other.endswith(b"\r\n\r\nASGI") and b"close" not in other
    assert last.endswith(b"\r\n\r\nASGI") and b"Connection: close" in last


async def test_the_last_answer_of_a_connection_says_so_and_ends_it():
    answered = await exchange(request("GET /api/a", "Connection: close"), request("GET /api/b"))
    assert answered.count(b"HTTP/1.1 ") == 1 and b"Connection: close\r\n" in answered


async def test_head_and_no_content_have_no_body():
    head, put, _ = (await exchange(request("HEAD /api/a"), request("PUT /api/b"), LAST)).split(b"HTTP/1.1 ")[1:]
    assert head.startswith(b"200 OK\r\n") and b"content-length: 26\r\n" in head and head.endswith(b"\r\n\r\n")
    assert put.startswith(b"204 No Content\r\n") and b"content-length" not in put and put.endswith(b"\r\n\r\n")


async def test_a_request_whose_body_is_still_to_come_is_the_applications():
    answered = await exchange(request("POST /api/a", "Content-Length: 5", "Connection: close"))
    assert answered.endswith(b"ASGI")


async def test_a_defect_is_answered_and_ends_the_connection():
    answered = await exchange(request("GET /api/defect"), request("GET /api/a"))
    assert answered.startswith(b"HTTP/1.1 500 ") and answered.count(b"HTTP/1.1 ") == 1


async def test_many_requests_at_once_leave_others_their_turn():
    turns = 0

    def take_turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(take_turn)

    take_turn()
    answered = await exchange(request("HEAD /api/a") * 100, LAST)
    turns_taken, turns = turns, -1_000_000
    assert answered.count(b"HTTP/1.1 ") == 101 and turns_taken > 100
