"""The fast lane and the Django view leave the same rows for the same hits: the view is the specification."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Sum
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counters.ingest.app import count_hit
from counters.ingest.recorder import Recorder
from counters.ingest.writer import PostgresWriter
from counters.models import Counter, Hit, HourlyHits
from hitcounter.asgi import conninfo

START = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
PATHS = st.sampled_from(["/api/", "/api/a/", "/api/a", "/api/%2F", "/api/%2f", "/api/b/c/", '/api/"/', "/api/a//b"])
#: Groups of hits that come at once, and the minutes that pass before each.
GROUPS = st.lists(st.tuples(st.integers(0, 200), st.lists(PATHS, min_size=1, max_size=8)), max_size=8)
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
            Hit.objects.order_by("counter_id", "at").values_list("counter_id", "at", "method").annotate(Sum("hits"))
        ),
    }


def through_the_fast_lane(groups: list[tuple[int, list[str]]]) -> list[int]:
    clock = Clock()

    async def run() -> list[int]:
        recorder = Recorder(PostgresWriter(conninfo(), clock=clock))
        await recorder.start()
        places = []
        for minutes, paths in groups:
            clock.time += timedelta(minutes=minutes)
            places += await asyncio.gather(*[recorder.record(path) for path in paths])
        await recorder.close()
        return places

    return asyncio.run(run())


def through_the_orm(groups: list[tuple[int, list[str]]]) -> list[int]:
    at, places = START, []
    for minutes, paths in groups:
        at += timedelta(minutes=minutes)
        places += [Counter.objects.increment(path, at=at) for path in paths]
    return places


@ON_THE_DATABASE
@given(groups=GROUPS)
def test_the_same_hits_leave_the_same_rows(tables: Callable[[], None], groups: list[tuple[int, list[str]]]):
    tables()
    fast = through_the_fast_lane(groups), rows()
    tables()
    assert (through_the_orm(groups), rows()) == fast


REQUESTS = st.lists(st.tuples(st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "DELETE"]), PATHS), max_size=10)


@ON_THE_DATABASE
@given(requests=REQUESTS)
def test_the_same_requests_are_answered_alike(tables: Callable[[], None], requests: list[tuple[str, str]]):
    tables()
    fast = asyncio.run(asked_of_the_fast_lane(requests)), dict(Counter.objects.values_list("path", "hits"))
    tables()
    client = Client(raise_request_exception=False)
    asked = [client.generic(method, "/api/", RAW_URI=path) for method, path in requests]
    slow = [(one.status_code, one.headers.get("Allow"), body(one.content)) for one in asked]
    assert (slow, dict(Counter.objects.values_list("path", "hits"))) == fast


async def asked_of_the_fast_lane(requests: list[tuple[str, str]]) -> list[tuple[int, str | None, Any]]:
    recorder = Recorder(PostgresWriter(conninfo()))
    await recorder.start()
    answers = []
    for method, path in requests:
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        await count_hit(recorder, {"method": method, "raw_path": path.encode()}, send)
        headers = {name.decode().title(): value.decode() for name, value in sent[0]["headers"]}
        answers.append((sent[0]["status"], headers.get("Allow"), body(sent[1]["body"])))
    await recorder.close()
    return answers


def body(content: bytes) -> Any:
    return json.loads(content) if content else None
