"""`CountRequests` beside the service's own tables: counted through the ORM, as the service counts what it is asked."""

import asyncio
import threading
from collections import Counter as Tally

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import OperationalError
from django.http import HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client

from counters import middleware
from counters.clients import origins
from counters.middleware import CountRequests, orm
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


def visitors() -> dict[str, int | None]:
    return dict(Hit.objects.values_list("counter__path", "visitor"))


def test_visitors_are_told_apart_but_for_those_who_wish_not_to_be(host):
    ask()
    assert {path for path, visitor in visitors().items() if visitor is None} == {"/broken"}
    assert len(set(visitors().values())) == 4


@pytest.fixture
def set_origins(settings):
    """Has origins told by these settings until the test is over."""

    def change(**changes):
        for name, value in changes.items():
            setattr(settings, f"HITCOUNTER_{name}", value)
        origins.cache_clear()

    yield change
    origins.cache_clear()


def test_who_asks_is_the_same_as_in_what_the_service_counts_by_itself(set_origins):
    set_origins(TRUSTED_PROXIES="1", COUNTRY_HEADER="CF-IPCountry", CONSUMER_HEADER="X-Customer")
    client = {"X-Forwarded-For": "198.51.100.9", "CF-IPCountry": "DE", "X-Customer": "acme", "X-Consumer": "other"}
    for path, headers in (("/api/a/", client), ("/healthz/live", client), ("/schema/", {**client, "User-Agent": "x"})):
        Client().get(path, headers=headers)
    assert visitors()["/api/a/"] == visitors()["/healthz/live"] != visitors()["/schema/"]
    told = ("dimensions__consumer", "dimensions__country")
    assert set(Hit.objects.values_list(*told)) == {("acme", "DE")}


def test_the_project_may_have_a_function_for_the_consumer(host, settings):
    settings.HITCOUNTER_CONSUMER = "tests.integration.test_middleware_orm.customer"
    Client().get("/", headers={"X-Consumer": "acme"})
    assert Hit.objects.get().dimensions.consumer == "customer of /"


def customer(request):
    return f"customer of {request.path}"


def test_a_consumer_that_the_service_would_refuse_does_not_keep_a_request_from_being_counted(host):
    Client().get("/", headers={"X-Consumer": "x" * 256, "User-Agent": FIREFOX})
    [dimensions] = [hit.dimensions for hit in Hit.objects.select_related("dimensions")]
    assert (dimensions.consumer, dimensions.browser) == ("", "Firefox")


def test_a_project_without_the_settings_of_the_service_is_counted_with_their_defaults(host, settings, set_origins):
    for name in ("CONSUMER_HEADER", "COUNTRY_HEADER", "FORWARDED_HEADER", "TRUSTED_PROXIES", "GEOIP_DATABASE"):
        delattr(settings, f"HITCOUNTER_{name}")
    set_origins()
    Client().get("/", headers={"X-Consumer": "acme"})
    assert Hit.objects.get().dimensions.consumer == "acme"


def test_requests_are_counted_under_asgi(host):
    async_to_sync(AsyncClient().get)("/page/a")
    assert Counter.objects.get(path="/page/a").hits == 1


def counts() -> dict[str, int]:
    return dict(Counter.objects.values_list("path", "hits"))


def test_what_the_service_counts_by_itself_is_not_counted_twice():
    assert Client().get("/api/a/").json()["count"] == 1
    assert Client().get("/api/a/").json()["count"] == 2
    assert Client().post("/api/a/").status_code == 405
    assert Client().get("/pixel.gif?path=/blog/").status_code == 200
    assert Client().get("/healthz/live").status_code == 200
    assert counts() == {"/api/a/": 2, "/blog/": 1, "/healthz/live": 1}


def test_what_the_service_counts_by_itself_is_not_counted_twice_under_asgi():
    async_to_sync(AsyncClient().get)("/api/a/")
    assert counts() == {"/api/a/": 1}


def test_another_project_that_has_the_app_may_have_pages_below_api(host):
    Client().get("/api/orders/")
    async_to_sync(AsyncClient().get)("/api/orders/")
    assert counts() == {"/api/orders/": 2}


def test_a_hit_that_waits_for_the_database_outlives_its_client(host):
    async_to_sync(_leave_while_the_database_is_busy)()
    assert counts() == {"/": 1}


async def _leave_while_the_database_is_busy():
    """Have its one thread wait for something else when a client leaves."""

    async def answer(request):
        return HttpResponse()

    busy = threading.Event()
    other = asyncio.create_task(sync_to_async(busy.wait)(10))
    answering = asyncio.create_task(CountRequests(answer)(AsyncRequestFactory().get("/")))
    await asyncio.sleep(0)  # both begin
    await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    busy.set()
    await other
    await asyncio.gather(*orm._under_way)


def test_a_database_that_fails_touches_no_request(host, monkeypatch, caplog):
    def away(*args, **options):
        raise OperationalError("the database is away")

    monkeypatch.setattr(middleware._LOST, "_due", 0)
    monkeypatch.setattr(type(Counter.objects), "increment", away)
    assert Client().get("/").status_code == 200
    assert "the database is away" in caplog.text
