"""What every kind of answer says to browsers, with a proxy in front that speaks TLS, and without."""

from collections.abc import Iterator

import pytest
import requests

from tests.service import Service

#: In every answer of Django's, whatever it is.
EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HSTS = {"Strict-Transport-Security": "max-age=31536000"}
POLICY = ("default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'")

#: Each kind of answer, by an address that has it, with its status.
DJANGOS = {
    "/": 200,
    "/paths/": 200,
    "/live/": 200,
    "/loadtests/": 200,
    "/path/": 400,
    "/stats/": 200,
    "/stats/?nonsense=1": 400,
    "/schema/": 200,
    "/docs/": 200,
    "/count.js": 200,
    "/badge/a.svg": 200,
    "/healthz/live": 200,
    "/healthz/ready": 200,
    "/metrics": 200,
    "/admin/login/": 200,
    "/admin/": 302,
    "/paths": 301,
    "/nowhere/": 404,
    "/static/counters/dashboard.css": 200,
    "/hits/": 405,
}
#: By who looks after the service, past the proxy.
ASKED_DIRECTLY = ("/healthz/live", "/healthz/ready", "/metrics")
#: Counted without Django: JSON and GIF by their own names, which browsers do not look into for anything else. Each
#: header more would be sent with each hit.
COUNTED = {"/api/headers/": 200, "/api/".ljust(3000, "x"): 414, "/pixel.gif?path=/headers": 200, "/pixel.gif": 400}


@pytest.fixture(scope="module")
def behind_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that is open, and believes that a proxy in front speaks TLS."""
    place = tmp_path_factory.mktemp("headers")
    options = {"HITCOUNTER_WORKERS": "1", "HITCOUNTER_TLS": "on", "HITCOUNTER_OPEN": "on"}
    with Service(place, DATABASE_URL="", **options) as running:
        yield running


def over_https(service: Service, path: str) -> requests.Response:
    return service.get(path, headers={"X-Forwarded-Proto": "https"}, allow_redirects=False)


@pytest.mark.parametrize(("path", "status"), DJANGOS.items())
def test_answers_over_https_are_kept_to_https_and_harmless(behind_tls: Service, path: str, status: int):
    answer = over_https(behind_tls, path)
    assert answer.status_code == status
    assert answer.headers.items() >= {**EVERYWHERE, **HSTS}.items()
    directives = answer.headers["Content-Security-Policy"].split("; ")
    # A picture that others embed has a policy of its own: nothing in it may load or run anything.
    assert directives == ["default-src 'none'"] if path.startswith("/badge/") else set(POLICY) <= set(directives)
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(("path", "status"), DJANGOS.items())
def test_on_loopback_answers_are_as_harmless_and_bind_no_browser_to_https(service: Service, path: str, status: int):
    answer = service.get(path, allow_redirects=False)
    assert answer.status_code == status
    assert answer.headers.items() >= EVERYWHERE.items()
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize("path", [path for path in DJANGOS if path not in ASKED_DIRECTLY])
def test_what_comes_over_http_is_sent_to_https(behind_tls: Service, path: str):
    answer = behind_tls.get(path, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (301, behind_tls.url.replace("http:", "https:") + path)


@pytest.mark.parametrize("path", ASKED_DIRECTLY)
def test_who_looks_after_the_service_asks_over_http(behind_tls: Service, path: str):
    assert behind_tls.get(path, allow_redirects=False).status_code == 200


@pytest.mark.parametrize(("path", "status"), COUNTED.items(), ids=lambda value: str(value)[:30])
def test_counting_is_not_touched_by_any_of_it(behind_tls: Service, path: str, status: int):
    for answer in (behind_tls.get(path, allow_redirects=False), over_https(behind_tls, path)):
        assert answer.status_code == status
        assert answer.headers["Content-Type"] in ("application/json", "image/gif")
        assert not {*HSTS, "Set-Cookie", "Location"} & set(answer.headers)


def test_cookies_are_sent_over_https_alone(behind_tls: Service):
    assert "; Secure" in over_https(behind_tls, "/admin/login/").headers["Set-Cookie"]


def test_on_loopback_cookies_are_sent_over_http(service: Service):
    assert "Secure" not in service.get("/admin/login/").headers["Set-Cookie"]


def test_a_load_test_reads_its_statistics_all_the_same(behind_tls: Service):
    headers = {"X-Forwarded-Proto": "https"}
    answer = requests.post(f"{behind_tls.url}/test/20/", headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["counted"]) == (200, 20)
