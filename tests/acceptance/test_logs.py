"""The log of a running service: nothing personal in it whatever fails, and never a flood."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import requests

from hitcounter.postgres import PrivatePostgres
from tests.client import ask, ask_patiently
from tests.load import Load
from tests.processes import children, kill
from tests.service import Service

pytestmark = pytest.mark.long

#: What a client sends that is nobody's business.
ADDRESS, AGENT, REFERRER, VISITOR, QUERY, COOKIE, KEY, BODY = (
    "203.0.113.77",
    "PersonalBrowser/47.11",
    "personal-referrer",
    "personal-visitor",
    "personal-query",
    "personal-cookie",
    "personal-key",
    "personal-body",
)
PERSONAL = (ADDRESS, AGENT, REFERRER, VISITOR, QUERY, COOKIE, KEY, BODY)
PASSWORD = "personal-password"
HEADERS = {
    "X-Forwarded-For": ADDRESS,
    "User-Agent": AGENT,
    "Cookie": f"hitcounter_session={COOKIE}; a={COOKIE}",
    "X-Request-ID": "r-4711",
}
NO_REFERRERS = "ALTER TABLE counters_dimensionset ADD CHECK (referrer_url = '') NOT VALID"
NO_COUNTERS = "ALTER TABLE counters_counter RENAME TO counters_gone"
COUNTERS_AGAIN = "ALTER TABLE counters_gone RENAME TO counters_counter"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PrivatePostgres]:
    with PrivatePostgres(tmp_path / "postgres").held() as running:
        yield running


def with_password(database: PrivatePostgres) -> str:
    """The database's URL with a password, which this server does not ask for."""
    return f"{database.url}{'&' if '?' in database.url else '?'}password={PASSWORD}"


def lines(service: Service) -> list[dict]:
    """The log, without what `serve` prints before it serves, which ends with where the admin is."""
    printed = service.output().splitlines()
    [begin] = [n for n, line in enumerate(printed) if line.startswith("  admin ")]
    return [json.loads(line) for line in printed[begin + 1 :] if line]


def ask_all(service: Service, key: str, case: str) -> dict[str, int]:
    """Every kind of request, each with all that is personal, and how it was answered; a case has its own referrer."""
    referrer = f"https://example.org/{REFERRER}/{case}"
    item = {"path": "/a", "visitor": VISITOR, "referrer": referrer, "user_agent": AGENT}

    def answered(method: str, path: str, **options) -> int:
        own = {"Referer": referrer, "Authorization": f"Bearer {key}"}
        headers = HEADERS | own | options.pop("headers", {})
        return requests.request(method, service.url + path, headers=headers, timeout=30, **options).status_code

    return {
        "hit": answered("GET", f"/api/a/?{QUERY}"),
        "view": answered("GET", f"/pixel.gif?path=/a&referrer={quote(referrer, safe='')}"),
        "batch": answered("POST", "/hits/", json=[item]),
        "bad batch": answered("POST", "/hits/", json=[item | {BODY: BODY}]),
        "no batch": answered("POST", "/hits/", data=BODY, headers={"Content-Type": "application/json"}),
        "statistics": answered("GET", f"/stats/total/?prefix=/{QUERY}"),
        "overview": answered("GET", f"/?prefix=/{QUERY}"),
        "nowhere": answered("GET", f"/nowhere/?{QUERY}"),
        "bad host": answered("GET", f"/stats/?{QUERY}", headers={"Host": "evil.example"}),
        "login": answered("POST", "/admin/login/", data={"username": VISITOR, "password": BODY}),
        "wrong key": answered("GET", "/stats/", headers={"Authorization": f"Bearer {KEY}"}),
        "bad header": answered("GET", "/api/a/", headers={"X-Consumer": KEY * 50}),
    }


