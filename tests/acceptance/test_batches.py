"""POST /hits/ on the real service: what is sent again under its key is counted once, whatever is lost on the way."""

import asyncio
import http.client
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from hitcounter.postgres import PrivatePostgres
from tests.keyed import KeyedLoad
from tests.service import Service, put_database

#: STORM_KEYS=1000 takes three minutes.
KEYS, SENDS = int(os.environ.get("STORM_KEYS", "100")), 50


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """A PostgreSQL that a test talks to itself, while a service uses it."""
    with PrivatePostgres(put_database(tmp_path / "postgres")).held() as running:
        yield running


@pytest.mark.long
def test_batches_that_are_sent_fifty_times_at_once_are_counted_once(service: Service):
    batches = KeyedLoad(service, "/storm/")
    made = [batches.make() for _ in range(KEYS)]

    async def storm(session: aiohttp.ClientSession) -> None:
        for key, hits in made:
            await asyncio.gather(*[batches.send(session, key, hits) for _ in range(SENDS)])

    batches.run(storm)
    assert batches.answers[200] == KEYS * SENDS
    assert service.counts("/storm/") == batches.sent


def test_while_the_database_is_gone_hits_are_refused_with_retry_after(tmp_path: Path, database: PrivatePostgres):
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1") as service:
        database.stop()
        answer = requests.post(f"{service.url}/hits/", json=[{"path": "/gone"}], timeout=30)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json() == {"detail": "The database cannot be reached; try again."}
        database.start()
        service.wait_until_ready()
        assert service.counts("/gone") == {}


@contextmanager
def connected(service: Service) -> Iterator[http.client.HTTPConnection]:
    """One connection, which is not made anew when it is lost."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.connect()
    connection.auto_open = 0
    with closing(connection):
        yield connection


def ask(connection: http.client.HTTPConnection, body: Any, **headers: str) -> tuple[int, Any]:
    connection.request("POST", "/hits/", body, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_large_bodies_one_after_the_other_are_all_answered_on_one_connection(service: Service):
    """The next one is sent when the server has hardly written the answer before it."""
    large = json.dumps([{"path": "/large", "referrer": "https://example.org/" + "x" * 1_000}] * 2_000)
    with connected(service) as connection:
        for _ in range(60):
            assert ask(connection, large) == (200, {"counted": 2_000})
    assert service.counts("/large") == {"/large": 120_000}


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_body_that_is_much_too_large_is_answered_and_the_connection_serves_on(service: Service, chunked):
    body = iter([b"x" * 1_000_000] * 20)  # without a length, it is sent in chunks
    with connected(service) as connection:
        answer = ask(connection, body, **({} if chunked else {"Content-Length": "20000000"}))
        assert answer == (413, {"detail": "A body has at most 8 MB."})
        connection.request("GET", "/healthz/live")
        assert connection.getresponse().status == 200
