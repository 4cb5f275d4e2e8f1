"""What the running service makes of requests' headers: where hits come from is told, and who sent them is not kept."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import requests
from psycopg import sql

from hitcounter.postgres import PrivatePostgres
from tests.processes import workers
from tests.service import Service

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.5 Mobile/15E148 Safari/604.1"
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
# Of the networks that RFC 5737 and RFC 3849 leave to examples.
ANN, BEN, CRAWLER, SIX = "203.0.113.7", "198.51.100.9", "192.0.2.77", "2001:db8::c0de"
ADDRESSES = (ANN, BEN, CRAWLER, SIX)
WORKERS = 2
#: Visitors are told apart within a UTC day; tests that run over its end would see them twice.
ALL_TESTS_SECONDS = 60


@pytest.fixture(scope="module")
def behind_a_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that believes who asks it about the client's address, as if that were its proxy."""
    with Service(
        tmp_path_factory.mktemp("recording"),
        DATABASE_URL="",
        HITCOUNTER_WORKERS=str(WORKERS),
        HITCOUNTER_OPEN="on",
        HITCOUNTER_TRUSTED_PROXIES="127.0.0.1",
        HITCOUNTER_TLS="off",
        HITCOUNTER_COUNTRY_HEADER="CF-IPCountry",
    ) as running:
        yield running


@pytest.fixture(autouse=True, scope="module")
def _within_one_day() -> None:
    seconds = datetime.now(UTC).timestamp() % 86_400
    if seconds > 86_400 - ALL_TESTS_SECONDS:
        time.sleep(86_401 - seconds)


