"""`CountRequests` beside the service's own tables: counted through the ORM, as what it would send would be."""

from collections import Counter as Tally

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError
from django.test import AsyncClient, Client

from counters import middleware
from counters.middleware import orm
from counters.models import Counter, Hit

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
REQUESTS = [
    ("GET", "/", {}),
    ("GET", "/page/a", {"User-Agent": FIREFOX, "X-Consumer": "acme"}),
    ("GET", "/page/a", {"User-Agent": FIREFOX, "X-Consumer": "acme"}),
    ("POST", "/page/b", {"User-Agent": GOOGLEBOT, "Referer": "https://example.org/page?q=1"}),
    ("GET", "/broken", {"User-Agent": FIREFOX, "Sec-GPC": "1"}),
    ("GET", "/nothing", {"Referer": "none"}),
]


@pytest.fixture(autouse=True)
def _counting_requests(settings):
    settings.MIDDLEWARE = ["counters.middleware.CountRequests", *settings.MIDDLEWARE]


@pytest.fixture
def host(settings):
    settings.ROOT_URLCONF = "tests.host.urls"


def ask():
    for method, path, headers in REQUESTS:
        Client(raise_request_exception=False).generic(method, path, headers=headers)


def kept() -> Tally:
    names = ("method", "status", "route", "consumer", "referrer", "referrer_url", "browser", "bot")
    fields = ["counter__path", *[f"dimensions__{name}" for name in names]]
    return Tally(Hit.objects.values_list(*fields))


def test_requests_are_counted_with_all_that_is_known(host):
    ask()
    assert kept() == {
        ("/", "GET", 200, "/", "", "", "", "", False): 1,
        ("/page/a", "GET", 200, "/page/<str:name>", "acme", "", "", "Firefox", False): 2,
        (
            "/page/b",
            "POST",
            200,
            "/page/<str:name>",
            "",
            "example.org",
            "https://example.org/page",
            "Googlebot",
            True,
        ): 1,
        ("/broken", "GET", 500, "/broken", "", "", "", "Firefox", False): 1,
        ("/nothing", "GET", 404, "", "", "", "", "", False): 1,
    }
    assert dict(Counter.objects.values_list("path", "hits"))["/page/a"] == 2


def test_visitors_are_told_apart_as_they_are_in_what_would_be_sent(host, monkeypatch):
    sent = []
    count = orm.count
    monkeypatch.setattr(orm, "count", lambda hit: sent.append(hit) or count(hit))
    ask()
    of_path = {hit["path"]: hit.get("visitor") for hit in sent}
    kept = dict(Hit.objects.values_list("counter__path", "visitor"))
    assert {path for path, visitor in of_path.items() if visitor is None} == {"/broken"}
    assert {path for path, visitor in kept.items() if visitor is None} == {"/broken"}
    assert len(set(of_path.values())) == len(set(kept.values())) == 4


def test_requests_are_counted_under_asgi(host):
    async_to_sync(AsyncClient().get)("/page/a")
    assert Counter.objects.get(path="/page/a").hits == 1


def test_what_the_service_counts_by_itself_is_not_counted_twice():
    assert Client().get("/api/a/").json()["count"] == 1
    assert Client().get("/api/a/").json()["count"] == 2
    assert Client().get("/healthz/live").status_code == 200
    assert dict(Counter.objects.values_list("path", "hits")) == {"/api/a/": 2, "/healthz/live": 1}


def test_a_database_that_fails_touches_no_request(host, monkeypatch, caplog):
    def away(*args, **options):
        raise OperationalError("the database is away")

    monkeypatch.setattr(middleware._LOST, "_due", 0)
    monkeypatch.setattr(type(Counter.objects), "increment", away)
    assert Client().get("/").status_code == 200
    assert "the database is away" in caplog.text
