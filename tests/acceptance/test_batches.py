"""POST /hits/ on the real service: what is sent again under its key is counted once, whatever is lost on the way."""

import asyncio
import http.client
import json
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from hitcounter.postgres import PrivatePostgres
from tests.acceptance.proxy import CuttingProxy
from tests.acceptance.test_faults import SEED, kill, workers
from tests.service import Service, put_database

CONNECTIONS = 50
GIVE_UP_SECONDS = 120
#: STORM_KEYS=1000 takes three minutes.
KEYS, SENDS = int(os.environ.get("STORM_KEYS", "100")), 50
BROKEN = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PrivatePostgres]:
    """A PostgreSQL that a test talks to itself, while a service uses it."""
    with PrivatePostgres(put_database(tmp_path / "postgres")).held() as running:
        yield running


class Batches:
    """Batches under keys of their own, sent by clients that send each again until it is answered."""

    def __init__(self, service: Service, prefix: str, seed: int = SEED) -> None:
        self._url = f"{service.url}/hits/"
        self._prefix = prefix
        self._draw = random.Random(seed)
        self.sent: Counter[str] = Counter()
        self.answers: Counter[int | str] = Counter()
        self.reasons: Counter[str] = Counter()

    def make(self) -> tuple[str, list[dict[str, Any]]]:
        """A key, and hits of some of twenty paths, which are taken as sent."""
        hits = [
            {"path": f"{self._prefix}{self._draw.randrange(20)}", "n": self._draw.randint(1, 3)}
            for _ in range(self._draw.randint(1, 5))
        ]
        for hit in hits:
            self.sent[hit["path"]] += hit["n"]
        return f"{self._prefix}{self._draw.getrandbits(64)}", hits

    async def send(self, session: aiohttp.ClientSession, key: str, hits: list[dict[str, Any]]) -> None:
        """Return when the batch is answered."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            status, answer = await self._try(session, key, hits)
            self.answers[status] += 1
            if status == 200:
                assert answer == {"counted": sum(hit["n"] for hit in hits)}
                return
            assert status in (503, "broken"), answer
            self.reasons[answer["detail"]] += 1
            await asyncio.sleep(0.02)
        raise AssertionError(f"not answered: {self.answers} {self.reasons}")

    async def _try(self, session: aiohttp.ClientSession, key: str, hits: Any) -> tuple[int | str, Any]:
        try:
            async with session.post(self._url, json=hits, headers={"Idempotency-Key": key}) as answer:
                return answer.status, await answer.json()
        except BROKEN as error:
            return "broken", {"detail": type(error).__name__}

    def keep_sending(self, until: Callable[[], bool]) -> None:
        """New batches from all connections at once, until it has come about."""

        async def client(session: aiohttp.ClientSession) -> None:
            while not until():
                await self.send(session, *self.make())

        self.run(lambda session: asyncio.gather(*[client(session) for _ in range(CONNECTIONS)]))

    def run(self, act: Callable[[aiohttp.ClientSession], Awaitable[Any]]) -> None:
        async def connected() -> None:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
                await act(session)

        asyncio.run(connected())


@pytest.mark.long
def test_batches_that_are_sent_fifty_times_at_once_are_counted_once(service: Service):
    batches = Batches(service, "/storm/")
    made = [batches.make() for _ in range(KEYS)]

    async def storm(session: aiohttp.ClientSession) -> None:
        for key, hits in made:
            await asyncio.gather(*[batches.send(session, key, hits) for _ in range(SENDS)])

    batches.run(storm)
    assert batches.answers[200] == KEYS * SENDS
    assert service.counts("/storm/") == batches.sent


@pytest.mark.long
def test_batches_whose_worker_is_killed_are_counted_once_when_they_are_sent_again(tmp_path: Path):
    with Service(tmp_path, DATABASE_URL="", HITCOUNTER_WORKERS="2") as service:
        batches = Batches(service, "/killed/")
        draw = random.Random(SEED)
        killed = 0

        def killed_enough() -> bool:
            nonlocal killed
            if batches.answers[200] > 200 * (killed + 1):
                kill(draw.choice(workers(service)))
                killed += 1
            return killed == 5

        batches.keep_sending(killed_enough)
        assert batches.answers["broken"] > 0, "no connection noticed that a worker was killed"
        assert service.counts("/killed/") == batches.sent


def test_batches_whose_commit_was_not_confirmed_are_counted_once_when_they_are_sent_again(
    tmp_path: Path, database: PrivatePostgres
):
    with CuttingProxy(f"{database.socket_directory}/.s.PGSQL.5432", SEED) as proxy:
        url = f"postgresql://hitcounter@127.0.0.1:{proxy.port}/hitcounter"
        with Service(tmp_path, DATABASE_URL=url) as service:
            batches = Batches(service, "/cut/")
            proxy.cutting = True
            batches.keep_sending(lambda: proxy.cuts >= 30)
            proxy.cutting = False
            assert batches.answers.keys() == {200, 503}, batches.answers
            assert [reason for reason in batches.reasons if "cannot be said" in reason], batches.reasons
            assert service.counts("/cut/") == batches.sent


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
