"""A client that sends a request target byte for byte, as no comfortable library does."""

import http.client
import json
import time
from contextlib import suppress
from typing import Any, NamedTuple

from tests.service import Service


class Answer(NamedTuple):
    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection that is kept alive, to a service."""

    def __init__(self, service: Service) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)

    def ask(self, target: str, method: str = "GET") -> Answer:
        self._http.putrequest(method, target, skip_accept_encoding=True)
        self._http.endheaders()
        answer = self._http.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def close(self) -> None:
        self._http.close()


def ask(service: Service, target: str, method: str = "GET") -> Answer:
    connection = Connection(service)
    try:
        return connection.ask(target, method)
    finally:
        connection.close()


def ask_patiently(service: Service, target: str) -> Answer:
    """Ask a service whose workers are being started anew."""
    for _ in range(100):
        with suppress(OSError):
            return ask(service, target)
        time.sleep(0.1)
    raise AssertionError("the service does not answer")