def hit(service: Service, path: str, address: str = "", user_agent: str = "", **headers: str) -> requests.Response:
    """A hit from an address; `headers` are given with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.get(path, headers={"X-Forwarded-For": address, "User-Agent": user_agent, **named})


def total(service: Service, path: str, **query: str) -> tuple[int, int]:
    """Hits and visitors."""
    figures = service.get("/stats/total/", params={"path": path, **query}).json()
    return figures["hits"], figures["visitors"]


def by(service: Service, dimension: str, path: str, **query: str) -> dict[str, tuple[int, int]]:
    """Hits and visitors of each value."""
    answer = service.get(f"/stats/by/{dimension}/", params={"path": path, **query})
    assert answer.status_code == 200, answer.text
    return {row["value"]: (row["hits"], row["visitors"]) for row in answer.json()}


@pytest.fixture(scope="module")
def varied(behind_a_proxy: Service) -> str:
    """The path of hits of all kinds: two people, a crawler, and one who does not want to be recognised."""
    path = "/api/varied/"
    answers = [
        hit(behind_a_proxy, path, ANN, FIREFOX, CF_IPCountry="DE", Referer="https://shop.example/find?q=secret#top"),
        hit(behind_a_proxy, path, ANN, FIREFOX, CF_IPCountry="DE"),
        hit(behind_a_proxy, path, BEN, IPHONE, CF_IPCountry="fr", X_Consumer="acme"),
        hit(behind_a_proxy, path, CRAWLER, GOOGLEBOT, CF_IPCountry="US"),
        hit(behind_a_proxy, path, CRAWLER, GOOGLEBOT, CF_IPCountry="US"),
        hit(behind_a_proxy, path, BEN, IPHONE, CF_IPCountry="XX", Sec_GPC="1"),
    ]
    assert sorted(answer.json()["count"] for answer in answers) == [1, 2, 3, 4, 5, 6]
    return path


def test_visitors_are_told_apart_by_address_and_user_agent(behind_a_proxy, varied):
    assert total(behind_a_proxy, varied) == (6, 3)
    assert total(behind_a_proxy, varied, bot="false") == (4, 2)
    assert total(behind_a_proxy, varied, country="DE", consumer="") == (2, 1)


@pytest.mark.parametrize(
    ("dimension", "values"),
    [
        ("country", {"DE": (2, 1), "US": (2, 1), "": (1, 0), "FR": (1, 1)}),
        ("consumer", {"": (5, 2), "acme": (1, 1)}),
        ("referrer", {"": (5, 3), "shop.example": (1, 1)}),
        ("browser", {"Firefox": (2, 1), "Googlebot": (2, 1), "Mobile Safari": (2, 1)}),
        ("os", {"Linux": (2, 1), "": (2, 1), "iOS": (2, 1)}),
        ("device", {"desktop": (2, 1), "": (2, 1), "mobile": (2, 1)}),
        ("method", {"GET": (6, 3)}),
        ("status", {"": (6, 3)}),
        ("route", {"": (6, 3)}),
        ("bot", {"false": (4, 2), "true": (2, 1)}),
    ],
)
def test_every_dimension_is_told_with_its_hits_and_visitors(behind_a_proxy, varied, dimension, values):
    assert by(behind_a_proxy, dimension, varied) == values


def test_who_does_not_want_to_be_recognised_is_counted_and_nobodys_visitor(behind_a_proxy):
    for header in ("Sec_GPC", "DNT"):
        hit(behind_a_proxy, "/api/unknown/", ANN, FIREFOX, CF_IPCountry="DE", **{header: "1"})
    assert total(behind_a_proxy, "/api/unknown/") == (2, 0)
    assert by(behind_a_proxy, "browser", "/api/unknown/") == {"Firefox": (2, 0)}


def test_a_referrer_is_kept_without_its_query(behind_a_proxy):
    hit(behind_a_proxy, "/api/referred/", ANN, Referer="https://user:word@shop.example:8443/find?q=secret#top")
    values = by(behind_a_proxy, "referrer_url", "/api/referred/")
    assert values == {"https://shop.example:8443/find": (1, 1)}
    assert not found_in_the_database(behind_a_proxy, "secret", "user:word", "#top")


def test_what_a_client_says_about_its_address_makes_no_visitor(behind_a_proxy):
    for pretended in ("1.1.1.1", "8.8.8.8", "nonsense", "unknown"):
        hit(behind_a_proxy, "/api/pretended/", f"{pretended}, {ANN}", FIREFOX)
    assert total(behind_a_proxy, "/api/pretended/") == (4, 1)


def test_whom_the_service_does_not_trust_it_does_not_believe(service: Service):
    for address in ADDRESSES:
        hit(service, "/api/mistrusted/", address, FIREFOX, CF_IPCountry="DE")
    assert total(service, "/api/mistrusted/") == (4, 1)
    assert by(service, "country", "/api/mistrusted/") == {"": (4, 1)}


@pytest.mark.parametrize("consumer", ["x" * 256, "ü".encode() * 128, "a\tb"])
def test_a_consumer_that_cannot_be_written_is_refused_and_the_hit_not_counted(behind_a_proxy, consumer):
    answer = hit(behind_a_proxy, "/api/refused/", ANN, FIREFOX, X_Consumer=consumer)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/json")
    assert "X-Consumer" in answer.json()["detail"]
    assert behind_a_proxy.counts("/api/refused/") == {}
    assert total(behind_a_proxy, "/api/refused/") == (0, 0)


def test_a_consumer_of_just_255_bytes_is_counted(behind_a_proxy):
    assert hit(behind_a_proxy, "/api/just/", X_Consumer="x" * 255).status_code == 200
    assert by(behind_a_proxy, "consumer", "/api/just/") == {"x" * 255: (1, 1)}


def test_both_workers_tell_the_same_visitors_apart_in_the_same_way(behind_a_proxy):
    path, visitors, times = "/api/crowd/", 40, 3
    plan = [(f"203.0.113.{n}", (FIREFOX, IPHONE)[n % 2]) for n in range(visitors)] * times
    for halted in workers(behind_a_proxy):  # left to the kernel, one of them may get every connection
        os.kill(halted, signal.SIGSTOP)
        try:
            for address, user_agent in plan:  # each over a connection of its own
                hit(behind_a_proxy, path, address, user_agent)
        finally:
            os.kill(halted, signal.SIGCONT)
    with connected(behind_a_proxy) as session:
        writers = session.execute("SELECT count(DISTINCT writer) FROM counters_batchledger").fetchone()
    assert writers == (WORKERS,)
    assert total(behind_a_proxy, path) == (visitors * times * WORKERS, visitors)
    assert by(behind_a_proxy, "device", path) == {"desktop": (120, 20), "mobile": (120, 20)}


def test_neither_addresses_nor_user_agents_are_kept_anywhere(behind_a_proxy, varied):
    hit(behind_a_proxy, "/api/kept/", SIX, FIREFOX)
    hit(behind_a_proxy, "/api/kept/", SIX, FIREFOX, X_Consumer="x" * 256)  # nor is it told by who refuses
    assert found_in_the_database(behind_a_proxy, "/api/kept/", "shop.example") != [], "it finds nothing at all"
    assert found_in_the_database(behind_a_proxy, "127.0.0.1", *ADDRESSES, FIREFOX, IPHONE, GOOGLEBOT) == []
    logs = behind_a_proxy.output() + (behind_a_proxy.data_dir / "postgres" / "log").read_text()
    assert [text for text in (*ADDRESSES, FIREFOX, IPHONE, GOOGLEBOT) if text in logs] == []


def connected(service: Service) -> psycopg.Connection[Any]:
    """A session of the service's own database."""
    return psycopg.connect(PrivatePostgres(service.data_dir / "postgres").url)


def found_in_the_database(service: Service, *texts: str) -> list[tuple[str, str]]:
    """The app's tables that have a row in any of whose columns, bytes included, one of the texts stands."""
    found = []
    with connected(service) as session:
        tables = session.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'counters\\_%'")
        names = [name for (name,) in tables]
        assert {"counters_counter", "counters_dimensionset", "counters_visitorsalt"} < set(names)
        for name in names:
            rows = " ".join(row for (row,) in session.execute(whole_rows(name))).lower()
            found += [(name, text) for text in texts if text.lower() in rows or text.encode().hex() in rows]
    return found


def whole_rows(table: str) -> sql.Composed:
    return sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(table))
