"""What an answer of the service means for the hits that were sent."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from time import time

import pytest

from counters.middleware.service import Refused, Service, Unavailable
from tests.hits_stub import HitsStub
from tests.service import free_port

LINES = b'{"path":"/a","at":"2026-03-01T12:00:00+00:00"}\n{"path":"/b","at":"2026-03-01T12:00:00+00:00"}\n'


@pytest.fixture
def stub():
    with HitsStub() as running:
        yield running


def test_lines_are_posted_as_they_are_under_their_key(stub):
    Service(stub.url).count("key", LINES, 5)
    [(key, body, headers)] = stub.requests
    assert (key, body, headers["Content-Type"]) == ("key", LINES, "application/x-ndjson")
    assert stub.counts == {"/a": 1, "/b": 1}
    assert "Authorization" not in headers


def test_the_address_may_have_a_slash_at_its_end(stub):
    Service(f"{stub.url}/").count("key", LINES, 5)
    assert stub.counts.total() == 2


def test_an_api_key_is_sent_along(stub):
    Service(stub.url, "Vhq3YHMT.s3cret").count("key", LINES, 5)
    [(_, _, headers)] = stub.requests
    assert headers["Authorization"] == "Bearer Vhq3YHMT.s3cret"


def test_a_name_and_password_that_are_the_machines_own_are_not_sent(stub, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    Service(stub.url).count("key", LINES, 5)
    [(_, _, headers)] = stub.requests
    assert "Authorization" not in headers


def test_a_password_of_the_machines_own_is_not_sent_in_place_of_the_key(stub, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    Service(stub.url, "Vhq3YHMT.s3cret").count("key", LINES, 5)
    [(_, _, headers)] = stub.requests
    assert headers["Authorization"] == "Bearer Vhq3YHMT.s3cret"


@pytest.mark.parametrize("status", [413, 422])
def test_what_would_be_refused_for_ever_is_told_from_the_rest(stub, status):
    stub.faults.append(status)
    with pytest.raises(Refused, match=f"{status}.*stub says") as raised:
        Service(stub.url).count("key", LINES, 5)
    assert raised.value.index is None


def test_the_line_that_is_refused_is_known(stub):
    with pytest.raises(Refused, match=r"400.*status") as raised:
        Service(stub.url).count("key", LINES.replace(b'/b"', b'/b","status":999'), 5)
    assert raised.value.index == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, '{"detail": "The service does not answer to this host name"}'),
        (400, "<html>400 Bad Request</html>"),
        (400, "[1]"),
        (400, '{"index": 2}'),
        (400, '{"index": -1}'),
        (400, '{"index": true}'),
        (400, '{"index": "0"}'),
        (413, "<html>413 Request Entity Too Large</html>"),
        (422, "{}"),
        (200, '"counted"'),
        (200, "<html>Welcome</html>"),
        (503, '{"counted": 2}'),
    ],
)
def test_what_something_else_at_the_address_answers_is_no_verdict_on_the_hits(status, body):
    with answering(status, body) as url, pytest.raises(Unavailable, match=str(status)):
        Service(url).count("key", LINES, 5)


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """The address of something that answers one request with this."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        thread.join()


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 408, 409, 429, 500, 502, 503])
def test_what_may_pass_is_told_from_the_rest(stub, status):
    stub.faults.append(status)
    with pytest.raises(Unavailable, match=f"{status}.*stub says") as raised:
        Service(stub.url).count("key", LINES, 5)
    assert raised.value.retry_after is None
    Service(stub.url).count("key", LINES, 5)
    assert stub.counts.total() == 2


def test_an_answer_that_counts_nothing_is_not_the_services(stub):
    stub.faults.append(200)
    with pytest.raises(Unavailable, match="200"):
        Service(stub.url).count("key", LINES, 5)


def retry_after(stub: HitsStub, value: str) -> float | None:
    """What is made of an answer's Retry-After."""
    stub.headers["Retry-After"] = value
    stub.faults.append(503)
    with pytest.raises(Unavailable) as raised:
        Service(stub.url).count("key", LINES, 5)
    return raised.value.retry_after


def test_retry_after_may_be_seconds_or_a_date(stub):
    assert retry_after(stub, "7") == 7
    assert 3000 < retry_after(stub, formatdate(time() + 3600, usegmt=True)) <= 3600
    assert retry_after(stub, "soon") is None


@pytest.mark.parametrize("fault", ["drop", "hang"])
def test_hits_whose_answer_is_lost_are_counted_once(stub, fault):
    stub.faults.append(fault)
    with pytest.raises(Unavailable):
        Service(stub.url).count("key", LINES, 0.2)
    Service(stub.url).count("key", LINES, 5)
    assert stub.counts == {"/a": 1, "/b": 1}


def test_a_service_that_is_away_is_unavailable_and_no_key_is_told():
    with pytest.raises(Unavailable) as raised:
        Service(f"http://127.0.0.1:{free_port()}", "secret").count("key", LINES, 5)
    assert "secret" not in str(raised.value)


def test_a_redirect_is_not_followed(stub):
    stub.headers["Location"] = f"{stub.url}/elsewhere"
    stub.faults.append(302)
    with pytest.raises(Unavailable, match="302"):
        Service(stub.url).count("key", LINES, 5)
    assert len(stub.requests) == 1
