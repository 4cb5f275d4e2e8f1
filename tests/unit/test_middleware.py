"""`CountRequests` in Django's request cycle: what is counted, and that nothing goes wrong by it."""

import asyncio
import logging
import re
from pathlib import Path

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.test import AsyncClient, AsyncRequestFactory, Client

from counters import middleware
from counters.middleware import CountRequests, conf
from counters.middleware.complaint import SECONDS_BETWEEN, Complaint
from counters.middleware.spool import SpoolFull
from tests.service import PROJECT


class FakeCounting:
    """Keeps hits in memory; `error` is raised instead."""

    def __init__(self) -> None:
        self.hits = []
        self.error = None

    def count(self, request, hit):
        if self.error:
            raise self.error
        self.hits.append(hit)

    async def aside(self, count):
        count()

    def told(self):
        return [(hit.get("method"), hit["path"], hit.get("status"), hit.get("route")) for hit in self.hits]


@pytest.fixture
def counting(monkeypatch, settings) -> FakeCounting:
    fake = FakeCounting()
    monkeypatch.setattr(middleware, "_counting", lambda: fake)
    monkeypatch.setattr(middleware, "_LOST", Complaint("%d lost: %s", logging.ERROR))
    monkeypatch.setattr(middleware, "_UNTOLD", Complaint("%d untold: %r", logging.ERROR))
    settings.ROOT_URLCONF = "tests.host.urls"
    settings.MIDDLEWARE = ["counters.middleware.CountRequests", "django.middleware.common.CommonMiddleware"]
    return fake


REQUESTS = [
    ("GET", "/", 200, "/"),
    ("POST", "/page/a", 200, "/page/<str:name>"),
    ("HEAD", "/page/a", 200, "/page/<str:name>"),
    ("GET", "/number/7", 200, "/^number/(?P<number>[0-9]+)$"),
    ("GET", "/nothing/here", 404, None),
    ("GET", "/broken", 500, "/broken"),
    ("GET", "/stream", 200, "/stream"),
]


@pytest.mark.parametrize(("method", "path", "status", "route"), REQUESTS)
def test_every_request_is_counted_whatever_the_answer(counting, method, path, status, route):
    answer = Client(raise_request_exception=False).generic(method, path)
    assert answer.status_code == status
    assert counting.told() == [(method, path, status, route)]


@pytest.mark.parametrize(("method", "path", "status", "route"), REQUESTS)
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
async def test_every_request_is_counted_under_asgi(counting, method, path, status, route):
    answer = await AsyncClient(raise_request_exception=False).generic(method, path)
    assert answer.status_code == status
    assert counting.told() == [(method, path, status, route)]


def test_what_another_middleware_answers_is_counted(counting):
    assert Client(headers={"Host": "wrong.example"}).get("/").status_code == 400
    assert counting.told() == [("GET", "/", 400, None)]


def test_a_streamed_answer_is_counted_before_it_is_read_and_passed_on_as_it_is(counting):
    answer = Client().get("/stream")
    assert len(counting.hits) == 1
    assert b"".join(answer.streaming_content) == b"one two"


async def test_a_request_whose_client_leaves_is_counted_without_a_status(counting):
    request = AsyncRequestFactory().get("/waiting")
    handler = ASGIHandler()
    answering = asyncio.create_task(handler.get_response_async(request))
    while request.resolver_match is None:
        await asyncio.sleep(0)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert counting.told() == [("GET", "/waiting", None, "/waiting")]


def test_it_is_asynchronous_where_what_it_wraps_is(counting):
    async def answer(request):
        pass

    assert iscoroutinefunction(CountRequests(answer))
    assert not iscoroutinefunction(CountRequests(consumer_of))


@pytest.mark.parametrize("error", [SpoolFull(), PermissionError("not yours"), RuntimeError("a bug")])
def test_what_cannot_be_counted_is_answered_and_logged_once_a_minute(counting, caplog, error):
    counting.error = error
    for _ in range(3):
        assert Client().get("/").status_code == 200
    [record] = [record for record in caplog.records if record.name == "counters.middleware"]
    assert record.getMessage() == f"1 lost: {error}"
    assert record.levelno == logging.ERROR


async def test_what_cannot_be_counted_is_answered_under_asgi(counting, caplog):
    counting.error = SpoolFull()
    assert (await AsyncClient().get("/")).status_code == 200
    assert "1 lost" in caplog.text


def test_a_path_that_is_too_long_is_answered_and_logged(counting, caplog):
    assert Client().get("/page/" + "x" * 2048).status_code == 200
    assert counting.hits == []
    assert "longer than 2,048 bytes" in caplog.text


def test_the_consumer_is_the_header_unless_a_function_is_named(counting, settings):
    Client().get("/", headers={"X-Consumer": "acme"})
    settings.HITCOUNTER_CONSUMER = "tests.unit.test_middleware.consumer_of"
    Client().get("/?key=k1")
    assert [hit["consumer"] for hit in counting.hits] == ["acme", "customer k1"]


def consumer_of(request):
    return f"customer {request.GET['key']}"


def nobody(request):
    return None


def test_a_request_of_nobody_has_no_consumer(counting, settings):
    settings.HITCOUNTER_CONSUMER = "tests.unit.test_middleware.nobody"
    Client().get("/")
    assert "consumer" not in counting.hits[0]


