"""Requests' bodies on their way to Django: how much of them is kept, and how long they may take."""

import asyncio
import json
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any

from counters.ingest.app import Receive, Send

#: From the first byte to the last. 8 MB pass in that time at 70 KB/s, which is half of the slowest DSL.
LONGEST_SECONDS = 120


class BodyRefused(Exception):
    """A body is not taken in; the status says why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Room:
    """What all requests of this process may take together, such as bytes; `reason` is told to who finds none."""

    def __init__(self, most: int, reason: str = "Too many large bodies are being sent; try again.") -> None:
        self._left = most
        self._reason = reason

    def take(self, some: int) -> None:
        """Raises BodyRefused (503) when there is not so much left."""
        if some > self._left:
            raise BodyRefused(HTTPStatus.SERVICE_UNAVAILABLE, self._reason)
        self._left -= some

    def give_back(self, some: int) -> None:
        self._left += some


class Body:
    """What Django is given as `receive`: the body, but no more than `most` bytes of it; the rest is read and forgotten.

    Django would keep all of it before any view is asked. A client that is cut off instead while it sends might never
    see the answer. A byte too many is let through where `most` is a view's own limit, so that it can tell. What is kept
    takes `room` until the body is closed. From its end until then it has one of the `places`, where there are any:
    requests that are still being sent keep none from others.
    """

    def __init__(
        self,
        receive: Receive,
        most: int,
        room: Room,
        *,
        places: Room | None = None,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._receive = receive
        self._left = most
        self._room = room
        self._kept = 0
        self._places = places
        self._placed = False
        self._ends = asyncio.get_running_loop().time() + longest_seconds
        self._all_there = False

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message. Raises BodyRefused: 408 when the rest does not come, 503 without room or place."""
        if self._all_there:
            return await self._receive()
        message = await self._in_time()
        some = message.get("body", b"")[: self._left]
        self._room.take(len(some))
        self._kept += len(some)
        self._left -= len(some)
        ends = not message.get("more_body", False)
        if ends and self._places:
            self._places.take(1)
            self._placed = True
        self._all_there = ends
        return {**message, "body": some}

    def close(self) -> None:
        """Say that nobody needs it any more."""
        self._room.give_back(self._kept)
        if self._places and self._placed:
            self._places.give_back(1)

    async def _in_time(self) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise BodyRefused(HTTPStatus.REQUEST_TIMEOUT, "The request's body did not come in time.") from None
        # Or gunicorn has waited for long enough: then there is somebody to tell.
        if message["type"] == "http.disconnect":
            raise BodyRefused(HTTPStatus.REQUEST_TIMEOUT, "The request's body did not come in time.")
        return message


class SmallBody(Body):
    """A body that has no business to be longer than `most` bytes."""

    def __init__(self, receive: Receive, most: int, room: Room) -> None:
        super().__init__(receive, most + 1, room)
        self._most = most

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message. Raises BodyRefused, for a body too long (413) when all of it has come."""
        told = self._all_there
        message = await super().receive()
        if not told and self._all_there and self._left == 0:
            reason = f"A body has at most {self._most:,} bytes here."
            raise BodyRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
        return message


async def answer(refusal: BodyRefused, send: Send) -> None:
    """Answer a request whose body was refused."""
    body = json.dumps({"detail": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
