"""The running service makes the claims of its README, seen from outside."""

import gzip
import random
import re
import socket
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.client import Connection, ask
from tests.service import FirstStart, Service

CONNECTIONS = 8  # of whoever replays a log


def test_a_hit_is_answered_with_its_place(service: Service):
    assert [ask(service, "/api/place/").json() for _ in range(2)] == [
        {"path": "/api/place/", "count": 1},
        {"path": "/api/place/", "count": 2},
    ]


def test_the_query_string_is_no_part_of_the_path(service: Service):
    for query in ("", "?a=1", "?a=/b/?c", "?"):
        assert ask(service, f"/api/query/{query}").json()["path"] == "/api/query/"
    assert service.counts("/api/query/") == {"/api/query/": 4}


def test_paths_are_kept_byte_for_byte(service: Service):
    tails = ["a/b", "a%2Fb", "a%2fb", "a/b/", "A/b", "a//b", "a/../b", "%ff", "%00", "%F0%9F%90%8D", "a+b", "'\"\\<>|"]
    targets = [f"/api/raw/{tail}" for tail in tails]
    assert [ask(service, target).json()["path"] for target in targets] == targets
    assert service.counts("/api/raw/") == dict.fromkeys(targets, 1)


def test_hits_from_many_connections_all_count_and_each_has_a_place_of_its_own(service: Service):
    plan = [f"/api/many/{n % 50}/" for n in range(2000)]
    random.Random(1).shuffle(plan)
    places = defaultdict(list)

    def send(targets: list[str]) -> None:
        connection = Connection(service)
        for target in targets:
            places[target].append(connection.ask(target).json()["count"])
        connection.close()

    threads = [threading.Thread(target=send, args=[plan[n::16]]) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {target: sorted(seen) for target, seen in places.items()} == {target: list(range(1, 41)) for target in plan}
    assert service.counts("/api/many/") == dict.fromkeys(plan, 40)


def test_head_is_answered_and_not_counted(service: Service):
    answer = ask(service, "/api/head/", "HEAD")
    assert (answer.status, answer.body, answer.headers["Cache-Control"]) == (200, b"", "no-store")
    assert service.counts("/api/head/") == {}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(service: Service, method: str):
    answer = ask(service, "/api/methods/", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert service.counts("/api/methods/") == {}


@pytest.mark.parametrize("length", [2049, 4000, 8100])
def test_a_path_too_long_is_refused_and_not_stored(service: Service, length: int):
    answer = ask(service, "/api/long/".ljust(length, "x"))
    assert (answer.status, answer.headers["Content-Type"]) == (414, "application/json")
    assert "2,048 bytes" in answer.json()["detail"]
    assert service.counts("/api/long/") == {}


def test_a_path_of_just_2048_bytes_is_counted(service: Service):
    path = "/api/just/".ljust(2048, "x")
    assert ask(service, path).json() == {"path": path, "count": 1}


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET /api/junk/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET  HTTP/9\r\n\r\n",
        b"GET /" + b"x" * 9000,
    ],
)
def test_what_is_not_http_gets_4xx_and_harms_nobody(service: Service, junk: bytes):
    with socket.create_connection(("127.0.0.1", service.port), timeout=5) as raw:
        raw.sendall(junk)
        answer = raw.recv(100)
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", answer), answer
    assert ask(service, "/api/after-junk/").status == 200


