"""Who asks for a list and does not read it keeps a place from others for a bounded time."""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests

from counters.api.formats import MOST_STREAMS
from hitcounter.postgres import PrivatePostgres
from tests.service import Service, put_database

pytestmark = pytest.mark.long

#: More than all buffers between the two hold.
BATCHES, PATHS, LENGTH = 4, 7_000, 1_000


class Impatient(Service):
    """Served as ever, with another application."""

    command = [
        sys.executable,
        "-c",
        "import sys, manage; from hitcounter.management.commands import serve; real = serve.gunicorn;"
        " serve.gunicorn = lambda _: real('tests.impatient:application');"
        " sys.argv = ['manage.py', 'serve']; sys.exit(manage.main())",
    ]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with (
        PrivatePostgres(put_database(tmp_path / "postgres")).held() as database,
        Impatient(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1") as running,
    ):
        yield running


def fill(service: Service) -> None:
    for batch in range(BATCHES):
        hits = [{"path": f"/{batch}/{n}/".ljust(LENGTH, "x")} for n in range(PATHS)]
        assert requests.post(f"{service.url}/hits/", json=hits, timeout=60).status_code == 200


def unread(service: Service) -> socket.socket:
    """A connection on which the whole list is being sent, and nobody reads; others have to leave a place for it."""
    deadline = time.monotonic() + 60
    while True:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(("127.0.0.1", service.port))
        client.sendall(b"GET /stats/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if client.recv(15) == b"HTTP/1.1 200 OK":
            return client
        client.close()
        assert time.monotonic() < deadline, "there is no place"


def test_lists_that_nobody_reads_are_cut_off_and_leave_their_places(service: Service):
    fill(service)
    with ExitStack() as clients:
        slow = [clients.enter_context(unread(service)) for _ in range(MOST_STREAMS + 1)]
        assert not rest(slow[0]).endswith(b"0\r\n\r\n"), "a part looks like the whole"


def test_who_reads_slowly_and_without_a_rest_gets_the_list(service: Service):
    fill(service)
    with unread(service) as client:
        received = 0
        for _ in range(24):
            time.sleep(0.5)
            received += len(client.recv(25_000))
        assert received > 100_000  # in twice the time after which one that takes nothing is cut off


def rest(client: socket.socket) -> bytes:
    """What was on its way when the connection was cut off."""
    received = b""
    with suppress(ConnectionResetError):
        while some := client.recv(65_536):
            received += some
    return received
