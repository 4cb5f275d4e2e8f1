"""The fast lane: what a hit is answered, without a database."""

import json
from typing import Any

import pytest

from counters.dimensions import PLAIN
from counters.hits import DatabaseRefused
from counters.ingest.app import Counting
from counters.ingest.recorder import DatabaseGone, QueueFull
from tests.recorders import FakeRecorder, Refusing


async def ask(recorder: Any, path: bytes, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    answering = Counting(recorder, lambda *_: PLAIN).answer_of(method, path, b"", [], "192.0.2.1")
    assert answering
    status, headers, body = await answering
    return status, dict(headers), body


async def test_a_hit_is_answered_with_its_path_and_its_place():
    status, headers, body = await ask(FakeRecorder(7), b"/api/hello/world/")
    assert (status, json.loads(body)) == (200, {"path": "/api/hello/world/", "count": 7})
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == str(len(body)).encode()


async def test_a_hit_may_not_be_cached():
    _, headers, _ = await ask(FakeRecorder(), b"/api/")
    assert headers[b"cache-control"] == b"no-store"


@pytest.mark.parametrize("path", ["/api/%2F", '/api/"quoted"', "/api/\\", "/api/<b>", "/api//./../"])
async def test_the_path_comes_back_byte_for_byte(path):
    recorder = FakeRecorder()
    _, _, body = await ask(recorder, path.encode())
    assert recorder.recorded == [json.loads(body)["path"]] == [path]


async def test_head_is_answered_and_not_counted():
    recorder = FakeRecorder()
    status, _, body = await ask(recorder, b"/api/a/", "HEAD")
    assert (status, body, recorder.recorded) == (200, b"", [])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])
async def test_other_methods_are_refused_by_name_and_not_counted(method):
    recorder = FakeRecorder()
    status, headers, body = await ask(recorder, b"/api/a/", method)
    assert (status, headers[b"allow"], recorder.recorded) == (405, b"GET, HEAD", [])
    assert method in json.loads(body)["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("path", "status"), [(b"/api/" + b"x" * 2044, 414), (b"/api/\xff", 400), (b"/api/ ", 400)])
async def test_a_path_that_cannot_be_counted_is_refused_with_a_reason(path, status, method):
    recorder = FakeRecorder()
    answered, _, body = await ask(recorder, path, method)
    assert (answered, recorder.recorded) == (status, [])
    assert json.loads(body)["detail"]


@pytest.mark.parametrize("recorder", [Refusing(QueueFull()), Refusing(DatabaseGone()), FakeRecorder(DatabaseGone())])
async def test_a_hit_that_is_not_recorded_may_be_sent_again(recorder):
    status, headers, body = await ask(recorder, b"/api/a/")
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert json.loads(body)["detail"] == str(recorder.outcome)


async def test_a_hit_that_the_database_refuses_is_a_bad_request():
    status, _, body = await ask(FakeRecorder(DatabaseRefused("no")), b"/api/a/")
    assert (status, json.loads(body)) == (400, {"detail": "no"})


@pytest.mark.parametrize(
    ("path", "counted"), [(b"/api/", True), (b"/api/a", True), (b"/api", False), (b"/apis/", False), (b"//api/", False)]
)
def test_what_is_counted_begins_with_api(path, counted):
    answering = Counting(FakeRecorder(), lambda *_: PLAIN).answer_of("GET", path, b"", [], None)
    assert (answering is not None) is counted
    if answering:
        answering.close()
