"""The service over HTTP: `POST /hits/`."""

from collections.abc import Mapping
from contextlib import suppress

import requests
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url, urldefragauth
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

_REFUSALS = (400, 413, 422)  # the same lines would be refused for ever
_LONGEST_REASON = 500


class NotCounted(Exception):
    """Hits have not been counted, as far as is known; the message says why."""


class Unavailable(NotCounted):
    """The same hits may be counted later: in `retry_after` seconds, if the service said so."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Refused(NotCounted):
    """The service will not count these hits, whenever they are sent."""


class Service:
    """A Hit Counter, by its address; name and password in it are sent as HTTP basic authentication."""

    def __init__(self, url: str) -> None:
        self._url = f"{urldefragauth(url).rstrip('/')}/hits/"
        user, password = get_auth_from_url(url)
        self._auth = HTTPBasicAuth(user.encode(), password.encode()) if user else None

    def count(self, key: str, lines: bytes, patience: float) -> None:
        """Have these lines counted, once, however often they are sent under this key.

        `patience` is how many seconds to wait for a connection, and then for an answer. Raises Unavailable, Refused.
        """
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
        try:
            # No session: a connection kept alive would be shared with whatever this process is forked into.
            answer = requests.post(
                self._url, lines, headers=headers, auth=self._auth, timeout=patience, allow_redirects=False
            )
        except requests.RequestException as error:
            raise Unavailable(str(error)) from error
        if _says_counted(answer):
            return
        reason = f"{self._url} answered {answer.status_code} {answer.reason}: {answer.text[:_LONGEST_REASON]}"
        if answer.status_code in _REFUSALS:
            raise Refused(reason)
        raise Unavailable(reason, _retry_after(answer.headers))


def _says_counted(answer: requests.Response) -> bool:
    """Whether this is the service's answer: who else listens at the address may answer 200 to anything."""
    with suppress(requests.JSONDecodeError):
        return answer.ok and "counted" in answer.json()
    return False


def _retry_after(headers: Mapping[str, str]) -> float | None:
    with suppress(KeyError, InvalidHeader):
        return Retry().parse_retry_after(headers["Retry-After"])
    return None
