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


class Body:
    """What Django is given as `receive`: the body, but no more than `most` bytes of it; the rest is read and forgotten.

    Django would keep all of it before any view is asked. A client that is cut off instead while it sends might never
    see the answer. A byte too many is let through where `most` is a view's own limit, so that it can tell.
    """

    def __init__(self, receive: Receive, most: int, *, longest_seconds: float = LONGEST_SECONDS) -> None:
        self._receive = receive
        self._left = most
        self._ends = asyncio.get_running_loop().time() + longest_seconds
        self._all_there = False

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message. Raises BodyRefused (408) when the rest of the body does not come."""
        if self._all_there:
            return await self._receive()
        message = await self._in_time()
        some = message.get("body", b"")[: self._left]
        self._left -= len(some)
        self._all_there = not message.get("more_body", False)
        return {**message, "body": some}

    async def _in_time(self) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
        except TimeoutError:
            raise BodyRefused(HTTPStatus.REQUEST_TIMEOUT, "The request's body did not come in time.") from None
        if (
            message["type"] == "http.disconnect"
        ):  # or gunicorn has waited for long enough: then there is somebody to tell
            raise BodyRefused(HTTPStatus.REQUEST_TIMEOUT, "The request's body did not come in time.")
        return message


class SmallBody(Body):
    """A body that has no business to be longer than `most` bytes."""

    def __init__(self, receive: Receive, most: int) -> None:
        super().__init__(receive, most + 1)
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
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