@pytest.mark.parametrize("path", ["/api/socket/", "/stats/"])
def test_a_websocket_is_refused(service: Service, path: str):
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    answer = service.get(path, headers={**upgrade, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert answer.status_code == 403
    assert service.counts("/api/socket/") == {}


@pytest.mark.parametrize("query", ["", "?limit=5", "?format=csv"])
def test_statistics_answer_head_without_reading_them(service: Service, query: str):
    answer = ask(service, f"/stats/{query}", "HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_an_unknown_page_is_a_404_in_json_and_no_hit(service: Service):
    answer = ask(service, "/nowhere/")
    assert answer.status == 404
    assert "/nowhere/" in answer.json()["detail"]
    assert service.counts("/nowhere/") == {}


def test_a_wrong_host_is_refused(service: Service):
    answer = service.get("/stats/", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert "HITCOUNTER_HOSTS" in answer.json()["detail"]


def test_it_says_that_it_is_alive_and_ready(service: Service):
    assert service.get("/healthz/live").json() == {"status": "live"}
    assert service.get("/healthz/ready").json() == {"status": "ready"}


def test_the_admin_and_its_style_are_served(service: Service):
    page = service.get("/admin/login/")
    assert page.status_code == 200
    style = re.search(r'href="(/static/[^"]+\.css)"', page.text)
    assert style
    assert service.get(style[1]).headers["Content-Type"].startswith("text/css")


def replay(service: Service, paths: list[str]) -> None:
    def ask_all(share: list[str]) -> None:
        connection = Connection(service)
        for path in share:
            answer = connection.ask(f"/api{path}")
            assert (answer.status, answer.json()["path"]) == (200, f"/api{path}"), path
        connection.close()

    with ThreadPoolExecutor(CONNECTIONS) as clients:
        list(clients.map(ask_all, (paths[n::CONNECTIONS] for n in range(CONNECTIONS))))


def test_where_there_is_nothing_it_makes_what_it_needs(tmp_path: Path):
    data = tmp_path / "of" / "its" / "own"
    with FirstStart(tmp_path, DATABASE_URL="", HITCOUNTER_DATA_DIR=str(data)) as service:
        assert ask(service, "/api/first/").json() == {"path": "/api/first/", "count": 1}
    assert (data / "postgres" / "data" / "PG_VERSION").exists()
    for secret in ("admin-password", "secret-key"):
        assert (data / secret).stat().st_mode & 0o777 == 0o600


def test_a_real_access_log_gives_the_figures_that_were_counted_by_other_means(tmp_path: Path, shared: Path):
    log = gzip.decompress((shared / "data" / "access-2015.log.gz").read_bytes()).decode("latin-1")
    lines = log.splitlines()
    requests = [re.search(r'"(?:[A-Z]+) (\S+)', line) for line in lines]
    paths = [match[1].partition("?")[0] for match in requests if match]
    assert len(lines) == len(paths) == 10_000
    with Service(tmp_path, DATABASE_URL="") as fresh:
        replay(fresh, paths)
        counts = list(fresh.counts("/api/").items())
    assert sum(count for _, count in counts) == 10_000
    assert len(counts) == 1_368
    assert counts[:5] == [
        ("/api/favicon.ico", 807),
        ("/api/", 575),
        ("/api/style2.css", 546),
        ("/api/reset.css", 538),
        ("/api/images/jordan-80.png", 533),
    ]


def test_a_log_of_our_own_gives_the_figures_of_a_plain_tally(service: Service):
    draw = random.Random(2015)
    names = [f"/log/{draw.choice(['a', 'b%20c', 'd+e', 'f~g'])}/{n}" for n in range(200)]
    paths = draw.choices(names, weights=[1 / (n + 1) for n in range(200)], k=3000)
    replay(service, paths)
    tally = {f"/api{path}": count for path, count in Counter(paths).items()}
    assert list(service.counts("/api/log/").items()) == sorted(tally.items(), key=lambda i: (-i[1], i[0]))


def test_without_the_fast_parser_the_service_does_the_same(tmp_path: Path):
    targets = ["/api/slow/a%2Fb?q=1", "/api/slow/a/b", "/api/slow/%ff", "/api/slow/"]
    with Service(tmp_path, DATABASE_URL="", GUNICORN_CMD_ARGS="--http-parser python") as service:
        assert [ask(service, target).json()["count"] for target in targets] == [1, 1, 1, 1]
        assert ask(service, "/api/slow/".ljust(4000, "x")).status == 414
        assert set(service.counts("/api/slow/")) == {target.partition("?")[0] for target in targets}
