"""What is sent to do harm gets the answer that it should get, and others are counted meanwhile.

Whose addresses are believed is told in test_recording.py.
"""

import contextlib
import re
import socket
import time
from collections.abc import Iterator

import pytest

from hitcounter.protocol import FIRST_HEADERS_SECONDS
from tests.client import ask
from tests.service import Service

HEAD = b"Host: localhost\r\nConnection: close\r\n"
FORM = HEAD + b"Content-Type: application/x-www-form-urlencoded\r\n"
#: By gunicorn's parser in Python, and by the one in C, which knows no transfer coding but chunked.
UNKNOWN_CODING = (501, 400)
JSON = HEAD + b"Content-Type: application/json\r\n"


def raw(service: Service, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the rest of what is answered to these bytes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):  # what is refused need not be read to its end
            for piece in pieces:
                connection.sendall(piece)
        answer = b"".join(received(connection))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return (
        int(status.split()[1]),
        {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)},
        body,
    )


def received(connection: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(ConnectionResetError):
        while some := connection.recv(65_536):
            yield some


def get(service: Service, target: bytes, headers: bytes = HEAD) -> tuple[int, dict[str, str], bytes]:
    return raw(service, b"GET " + target + b" HTTP/1.1\r\n" + headers + b"\r\n")


@pytest.mark.parametrize(
    "host", [b"evil.example", b"localhost.evil.example", b"evil.example:5000", b"localhost@evil", b"a b"]
)
@pytest.mark.parametrize("page", [b"/", b"/stats/", b"/admin/login/", b"/paths"])
def test_a_host_that_is_none_of_ours_is_a_400_in_json(service: Service, page: bytes, host: bytes):
    status, headers, body = get(service, page, b"Host: " + host + b"\r\nConnection: close\r\n")
    assert (status, headers["content-type"]) == (400, "application/json")
    assert b"HITCOUNTER_HOSTS" in body
    assert "location" not in headers


def test_a_second_host_is_refused(service: Service):
    assert get(service, b"/stats/", HEAD + b"Host: evil.example\r\n")[0] == 400


@pytest.mark.parametrize(
    "target",
    [
        b"//evil.example/",
        b"//evil.example",
        b"///evil.example/",
        b"//evil.example/..",
        b"//evil.example/stats",
        b"/\\evil.example",
        b"/\\/evil.example",
        b"/%2F/evil.example",
        b"/%2Fevil.example",
        b"/%5Cevil.example",
        b"http://evil.example/stats",
        b"/static//evil.example",
        b"/static/..%2f..%2fmanage.py",
        b"/static/../../manage.py",
    ],
)
def test_no_target_leads_off_this_site_or_out_of_its_files(service: Service, target: bytes):
    status, headers, _ = get(service, target)
    assert status == 404
    assert "location" not in headers


@pytest.mark.parametrize(
    "target", [b"/stats", b"/paths?x=//evil.example", b"/admin//evil.example", b"/admin/%2f/evil.example", b"/api"]
)
def test_what_is_redirected_stays_on_this_site(service: Service, target: bytes):
    status, headers, _ = get(service, target)
    assert status in (301, 302)
    assert re.match(r"/[a-z]", headers["location"])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/stats/?q=%0d%0aX-Evil:1", 400),  # no parameter of that name
        (b"/stats/?prefix=/%0d%0aX-Evil:1", 400),
        (b"/stats%0d%0aX-Evil:1", 404),
        (b"/paths%0d%0aX-Evil:1?a", 404),
        (b"/admin/%0d%0aX-Evil:1", 404),
        (b"/admin/login/?next=/%0d%0aX-Evil:1", 200),
        (b"/admin/%E5%98%8A%E5%98%8DX-Evil:1", 302),
        (b"/api/%0d%0aX-Evil:1", 200),
        (b"/stats/\rX-Evil:1", 400),
        (b"/stats/\nX-Evil:1", 400),
    ],
)
def test_line_ends_in_a_request_make_no_header_of_the_answer(service: Service, target: bytes, expected: int):
    status, headers, _ = get(service, target)
    assert status == expected
    assert not {name for name in headers if "evil" in name}


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414),
        (b"GET /" + b"a" * 1_000_000, 414),
        (b"GET /api/big/ HTTP/1.1\r\n" + HEAD + b"X-A: " + b"a" * 8_190 + b"\r\n\r\n", 431),
        (b"GET /api/big/ HTTP/1.1\r\n" + HEAD + b"X-A: " + b"a" * 1_000_000, 431),
        (b"GET /api/big/ HTTP/1.1\r\n" + HEAD + b"a" * 1_000_000, 431),
        (b"GET /api/big/ HTTP/1.1\r\n" + HEAD + b"".join(b"X-%d: 1\r\n" % n for n in range(99)) + b"\r\n", 431),
        (b"GET /api/big/ HTTP/1.1\r\n" + HEAD + b"X: 1\r\n" * 100_000, 431),
    ],
    ids=["line", "endless line", "field", "endless field", "endless name", "fields", "endless fields"],
)
def test_oversized_headers_are_refused(service: Service, request_bytes: bytes, expected: int):
    assert raw(service, request_bytes)[0] == expected
    assert service.counts("/api/big/") == {}


