"""The service over HTTP: `POST /hits/`."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

_LONGEST_REASON = 500


class NotCounted(Exception):
    """Hits have not been counted, as far as is known; the message says why."""


class Unavailable(NotCounted):
    """The same hits may be counted later: in `retry_after` seconds, if the service said so."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Refused(NotCounted):
    """The service will not count these hits, whenever they are sent: because of the line `index`, if it names one."""

    def __init__(self, reason: str, index: int | None = None) -> None:
        super().__init__(reason)
        self.index = index


class Service:
    """A Hit Counter, by its address, which knows who sends hits by an API key; with "", none is sent."""

    def __init__(self, url: str, key: str = "") -> None:
        self._url = f"{url.rstrip('/')}/hits/"
        self._key = key

    def count(self, key: str, lines: bytes, patience: float) -> None:
        """Have these lines counted, once, however often they are sent under this key.

        `patience` is how many seconds to wait for a connection, and then for an answer. Raises Unavailable, Refused.
        """
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
        try:
            # No session: a connection kept alive would be shared with whatever this process is forked into.
            answer = requests.post(
                self._url, lines, headers=headers, auth=self._sign, timeout=patience, allow_redirects=False
            )
        except requests.RequestException as error:
            raise Unavailable(str(error)) from error
        said = _said(answer)
        if answer.ok and "counted" in said:
            return
        reason = f"{self._url} answered {answer.status_code} {answer.reason}: {answer.text[:_LONGEST_REASON]}"
        if answer.status_code == 400 and _is_index(said.get("index"), lines):
            raise Refused(reason, said["index"])
        if answer.status_code in (413, 422) and "detail" in said:
            raise Refused(reason)
        raise Unavailable(reason, _retry_after(answer.headers))

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Without any of its own to call, requests would send a name and a password of ~/.netrc."""
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _said(answer: requests.Response) -> dict[str, Any]:
    """The JSON object of an answer, else nothing: who else listens at the address may answer anything.

    Without the fields that the service has in it, 200 does not mean counted; nor does 400 mean that these lines are
    refused, but perhaps the address, by a proxy or by the service itself (HITCOUNTER_HOSTS).
    """
    with suppress(requests.JSONDecodeError):
        said = answer.json()
        return said if isinstance(said, dict) else {}
    return {}


def _is_index(value: object, lines: bytes) -> bool:
    return type(value) is int and 0 <= value < lines.count(b"\n")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    with suppress(KeyError, InvalidHeader):
        return Retry().parse_retry_after(headers["Retry-After"])
    return None
