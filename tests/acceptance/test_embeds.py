"""The running service counts pages by their pixel and shows counts in badges, seen from outside."""

import http.client
import socket
import time
from urllib.parse import quote

import psycopg
import pytest

from hitcounter.postgres import PrivatePostgres
from tests.client import Connection, ask
from tests.service import Service, put_database


def test_a_view_is_counted_when_its_pixel_comes(service: Service):
    for count in range(1, 6):
        answer = ask(service, "/pixel.gif?path=/pixel/counted/")
        assert (answer.status, answer.headers["Content-Type"], len(answer.body)) == (200, "image/gif", 43)
        assert committed(service, "/pixel/counted/") == count


def committed(service: Service, path: str) -> int:
    """What a session of its own sees in the database."""
    with psycopg.connect(PrivatePostgres(service.data_dir / "postgres").url) as session:
        row = session.execute("SELECT hits FROM counters_counter WHERE path = %s", [path]).fetchone()
    assert row
    return int(row[0])


def test_a_pixel_is_kept_by_nobody_and_open_to_all(service: Service):
    headers = ask(service, "/pixel.gif?path=/pixel/headers/").headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"


@pytest.mark.parametrize("tail", ["a%20b", "a%2Fb", "a+b", "%F0%9F%90%8D", "'\"<>|", "a//b/../c", "%00"])
def test_the_path_is_the_page_s_byte_for_byte(service: Service, tail: str):
    path = f"/pixel/raw/{tail}"
    assert ask(service, f"/pixel.gif?path={quote(path, safe='')}").status == 200
    assert service.counts(path) == {path: 1}


def test_a_path_counts_the_same_whichever_way_it_is_told(service: Service):
    ask(service, "/api/either/")
    ask(service, "/pixel.gif?path=/api/either/")
    ask(service, "/pixel.gif?path=/api/either/", "POST")
    assert ask(service, "/api/either/").json() == {"path": "/api/either/", "count": 4}


def test_an_address_that_is_encoded_otherwise_counts_through_django(service: Service):
    for method, status in (("GET", 200), ("POST", 204), ("HEAD", 200)):
        assert ask(service, "/%70ixel.gif?path=/pixel/%2570", method).status == status
    assert service.counts("/pixel/%70") == {"/pixel/%70": 2}


def test_a_beacon_s_body_is_passed_over(service: Service):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    for body in (b"", b"GET /api/smuggled/ HTTP/1.1\r\n\r\n", b"x" * 60_000):
        connection.request("POST", "/pixel.gif?path=/pixel/beacon/", body, {"Content-Type": "text/plain"})
        answer = connection.getresponse()
        assert (answer.status, answer.read(), answer.headers["Content-Type"]) == (204, b"", None)
        assert answer.headers["Content-Length"] is None
    connection.close()
    assert service.counts("/pixel/beacon/") == {"/pixel/beacon/": 3}
    assert service.counts("/api/smuggled/") == {}


def test_a_body_that_comes_later_than_its_headers_is_passed_over_and_the_connection_goes_on(service: Service):
    head = "POST /pixel.gif?path=/pixel/late/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        for _ in range(2):
            connection.sendall(head.encode())
            time.sleep(0.1)
            connection.sendall(b"later")
            assert connection.recv(1000).startswith(b"HTTP/1.1 204 ")
    assert service.counts("/pixel/late/") == {"/pixel/late/": 2}


def test_head_is_answered_and_not_counted(service: Service):
    answer = ask(service, "/pixel.gif?path=/pixel/head/", "HEAD")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "43", b"")
    assert service.counts("/pixel/head/") == {}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(service: Service, method: str):
    answer = ask(service, "/pixel.gif?path=/pixel/methods/", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert service.counts("/pixel/methods/") == {}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        ("", 400, "path"),
        ("?", 400, "path"),
        ("?path=/pixel/bad/&path=/pixel/bad/", 400, "path"),
        ("?path=/pixel/bad/&page=1", 400, "page"),
        ("?path=/pixel/bad/%20", 400, "detail"),
        ("?path=/pixel/bad/".ljust(2060, "x"), 414, "detail"),
    ],
)
def test_what_is_no_page_view_is_refused_by_name(service: Service, query: str, status: int, named: str, method: str):
    answer = ask(service, f"/pixel.gif{query}", method)
    assert (answer.status, answer.headers["Content-Type"], list(answer.json())) == (status, "application/json", [named])
    assert service.counts("/pixel/bad/") == {}


def test_the_referrer_is_the_one_that_the_page_tells(service: Service):
    told = {"path": "/pixel/referrer/", "referrer": "https://search.example/find?q=secret"}
    page = {"Referer": "https://page.example/pixel/referrer/"}
    service.get("/pixel.gif", params=told, headers=page).raise_for_status()
    service.get("/pixel.gif", params={"path": "/pixel/referrer/"}, headers=page).raise_for_status()
    for dimension, value in (("referrer", "search.example"), ("referrer_url", "https://search.example/find")):
        shares = service.get(f"/stats/by/{dimension}/", params={"path": "/pixel/referrer/"}).json()
        assert [(share["value"], share["hits"]) for share in shares] == [("", 1), (value, 1)]


def test_while_the_database_is_gone_pages_get_503_and_afterwards_they_count_again(tmp_path):
    with (
        PrivatePostgres(put_database(tmp_path / "postgres")).held() as database,
        Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1") as service,
    ):
        database.stop()
        for method in ("GET", "POST"):
            answer = ask(service, "/pixel.gif?path=/gone/", method)
            assert (answer.status, answer.headers["Retry-After"], list(answer.json())) == (503, "1", ["detail"])
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert ask(service, "/count.js").status == 200
        badge = ask(service, "/badge/gone/.svg")
        assert (badge.status, badge.headers["Retry-After"], list(badge.json())) == (503, "1", ["detail"])
        database.start()
        service.wait_until_ready()
        assert ask(service, "/pixel.gif?path=/gone/").status == 200
        assert service.counts("/gone/")["/gone/"] >= 1


@pytest.mark.parametrize("tail", ["a/b/", "a%2Fb", "%3Cscript%3E", "<script>", "%E2%80%AE"])
def test_a_badge_is_of_its_path_byte_for_byte(service: Service, tail: str):
    path = f"/api/badge/{tail}"
    connection = Connection(service)
    for count in range(1, 3):
        connection.ask(path)
        badge = connection.ask(f"/badge{path}.svg")
        assert badge.headers["Content-Type"] == "image/svg+xml; charset=utf-8"
        assert f">{count}</text>" in badge.body.decode()
    connection.close()


def test_a_badge_of_a_closed_service_takes_a_key(tmp_path, service: Service):
    database = PrivatePostgres(service.data_dir / "postgres").url
    with Service(tmp_path, DATABASE_URL=database, HITCOUNTER_WORKERS="1", HITCOUNTER_OPEN="off") as closed:
        assert ask(closed, "/badge/api/a/.svg").status == 401
        badge = closed.get("/badge/api/a/.svg", headers={"Authorization": f"Bearer {closed.made_key('stats')}"})
        assert (badge.status_code, badge.headers["Cache-Control"]) == (200, "private, max-age=60")
        assert ask(closed, "/pixel.gif?path=/pixel/closed/").status == 200