def test_a_function_that_fails_costs_the_consumer_and_not_the_hit(counting, settings, caplog):
    settings.HITCOUNTER_CONSUMER = "tests.unit.test_middleware.consumer_of"
    assert Client().get("/").status_code == 200
    assert "consumer" not in counting.hits[0]
    assert "1 untold: MultiValueDictKeyError('key')" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        None, "", "counts.example.org", "ftp://counts.example.org", "https://", "https://user:secret@host:port",
        "https://host/?secret=1", "https://host/#secret", "https://host:0", "https://[host", 7,
        "https://user@host", "https://user:@host", "https://:secret@host",
    ],
)  # fmt: skip
def test_an_address_that_is_none_stops_the_start_with_a_sentence_and_without_telling_it(settings, url):
    settings.HITCOUNTER_URL = url
    with pytest.raises(ImproperlyConfigured, match=r"HITCOUNTER_URL must .*\.$") as raised:
        conf.url()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000", "https://counts.example.org/below/"])
def test_an_address_is_taken_as_it_is(settings, url):
    settings.HITCOUNTER_URL = url
    assert conf.url() == url


@pytest.mark.parametrize(
    "url", ["https://user:secret@host", "https://user@host/", "https://:secret@host", "https://@host"]
)
def test_a_name_or_a_password_in_the_address_stops_the_start_and_leads_to_the_key(settings, url):
    settings.HITCOUNTER_URL = url
    with pytest.raises(ImproperlyConfigured, match=r"no name and no password: .*HITCOUNTER_KEY\.$") as raised:
        conf.url()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(("given", "key"), [("Vhq3YHMT.s3cret", "Vhq3YHMT.s3cret"), ("", ""), (None, "")])
def test_a_key_is_taken_as_it_is(settings, given, key):
    settings.HITCOUNTER_KEY = given
    assert conf.key() == key


@pytest.mark.parametrize("key", ["two secrets", "secret\r\nX-Other: 1", "sécret", b"secret", 7])
def test_a_key_that_is_none_stops_the_start_with_a_sentence_and_without_telling_it(settings, key):
    settings.HITCOUNTER_KEY = key
    with pytest.raises(ImproperlyConfigured, match=r"HITCOUNTER_KEY must .*\.$") as raised:
        conf.key()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("size", [0, -1, "100", None, True])
def test_a_size_that_is_none_stops_the_start_with_a_sentence(settings, size):
    settings.HITCOUNTER_SPOOL_MB = size
    with pytest.raises(ImproperlyConfigured, match=r"HITCOUNTER_SPOOL_MB must be a positive number"):
        conf.spool_bytes()


@pytest.mark.parametrize(
    "dotted", ["nothing", "tests.nothing.at_all", "tests.host.settings.nothing", "tests.host.settings.USE_TZ"]
)
def test_a_consumer_function_that_is_none_stops_the_start_with_a_sentence(settings, dotted):
    settings.HITCOUNTER_CONSUMER = dotted
    with pytest.raises(ImproperlyConfigured, match="HITCOUNTER_CONSUMER: "):
        conf.consumer()


async def asynchronous(request):
    return "acme"


def test_a_consumer_function_that_would_have_to_be_awaited_stops_the_start(settings):
    settings.HITCOUNTER_CONSUMER = "tests.unit.test_middleware.asynchronous"
    with pytest.raises(ImproperlyConfigured, match=r"HITCOUNTER_CONSUMER: .* must not be async"):
        conf.consumer()


def test_the_spool_is_beside_the_project_unless_it_is_set(settings, tmp_path):
    settings.BASE_DIR = str(tmp_path)
    assert conf.spool() == tmp_path / ".hitcounter-spool"
    settings.HITCOUNTER_SPOOL = str(tmp_path / "other")
    assert conf.spool() == tmp_path / "other"


@pytest.mark.parametrize("directory", ["", 7])
def test_a_spool_that_is_no_directory_stops_the_start(settings, directory):
    settings.HITCOUNTER_SPOOL = directory
    with pytest.raises(ImproperlyConfigured, match="HITCOUNTER_SPOOL must be a directory"):
        conf.spool()


def test_a_project_without_base_dir_must_name_a_spool(settings):
    del settings.BASE_DIR
    with pytest.raises(ImproperlyConfigured, match="HITCOUNTER_SPOOL must be a directory"):
        conf.spool()


def test_the_documentation_has_a_table_of_the_settings_that_are_read():
    documented = re.findall(r"(?m)^\| `(HITCOUNTER_\w+)` \|", (PROJECT / "docs/middleware.md").read_text())
    assert documented
    assert set(documented) == set(re.findall(r'"(HITCOUNTER_\w+)"', Path(conf.__file__).read_text()))


def test_all_hits_that_were_lost_are_logged_at_last(caplog):
    time = [0.0]
    complaint = Complaint("%d lost: %s", logging.ERROR, clock=lambda: time[0])
    for reason in ("a", "b", "c"):
        complaint.say(reason)
    time[0] += SECONDS_BETWEEN
    complaint.repeat()
    complaint.repeat()
    complaint.say("d")
    complaint.finish()
    assert [record.getMessage() for record in caplog.records] == ["1 lost: a", "2 lost: c", "1 lost: d"]
