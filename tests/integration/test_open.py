"""An open service all the same: what another site's page may not ask, what came through a proxy, and who waits."""

from typing import Any

import pytest

from counters import sharing
from counters.api import formats
from counters.api.formats import AsyncPieces, JSONList, TooManyStreams
from counters.models import ShareLink
from hitcounter import asgi

pytestmark = pytest.mark.django_db


@pytest.fixture
def opened(settings):
    settings.HITCOUNTER_OPEN = True
    settings.HITCOUNTER_OPEN_BY_ITSELF = False


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://testserver.evil.example", "null", "http://testserver:81"]
)
def test_where_a_browser_says_nothing_else_its_origin_tells_another_site(client, origin):
    answer = client.post("/test/0/", headers={"Origin": origin})
    assert (answer.status_code, answer.json()) == (403, {"detail": "Another site's page may not ask for this."})


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("headers", [{}, {"Origin": "http://testserver"}, {"Sec-Fetch-Site": "same-origin"}])
def test_programs_and_pages_of_its_own_may_ask(client, headers):
    assert client.post("/test/0/", headers=headers).status_code == 400  # that many are none


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Forwarded-Proto", "Via"])
def test_a_service_that_nobody_has_opened_is_closed_to_what_comes_through_a_proxy(client, settings, header):
    settings.HITCOUNTER_OPEN = settings.HITCOUNTER_OPEN_BY_ITSELF = True
    assert client.get("/stats/").status_code == 200
    assert client.get("/stats/", headers={header: "203.0.113.9"}).status_code == 401
    assert client.get("/", headers={header: "203.0.113.9"}).status_code == 302
    settings.HITCOUNTER_OPEN_BY_ITSELF = False
    assert client.get("/stats/", headers={header: "203.0.113.9"}).status_code == 200


def test_a_key_that_is_not_valid_gets_no_page_by_a_share_link_beside_it(client, settings):
    settings.HITCOUNTER_OPEN = False
    client.cookies[sharing.COOKIE] = sharing.token(ShareLink.objects.create(name="a", prefix="/a/"))
    assert client.get("/?prefix=/a/").status_code == 200
    assert client.get("/?prefix=/a/", headers={"Authorization": "Bearer nonsense"}).status_code == 401


def test_lists_that_nobody_reads_leave_connections_to_others(monkeypatch):
    monkeypatch.setattr(formats, "PLACE_SECONDS", 0.01)
    being_sent = [AsyncPieces(JSONList(), iter([])) for _ in range(formats.MOST_STREAMS)]
    with pytest.raises(TooManyStreams):
        AsyncPieces(JSONList(), iter([]))
    being_sent[0].close()
    being_sent[0].close()  # once more does not count
    being_sent[0] = AsyncPieces(JSONList(), iter([]))
    with pytest.raises(TooManyStreams):
        AsyncPieces(JSONList(), iter([]))
    for pieces in being_sent:
        pieces.close()


def test_a_list_that_fails_before_it_begins_leaves_its_place():
    def fails() -> Any:
        raise RuntimeError
        yield

    for _ in range(formats.MOST_STREAMS + 1):
        with pytest.raises(RuntimeError):
            AsyncPieces(JSONList(), fails())


async def test_a_list_that_fails_in_its_midst_leaves_its_place():
    def fails() -> Any:
        yield from [("/a", 1)] * formats.ROWS_AT_ONCE
        raise RuntimeError

    renderer = JSONList()
    renderer.columns = ("path", "count")
    for _ in range(formats.MOST_STREAMS + 1):
        pieces = AsyncPieces(renderer, fails())
        with pytest.raises(RuntimeError):
            [piece async for piece in pieces]


@pytest.mark.parametrize(
    ("is_open", "headers", "kept"),
    [
        (True, [], b"abc"),
        (False, [], b""),
        (False, [(b"authorization", b"Bearer x")], b"abc"),
        (False, [(b"cookie", b"hitcounter_session=x")], b"abc"),
    ],
    ids=["open", "closed", "with a key", "with a session"],
)
async def test_of_a_stranger_who_may_not_send_hits_nothing_is_kept(settings, is_open, headers, kept):
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"abc", "more_body": False}

    settings.HITCOUNTER_OPEN = is_open
    body = asgi._body({"raw_path": b"/hits/", "headers": headers}, receive)
    assert (await body.receive())["body"] == kept
    body.close()
