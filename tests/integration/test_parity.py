"""The fast lane and the Django view leave the same rows for the same hits: the view is the specification."""

import asyncio
import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import Sum
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counters import bulk
from counters.clients import origins
from counters.dimensions import Dimensions, Origin
from counters.ingest.app import Counting
from counters.ingest.recorder import Recorder
from counters.ingest.writer import PostgresWriter
from counters.models import Counter, DimensionSet, Hit, HourlyHits, VisitorSalt
from hitcounter.asgi import conninfo

START = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
ORIGINS = st.builds(
    Origin,
    st.builds(
        Dimensions,
        method=st.sampled_from(["GET", "POST"]),
        status=st.sampled_from([None, 200, 404]),
        consumer=st.sampled_from(["", "acme", 'Näme "x"\\']),
        referrer=st.sampled_from(["", "example.com"]),
        bot=st.booleans(),
        route=st.sampled_from(["", "/ä/<int:id>/"]),
        **{name: st.just("") for name in ("country", "referrer_url", "browser", "os", "device")},
    ),
    st.sampled_from([None, b"192.0.2.1\x00Firefox", b"192.0.2.2\x00"]),
)
PATHS = st.sampled_from(["/api/", "/api/a/", "/api/a", "/api/%2F", "/api/%2f", "/api/b/c/", '/api/"/', "/api/a//b"])
#: Groups of hits that come at once, and the minutes that pass before each.
GROUPS = st.lists(
    st.tuples(st.integers(0, 200), st.lists(st.tuples(PATHS, ORIGINS), min_size=1, max_size=8)), max_size=8
)
Groups = list[tuple[int, list[tuple[str, Origin]]]]
ON_THE_DATABASE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