@pytest.mark.parametrize("path", [b"/admin/login/", b"/loadtests/", b"/test/5/", b"/stats/", b"/nowhere/"])
def test_no_body_but_of_many_hits_has_more_than_100_kb(service: Service, path: bytes):
    line = b"POST " + path + b" HTTP/1.1\r\n"
    status, headers, body = raw(service, line + FORM + b"Content-Length: 200000\r\n\r\n" + b"a" * 200_000)
    assert (status, headers["content-type"]) == (413, "application/json")
    assert b"100,000 bytes" in body
    assert raw(service, line + FORM + b"Content-Length: 1000\r\n\r\n" + b"a" * 1_000)[0] != 413


def test_a_body_of_unknown_length_is_bounded_too(service: Service):
    chunks = (b"ffff\r\n" + b"a" * 0xFFFF + b"\r\n") * 3 + b"0\r\n\r\n"
    status, *_ = raw(service, b"POST /test/5/ HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert status == 413


def test_many_hits_have_8_mb(service: Service):
    line = b"POST /hits/ HTTP/1.1\r\n" + JSON
    status, _, body = raw(service, line + b"Content-Length: 8000001\r\n\r\n" + b" " * 8_000_001)
    assert status == 413
    assert b"8 MB" in body


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n", 400),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"abcde", 400),
        (b"Content-Length: -1\r\n", b"", 400),
        (b"Content-Length: +1\r\n", b"a", 400),
        (b"Content-Length: 1, 1\r\n", b"a", 400),
        (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n", UNKNOWN_CODING),
        (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n", 400),
        (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n", b"zz\r\nabc\r\n0\r\n\r\n", 400),
        (b"X-A: b\r\n c\r\n", b"", 400),
        (b"X-A: b\n", b"", 400),
    ],
)
@pytest.mark.parametrize("path", [b"/pixel.gif?path=/a", b"/hits/"])
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_hides_no_other(
    service: Service, path: bytes, headers: bytes, body: bytes, expected: int | tuple[int, int]
):
    smuggled = b"GET /api/smuggled/ HTTP/1.1\r\n" + HEAD + b"\r\n"
    kept_alive = b"Host: localhost\r\nContent-Type: application/json\r\n"
    answer = raw(service, b"POST " + path + b" HTTP/1.1\r\n" + kept_alive + headers + b"\r\n" + body + smuggled)
    if body.startswith(b"zz") and path != b"/hits/":
        assert answer[0] in (
            204,
            400,
        )  # the pixel's body is not read: it may have been answered before the bad chunk came
    else:
        assert answer[0] in (expected if isinstance(expected, tuple) else (expected,))
    assert service.counts("/api/smuggled/") == {}


def test_connections_that_send_nothing_or_too_slowly_are_closed_and_keep_nobody_from_being_counted(service: Service):
    slow = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(400)]
    for n, connection in enumerate(slow):
        connection.sendall((b"", b"GET /api/slow/ HT", b"GET /api/slow/ HTTP/1.1\r\nHost: lo")[n % 3])
    began = time.monotonic()
    longest = 0.0
    while time.monotonic() < began + FIRST_HEADERS_SECONDS - 2:
        for connection in slow[2::3]:
            with contextlib.suppress(ConnectionError):  # closed meanwhile
                connection.sendall(b"c")  # never at its end, however long one waits
        asked = time.monotonic()
        assert ask(service, "/api/beside-the-slow/").status == 200
        longest = max(longest, time.monotonic() - asked)
        time.sleep(0.2)
    for connection in slow:
        assert b"".join(received(connection)) == b""
        connection.close()
    assert time.monotonic() < began + FIRST_HEADERS_SECONDS + 5
    assert longest < 1
    assert service.counts("/api/slow/") == {}


def test_a_connection_that_is_kept_alive_is_closed_when_its_next_request_is_slow(service: Service):
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(b"GET /api/first/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        connection.sendall(b"GET /api/second/ HTTP/1.1\r\nHost: lo")
        assert b"".join(received(connection)) == b""
    assert time.monotonic() < began + 8


def test_bodies_that_do_not_come_keep_nobody_from_being_counted(service: Service):
    slow = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(200)]
    for connection in slow:
        connection.sendall(b"POST /hits/ HTTP/1.1\r\n" + JSON + b"Content-Length: 1000000\r\n\r\n[")
    for _ in range(20):
        assert ask(service, "/api/beside-the-slow-bodies/").status == 200
        assert service.get("/stats/?limit=1").status_code == 200
    for connection in slow:
        connection.close()
    assert ask(service, "/api/beside-the-slow-bodies/").json()["count"] == 21