def test_nothing_personal_is_logged_whatever_fails(tmp_path: Path, database: PrivatePostgres):
    settings = {"HITCOUNTER_LOG_FORMAT": "json", "HITCOUNTER_TRUSTED_PROXIES": "1"}
    settings |= {"HITCOUNTER_OPEN": "on", "HITCOUNTER_TLS": "off"}
    with Service(tmp_path, DATABASE_URL=with_password(database), HITCOUNTER_WORKERS="1", **settings) as service:
        key = service.made_key("admin")
        answers = {"": ask_all(service, key, "")}
        with psycopg.connect(database.url, autocommit=True) as admin:
            admin.execute(NO_REFERRERS)
            answers["no referrers"] = ask_all(service, key, "no-referrers")
            admin.execute(NO_COUNTERS)
            answers["no counters"] = ask_all(service, key, "no-counters")
            admin.execute(COUNTERS_AGAIN)
        database.stop()
        answers["no database"] = ask_all(service, key, "no-database")
        database.start()  # without it, a stop would wait for the batch that is in doubt
    assert (answers[""]["hit"], answers["no referrers"]["hit"], answers["no database"]["hit"]) == (200, 400, 503)
    assert (answers[""]["view"], answers["no referrers"]["view"], answers["no database"]["view"]) == (200, 400, 503)
    assert (answers[""]["overview"], answers["no counters"]["overview"]) == (200, 500)
    assert (answers[""]["batch"], answers["no referrers"]["batch"], answers["no database"]["batch"]) == (200, 500, 503)
    assert (answers[""]["wrong key"], answers["no database"]["wrong key"]) == (401, 401)
    log = lines(service)
    text = json.dumps(log)
    for personal in (*PERSONAL, PASSWORD, "evil.example", key[9:]):
        assert personal not in text, personal
    # All of it failed where it was meant to, and was told.
    assert [line for line in log if "violates check constraint" in line["message"]]
    assert [line for line in log if "violates check constraint" in line.get("exception", "")]
    assert [line for line in log if "counters_counter" in line["message"]]
    assert [line for line in log if "cannot be reached" in line["message"]]
    failed = [line for line in log if line["logger"] == "django.request"]
    assert failed and {line["request_id"] for line in failed} == {"r-4711"}
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in log)


def test_a_database_that_does_not_let_the_service_in_is_told_without_its_password(
    tmp_path: Path, database: PrivatePostgres
):
    url = with_password(database).replace("hitcounter@", "nobody@")
    assert "nobody" in url
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1") as service:
        pass
    service.environment["DATABASE_URL"] = url
    with pytest.raises(RuntimeError) as failure:
        service.start()
    assert "nobody" in str(failure.value)
    assert PASSWORD not in str(failure.value)


def test_gunicorns_lines_have_the_same_form(tmp_path: Path, database: PrivatePostgres):
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_LOG_FORMAT="json", HITCOUNTER_WORKERS="1") as service:
        kill(*children(service.process.pid))
        ask_patiently(service, "/api/killed/")
        [line] = [line for line in lines(service) if line["logger"] == "gunicorn.error"]
    assert line["level"] == "ERROR"
    assert "SIGKILL" in line["message"]


@pytest.mark.parametrize("outage", ["gone", "cannot commit"])
def test_an_outage_under_load_floods_no_log(tmp_path: Path, database: PrivatePostgres, outage: str):
    settings = {"HITCOUNTER_LOG_FORMAT": "json", "HITCOUNTER_WORKERS": "1"}
    with Service(tmp_path, DATABASE_URL=database.url, **settings) as service, psycopg.connect(database.url) as admin:
        ask(service, "/api/flood/")
        if outage == "gone":
            database.stop()
        else:
            admin.execute(NO_COUNTERS)
            admin.commit()
        before, begun = len(lines(service)), time.monotonic()
        with Load(service, "/api/flood/") as load:
            while time.monotonic() - begun < 5:
                service.get("/stats/")
        seconds = time.monotonic() - begun
        database.start()
        assert load.answers[503] > 500
        written = lines(service)[before:]
        assert len(written) < 20 * seconds, written[-20:]
        if outage == "cannot commit":
            assert any("left out" in line["message"] for line in written)