class Clock:
    """Shows the time that it was set to."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time


def rows() -> dict[str, Any]:
    """What the tables hold; hit rows summed up, since like hits of a batch may share one."""
    return {
        "counters": list(Counter.objects.order_by("id").values_list()),
        "hours": list(HourlyHits.objects.order_by("pk").values_list("counter_id", "hour", "hits")),
        "hits": list(
            Hit.objects.order_by("counter_id", "at", "dimensions_id", "visitor")
            .values_list("counter_id", "at", "dimensions_id", "visitor")
            .annotate(Sum("hits"))
        ),
        "dimensions": [row[:1] + row[2:] for row in DimensionSet.objects.order_by("id").values_list()],
    }


def salted() -> None:
    """The salts of the days that are counted on, so that visitors go by the same numbers each time."""
    days = [START.date() + timedelta(days=n) for n in range(3)]
    VisitorSalt.objects.bulk_create([VisitorSalt(day=day, salt=b"salt of this day") for day in days])


def through_the_fast_lane(groups: Groups) -> list[int]:
    clock = Clock()

    async def run() -> list[int]:
        recorder = Recorder(PostgresWriter(conninfo(), clock=clock))
        await recorder.start()
        places = []
        for minutes, hits in groups:
            clock.time += timedelta(minutes=minutes)
            counted = await asyncio.gather(*[recorder.record(path, origin) for path, origin in hits])
            places += [place for _, place in counted]
        await recorder.close()
        return places

    return asyncio.run(run())


def through_the_orm(groups: Groups) -> list[int]:
    at, places = START, []
    for minutes, hits in groups:
        at += timedelta(minutes=minutes)
        places += [Counter.objects.increment(path, at=at, origin=origin) for path, origin in hits]
    return places


def in_one_load(groups: Groups) -> None:
    load, at = bulk.Load(bulk.kept_salt_of), START
    for minutes, hits in groups:
        at += timedelta(minutes=minutes)
        for path, origin in hits:
            load.count(at, path, origin)
    bulk.record(load, lambda: None)


@ON_THE_DATABASE
@given(groups=GROUPS)
def test_the_same_hits_leave_the_same_rows(tables: Callable[[], None], groups: Groups):
    tables()
    salted()
    fast = through_the_fast_lane(groups), rows()
    tables()
    salted()
    assert (through_the_orm(groups), rows()) == fast
    tables()
    salted()
    in_one_load(groups)
    assert rows() == fast[1]


HEADERS = [
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"),
    (b"x-consumer", b"acme"),
]
REQUESTS = st.lists(st.tuples(st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "DELETE"]), PATHS), max_size=10)


@ON_THE_DATABASE
@given(requests=REQUESTS)
def test_the_same_requests_are_answered_alike(tables: Callable[[], None], requests: list[tuple[str, str]]):
    tables()
    fast = asyncio.run(asked_of_the_fast_lane(requests)), counted()
    tables()
    client = Client(raise_request_exception=False)
    headers = {name.decode(): value.decode() for name, value in HEADERS}
    asked = [client.generic(method, "/api/", RAW_URI=path, headers=headers) for method, path in requests]
    slow = [(one.status_code, one.headers.get("Allow"), body(one.content)) for one in asked]
    assert (slow, counted()) == fast


PAGE = [
    *HEADERS,
    (b"referer", b"https://page.example/blog/"),
    (b"x-forwarded-for", b"192.0.2.7"),
]
QUERIES = [
    "path=/blog/",
    "path=%2Fblog%2F&referrer=https%3A%2F%2Fsearch.example%2Ffind%3Fq%3D1",
    "path=/a%2520b+c&referrer=",
    "path=/%C3%BC",
    "path=/ü",
    "path=/a&path=/a",
    "path=",
    "path=/a&other=1",
    "path=/" + "x" * 2048,
    "",
]
VIEWS = st.lists(
    st.tuples(st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT", "OPTIONS"]), st.sampled_from(QUERIES)), max_size=10
)


@ON_THE_DATABASE
@given(views=VIEWS)
def test_the_same_page_views_are_answered_alike(tables: Callable[[], None], views: list[tuple[str, str]]):
    tables()
    fast = asyncio.run(views_told_to_the_fast_lane(views, conninfo())), counted()
    tables()
    assert (views_told_to_django(views), counted()) == fast


@pytest.mark.django_db
def test_page_views_are_answered_alike_while_the_database_is_away():
    views = list(itertools.product(["GET", "HEAD", "POST", "PUT"], ["path=/blog/", "path="]))
    fast = asyncio.run(views_told_to_the_fast_lane(views, "host=127.0.0.1 port=1"))
    with connection.execute_wrapper(away):
        slow = views_told_to_django(views)
    assert [answer[:2] for answer in slow] == [answer[:2] for answer in fast]
    unavailable = [json.loads(text).keys() for status, _, text in [*fast, *slow] if status == 503]
    assert unavailable == [{"detail"}] * 4  # GET and POST, each in its own words


def away(*statement: Any) -> None:
    raise OperationalError("connection failed")


def views_told_to_django(views: list[tuple[str, str]]) -> list[Any]:
    client = Client(raise_request_exception=False)
    headers = {name.decode(): value.decode() for name, value in PAGE}
    asked = [client.generic(method, f"/pixel.gif?{query}", headers=headers) for method, query in views]
    return [
        said(method, one.status_code, one.headers, one.content) for (method, _), one in zip(views, asked, strict=True)
    ]


async def views_told_to_the_fast_lane(views: list[tuple[str, str]], database: str) -> list[Any]:
    recorder = Recorder(PostgresWriter(database))
    await recorder.start()
    counting = Counting(recorder, origins().of)
    answers: list[Any] = []
    for method, query in views:
        answering = counting.answer_of(method, b"/pixel.gif", query.encode(), PAGE, "127.0.0.1")
        assert answering
        status, headers, content = await answering
        answers.append(
            said(method, status, {name.decode().title(): value.decode() for name, value in headers}, content)
        )
    await recorder.close()
    return answers


SAID = (
    "Content-Type",
    "Cache-Control",
    "Access-Control-Allow-Origin",
    "Cross-Origin-Resource-Policy",
    "Allow",
    "Retry-After",
)


def said(method: str, status: int, headers: Any, body: bytes) -> tuple[int, dict[str, str | None], bytes]:
    """An answer as a client sees it: the web server leaves out the body of what HEAD asked for."""
    return status, {name: headers.get(name) for name in SAID}, b"" if method == "HEAD" else body


def counted() -> Any:
    """Counts by path, and by what is known of the hits."""
    known = ("method", "browser", "consumer", "referrer_url")
    hits = Hit.objects.order_by("dimensions_id").values_list(*[f"dimensions__{name}" for name in known])
    return dict(Counter.objects.values_list("path", "hits")), list(hits.annotate(Sum("hits")))


async def asked_of_the_fast_lane(requests: list[tuple[str, str]]) -> list[tuple[int, str | None, Any]]:
    recorder = Recorder(PostgresWriter(conninfo()))
    counting = Counting(recorder, origins().of)
    await recorder.start()
    answers = []
    for method, path in requests:
        answering = counting.answer_of(method, path.encode(), b"", HEADERS, "127.0.0.1")
        assert answering
        status, headers, content = await answering
        answers.append((status, dict(headers).get(b"allow", b"").decode() or None, body(content)))
    await recorder.close()
    return answers


def body(content: bytes) -> Any:
    return json.loads(content) if content else None
