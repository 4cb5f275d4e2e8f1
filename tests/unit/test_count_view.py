"""The pixel in the fast lane: what a request for it is answered, without a database."""

import json
from typing import Any

import pytest

from counters import pixel
from counters.clients import origins
from counters.dimensions import Dimensions
from counters.hits import DatabaseRefused
from counters.ingest.app import Counting
from counters.ingest.recorder import DatabaseGone, QueueFull
from tests.recorders import FakeRecorder, Refusing

VIEW = b"path=/blog/"


async def ask(
    recorder: Any, query: bytes = VIEW, method: str = "GET", headers: Any = ()
) -> tuple[int, dict[bytes, bytes], bytes]:
    answering = Counting(recorder, origins().of).answer_of(method, b"/pixel.gif", query, headers, "192.0.2.1")
    assert answering
    status, answered, body = await answering
    return status, dict(answered), body


async def test_a_view_is_recorded_and_answered_with_the_pixel():
    recorder = FakeRecorder()
    status, headers, body = await ask(recorder)
    assert (status, body, recorder.recorded) == (200, pixel.GIF, ["/blog/"])
    assert (headers[b"content-type"], headers[b"content-length"]) == (b"image/gif", b"43")


async def test_a_beacon_is_recorded_and_answered_with_nothing():
    recorder = FakeRecorder()
    status, _, body = await ask(recorder, method="POST")
    assert (status, body, recorder.recorded) == (204, b"", ["/blog/"])


async def test_head_is_answered_as_get_and_not_counted():
    recorder = FakeRecorder()
    assert await ask(recorder, method="HEAD") == await ask(FakeRecorder())
    assert recorder.recorded == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_view_is_a_get_from_where_the_page_s_referrer_says(method):
    recorder = FakeRecorder()
    page, search = b"https://page.example/blog/", b"https%3A%2F%2Fsearch.example%2Ffind%3Fq%3Dsecret"
    await ask(recorder, VIEW + b"&referrer=" + search, method, [(b"referer", page), (b"x-consumer", b"acme")])
    [origin] = recorder.origins
    assert origin.dimensions == Dimensions(
        method="GET", consumer="acme", referrer="search.example", referrer_url="https://search.example/find"
    )


@pytest.mark.parametrize(
    "referrer", [b"", b"&referrer=", b"&referrer=%00", b"&referrer=javascript:1", b"&referrer=%FF"]
)
async def test_a_view_of_which_no_referrer_is_told_has_none(referrer):
    recorder = FakeRecorder()
    status, *_ = await ask(recorder, VIEW + referrer, headers=[(b"referer", b"https://page.example/")])
    assert (status, [origin.dimensions.referrer for origin in recorder.origins]) == (200, [""])


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused_by_name_and_not_counted(method):
    recorder = FakeRecorder()
    status, headers, body = await ask(recorder, method=method)
    assert (status, headers[b"allow"], recorder.recorded) == (405, b"GET, HEAD, POST", [])
    assert method in json.loads(body)["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        (b"", 400, "path"),
        (VIEW + b"&x=1", 400, "x"),
        (b"path=/a%20b", 400, "detail"),
        (b"path=/" + b"x" * 2048, 414, "detail"),
    ],
)
async def test_what_is_no_page_view_is_refused_and_not_counted(query, status, named, method):
    recorder = FakeRecorder()
    answered, headers, body = await ask(recorder, query, method)
    assert (answered, headers[b"content-type"], list(json.loads(body))) == (status, b"application/json", [named])
    assert recorder.recorded == []


@pytest.mark.parametrize("recorder", [Refusing(QueueFull()), Refusing(DatabaseGone()), FakeRecorder(DatabaseGone())])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_view_that_is_not_recorded_may_be_sent_again(recorder, method):
    status, headers, body = await ask(recorder, method=method)
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert json.loads(body)["detail"] == str(recorder.outcome)


@pytest.mark.parametrize(
    ("recorder", "query", "method"),
    [
        (FakeRecorder(), VIEW, "GET"),
        (FakeRecorder(), VIEW, "POST"),
        (FakeRecorder(), VIEW, "PUT"),
        (FakeRecorder(), b"", "GET"),
        (FakeRecorder(DatabaseRefused("no")), VIEW, "GET"),
        (Refusing(QueueFull()), VIEW, "GET"),
    ],
)
async def test_any_site_may_embed_and_read_every_answer_and_nobody_keeps_it(recorder, query, method):
    _, headers, _ = await ask(recorder, query, method)
    assert headers[b"access-control-allow-origin"] == b"*"
    assert headers[b"cross-origin-resource-policy"] == b"cross-origin"
    assert headers[b"cache-control"] == b"no-store"


@pytest.mark.parametrize(
    ("path", "found"),
    [(b"/pixel.gif", True), (b"/pixel.gif/", False), (b"/a/pixel.gif", False), (b"/pixel_gif", False)],
)
def test_the_pixel_is_at_one_address(path, found):
    answering = Counting(FakeRecorder(), origins().of).answer_of("GET", path, VIEW, [], None)
    assert (answering is not None) is found
    if answering:
        answering.close()
