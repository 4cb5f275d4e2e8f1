"""The service behind nginx, set up as deploy/nginx.conf has it but for ports and certificate."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from tests.client import Answer
from tests.service import PROJECT, Service, free_port

CONFIGURATION = PROJECT / "deploy/nginx.conf"
HOST = "counts.example.org"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

if not NGINX and os.environ.get("CI"):
    raise RuntimeError("There is no nginx, without which nothing can be said about what is behind it.")
pytestmark = pytest.mark.skipif(not NGINX, reason="there is no nginx")

#: What nginx asks for beside the server blocks, so that it needs no root: a place of its own for all that it writes.
AROUND = """
daemon off;
master_process off;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ }}
http {{
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    {ours}
}}
"""


class Proxied(NamedTuple):
    """The service, and nginx in front of it."""

    service: Service
    https: int
    http: int
    certificate: Path

    def connection(self, *, source: str = "127.0.0.1") -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.certificate))
        return http.client.HTTPSConnection(
            "127.0.0.1", self.https, timeout=30, context=context, source_address=(source, 0)
        )

    def ask(
        self, target: str, method: str = "GET", body: bytes = b"", source: str = "127.0.0.1", **headers: str
    ) -> Answer:
        """What is answered over HTTPS to a target that is sent byte for byte; headers are given with _ for -."""
        return exchange(self.connection(source=source), target, method, body, headers)

    def ask_plainly(self, target: str, **headers: str) -> Answer:
        return exchange(http.client.HTTPConnection("127.0.0.1", self.http, timeout=30), target, "GET", b"", headers)

    def figures(self, path: str) -> dict[str, int]:
        return self.ask(f"/stats/total/?path={path}").json()


def exchange(
    connection: http.client.HTTPConnection, target: str, method: str, body: bytes, headers: dict[str, str]
) -> Answer:
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    given = {"Host": HOST, "User-Agent": FIREFOX, **{name.replace("_", "-"): text for name, text in headers.items()}}
    if body:
        given["Content-Length"] = str(len(body))
    for name, text in given.items():
        connection.putheader(name, text)
    connection.endheaders(body or None)
    answer = connection.getresponse()
    found = Answer(answer.status, answer.headers, answer.read())
    connection.close()
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate for the service's name and this machine."""
    place = tmp_path_factory.mktemp("nginx")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"),
            *("-addext", f"subjectAltName=DNS:{HOST},IP:127.0.0.1"),
            *("-keyout", place / "privkey.pem", "-out", place / "fullchain.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return place


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Iterator[Proxied]:
    with Service(
        tmp_path_factory.mktemp("service"),
        DATABASE_URL="",
        HITCOUNTER_WORKERS="2",
        HITCOUNTER_HOSTS=HOST,
        HITCOUNTER_TRUSTED_PROXIES="127.0.0.1",
        HITCOUNTER_OPEN="on",
    ) as service:
        proxied = Proxied(service, free_port(), free_port(), place / "fullchain.pem")
        (place / "nginx.conf").write_text(AROUND.format(place=place, ours=adapted(place, proxied)))
        nginx = subprocess.Popen([str(NGINX), "-p", place, "-c", place / "nginx.conf", "-e", place / "error.log"])
        try:
            wait_for(proxied.https, nginx)
            yield proxied
        finally:
            nginx.terminate()
            nginx.wait(timeout=30)


def adapted(place: Path, proxied: Proxied) -> str:
    """deploy/nginx.conf on other ports, on loopback alone, with another certificate; nothing else is changed."""
    text = CONFIGURATION.read_text()
    for ours, theirs in {
        "listen 443 ssl http2;": f"listen 127.0.0.1:{proxied.https} ssl http2;",
        "listen [::]:443 ssl http2;": "",
        "listen 80;": f"listen 127.0.0.1:{proxied.http};",
        "listen [::]:80;": "",
        "server 127.0.0.1:5000;": f"server 127.0.0.1:{proxied.service.port};",
        "/etc/ssl/counts.example.org/": f"{place}/",
    }.items():
        assert ours in text
        text = text.replace(ours, theirs)
    return text


def wait_for(port: int, nginx: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert nginx.poll() is None, "nginx does not start"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("nginx does not listen")


TAILS = ["a/b", "a%2Fb", "a%2fb", "a/b/", "a//b", "//", "a/../b", "./b", "%ff", "%F0%9F%90%8D", "a+b", "'\"\\<>|~"]


@pytest.mark.parametrize("tail", [*TAILS, "x" * (2048 - len("/api/raw/"))], ids=lambda tail: tail[:20])
def test_paths_are_counted_byte_for_byte(proxied: Proxied, tail: str):
    target = f"/api/raw/{tail}"
    assert proxied.ask(target + "?query=1").json() == {"path": target, "count": 1}
    assert proxied.ask_plainly(target).json() == {"path": target, "count": 2}


@pytest.mark.parametrize("target", ["/api/%00", "/api/../../x"])
def test_what_nginx_refuses_itself_is_not_counted(proxied: Proxied, target: str):
    assert proxied.ask(target).status == 400


def test_a_path_too_long_gets_the_services_own_answer(proxied: Proxied):
    answer = proxied.ask("/api/".ljust(4000, "x"))
    assert (answer.status, answer.headers["Content-Type"]) == (414, "application/json")


def test_what_a_client_says_of_its_address_makes_no_other_visitor(proxied: Proxied):
    for pretended in ("198.51.100.1", "198.51.100.2", "127.0.0.1", "nonsense, 198.51.100.3"):
        answer = proxied.ask("/api/who/", source="127.0.0.2", X_Forwarded_For=pretended, Forwarded=f"for={pretended}")
        assert answer.status == 200
    assert proxied.figures("/api/who/") == {"hits": 4, "visitors": 1} | rest(proxied.figures("/api/who/"))
    proxied.ask("/api/who/", source="127.0.0.3")
    assert proxied.figures("/api/who/")["visitors"] == 2


def rest(figures: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in figures.items() if name not in ("hits", "visitors")}


def test_no_client_says_whose_customer_it_is(proxied: Proxied):
    proxied.ask("/api/customer/", X_Consumer="acme")
    rows = proxied.ask("/stats/by/consumer/?path=/api/customer/").json()
    assert [row["value"] for row in rows] == [""]


def test_pages_are_for_https_alone(proxied: Proxied):
    answer = proxied.ask_plainly("/stats/?limit=1")
    assert (answer.status, answer.headers["Location"]) == (301, f"https://{HOST}/stats/?limit=1")
    answer = proxied.ask_plainly("//evil.example/")
    assert answer.headers["Location"] == f"https://{HOST}//evil.example/"


def test_who_comes_past_nginx_is_sent_to_https_too_unless_he_counts_or_looks_after_the_service(proxied: Proxied):
    past = proxied.service.get
    assert past("/stats/", allow_redirects=False).headers["Location"].startswith("https://127.0.0.1")
    for path in ("/api/past/", "/pixel.gif?path=/past", "/healthz/live", "/healthz/ready"):
        assert past(path, allow_redirects=False).status_code == 200, path


def test_pages_over_https_ask_to_stay_there_and_send_no_cookie_elsewhere(proxied: Proxied):
    page = proxied.ask("/admin/login/")
    assert page.status == 200
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "; Secure" in page.headers["Set-Cookie"]


def test_one_can_log_in(proxied: Proxied):
    password = (proxied.service.data_dir / "admin-password").read_text().strip()
    with requests.Session() as session:
        session.trust_env = False  # which may name other certificates
        session.verify = str(proxied.certificate)
        session.headers["Host"] = f"{HOST}:{proxied.https}"
        login = f"https://127.0.0.1:{proxied.https}/admin/login/?next=/admin/"
        page = session.get(login)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token
        cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
        answer = session.post(
            login,
            data={"csrfmiddlewaretoken": token[1], "username": "admin", "password": password},
            headers={"Origin": f"https://{HOST}:{proxied.https}", "Cookie": cookies},
            allow_redirects=False,
        )
    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/")
    assert re.search(r"hitcounter_session=.*; Secure", answer.headers["Set-Cookie"])


def test_events_arrive_as_they_happen(proxied: Proxied):
    connection = proxied.connection()
    connection.request("GET", "/live/events/", headers={"Host": HOST})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    began = time.monotonic()
    while not (line := answer.readline()).startswith(b"data: "):
        assert line
    assert time.monotonic() < began + 5
    marker = f"/api/event-{time.time_ns()}/"
    for _ in range(5):  # so that it is among the first of its second, in which other tests may have had theirs
        proxied.ask(marker)
    began = time.monotonic()
    while marker.encode() not in answer.readline():
        assert time.monotonic() < began + 10
    connection.close()


def test_many_hits_in_one_request_are_taken_in(proxied: Proxied):
    hits = json.dumps([{"path": "/many", "route": "x" * 200} for _ in range(10_000)]).encode()
    body = hits.ljust(8_000_000)
    answer = proxied.ask("/hits/", "POST", body, Content_Type="application/json")
    assert (answer.status, answer.json()) == (200, {"counted": 10_000})


def test_a_body_too_large_is_refused(proxied: Proxied):
    answer = proxied.ask("/hits/", "POST", b" " * 8_000_001, Content_Type="application/json")
    assert (answer.status, answer.headers["Content-Type"]) == (413, "application/json")
    with socket.create_connection(("127.0.0.1", proxied.https)) as plain:
        context = ssl.create_default_context(cafile=str(proxied.certificate))
        with context.wrap_socket(plain, server_hostname=HOST) as connection:
            head = f"POST /hits/ HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100000000\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(("size", "expected"), [(4_000, 200), (8_100, 200), (9_000, 431), (20_000, 400)])
def test_oversized_headers_are_refused(proxied: Proxied, size: int, expected: int):
    assert proxied.ask("/api/headers/", X_Long="x" * size).status == expected


def test_a_stranger_host_is_refused(proxied: Proxied):
    assert proxied.ask("/stats/", Host="evil.example").status == 400
