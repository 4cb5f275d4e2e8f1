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
