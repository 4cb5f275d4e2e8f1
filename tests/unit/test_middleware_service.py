"""What an answer of the service means for the hits that were sent."""

import http.server
import threading
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


def test_name_and_password_come_from_the_address(stub):
    Service(stub.url.replace("://", "://us%40er:p%C3%A4ss@")).count("key", LINES, 5)
    [(_, _, headers)] = stub.requests
    assert headers["Authorization"] == "Basic dXNAZXI6cMOkc3M="  # us@er:päss


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_would_be_refused_for_ever_is_told_from_the_rest(stub, status):
    stub.faults.append(status)
    with pytest.raises(Refused, match=f"{status}.*stub says"):
        Service(stub.url).count("key", LINES, 5)


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 408, 409, 429, 500, 502, 503])
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


def test_a_service_that_is_away_is_unavailable_and_no_password_is_told():
    with pytest.raises(Unavailable) as raised:
        Service(f"http://user:secret@127.0.0.1:{free_port()}").count("key", LINES, 5)
    assert "secret" not in str(raised.value)


def test_a_redirect_is_not_followed(stub):
    stub.headers["Location"] = f"{stub.url}/elsewhere"
    stub.faults.append(302)
    with pytest.raises(Unavailable, match="302"):
        Service(stub.url).count("key", LINES, 5)
    assert len(stub.requests) == 1


def test_an_answer_of_something_else_entirely_is_unavailable():
    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'"<html>Welcome</html>"')

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(Unavailable, match="Welcome"):
            Service(f"http://127.0.0.1:{server.server_port}").count("key", LINES, 5)
        thread.join()
