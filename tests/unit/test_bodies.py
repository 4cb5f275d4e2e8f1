"""Bodies on their way to Django: bounded in length and in time."""

import asyncio
from http import HTTPStatus
from typing import Any

import pytest

from hitcounter.bodies import Body, BodyRefused, Room, SmallBody, answer


def coming(*pieces: bytes, at_the_end: str = "http.request") -> Any:
    """A `receive` that gives these pieces, and then waits for ever or says that the client is gone."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if at_the_end == "http.request":
        messages[-1]["more_body"] = False
    if at_the_end == "http.disconnect":
        messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    return receive


async def all_of(body: Body) -> bytes:
    read = b""
    while True:
        message = await body.receive()
        read += message["body"]
        if not message["more_body"]:
            return read


async def test_a_body_passes_as_it_is():
    assert await all_of(Body(coming(b"ab", b"c"), 3, Room(9))) == b"abc"
    assert await all_of(SmallBody(coming(b"ab", b"c"), 3, Room(9))) == b"abc"


async def test_what_is_beyond_the_bound_is_forgotten():
    assert await all_of(Body(coming(b"ab", b"cd", b"ef"), 3, Room(9))) == b"abc"


async def test_a_small_body_that_is_too_long_is_refused_when_all_of_it_has_come():
    body = SmallBody(coming(b"ab", b"cd", b"ef"), 3, Room(9))
    assert [(await body.receive())["body"] for _ in range(2)] == [b"ab", b"cd"]
    with pytest.raises(BodyRefused, match="at most 3 bytes") as refused:
        await body.receive()
    assert refused.value.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


async def test_a_body_that_does_not_come_to_its_end_is_refused():
    body = Body(coming(b"ab", at_the_end="nothing"), 9, Room(9), longest_seconds=0.05)
    await body.receive()
    with pytest.raises(BodyRefused) as refused:
        await body.receive()
    assert refused.value.status == HTTPStatus.REQUEST_TIMEOUT


async def test_a_body_that_trickles_is_refused_however_often_it_goes_on():
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    with pytest.raises(BodyRefused):
        await asyncio.wait_for(all_of(Body(receive, 9, Room(9), longest_seconds=0.1)), 5)


async def test_a_client_that_leaves_or_that_gunicorn_gives_up_is_as_late():
    with pytest.raises(BodyRefused) as refused:
        await all_of(Body(coming(b"ab", at_the_end="http.disconnect"), 9, Room(9)))
    assert refused.value.status == HTTPStatus.REQUEST_TIMEOUT


async def test_after_the_body_one_may_wait_for_ever_for_the_client_to_leave():
    body = Body(coming(b"ab", at_the_end="http.request"), 9, Room(9), longest_seconds=0.05)
    await all_of(body)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(body.receive(), 0.2)


async def test_a_refusal_is_answered_in_json():
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await answer(BodyRefused(HTTPStatus.REQUEST_TIMEOUT, "Too late."), send)
    assert sent[0]["status"] == 408
    assert (b"content-type", b"application/json") in sent[0]["headers"]
    assert sent[1]["body"] == b'{"detail": "Too late."}'


async def test_bodies_share_a_room_and_one_too_many_is_refused_until_another_is_closed():
    room = Room(5)
    first, second = Body(coming(b"abc", b"d"), 9, room), Body(coming(b"ef"), 9, room)
    await first.receive()
    assert await all_of(second) == b"ef"
    with pytest.raises(BodyRefused) as refused:
        await first.receive()
    assert refused.value.status == HTTPStatus.SERVICE_UNAVAILABLE
    second.close()
    third = Body(coming(b"gh"), 9, room)
    assert await all_of(third) == b"gh"
    first.close()
    third.close()
    assert await all_of(Body(coming(b"abcde"), 9, room)) == b"abcde"


async def test_a_body_that_has_come_needs_a_place_until_it_is_closed():
    room, places = Room(9), Room(1, "Too many.")
    coming_still, first, second = (Body(coming(b"a", b"b"), 9, room, places=places) for _ in range(3))
    await coming_still.receive()
    assert await all_of(first) == b"ab"
    with pytest.raises(BodyRefused, match="Too many") as refused:
        await all_of(second)
    assert refused.value.status == HTTPStatus.SERVICE_UNAVAILABLE
    second.close()
    first.close()
    assert (await coming_still.receive())["body"] == b"b"
    coming_still.close()
    assert await all_of(Body(coming(b"a"), 9, room, places=places)) == b"a"


async def test_what_is_forgotten_takes_no_room():
    assert await all_of(Body(coming(b"abc", b"defgh"), 2, Room(2))) == b"ab"
