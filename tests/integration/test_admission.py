"""Bounds on new paths for what is counted through Django, and what tells the writer which paths are new."""

import asyncio
import json
from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.test import Client

from counters import admission, metrics
from counters.books import Verdict, verify
from counters.models import Counter
from hitcounter import housekeeping
from hitcounter.housekeeping import Housekeeping
from tests.integration.test_writer import plain, with_writer

pytestmark = pytest.mark.usefixtures("tables")

OTHER = "/api/(other)"


@pytest.fixture
def bounded(settings) -> Iterator[Callable[..., None]]:
    """Sets how many new paths a prefix may gain in a minute, and how many it may have."""

    def bound(per_minute: int = 0, in_total: int = 0) -> None:
        settings.HITCOUNTER_MAX_NEW_PATHS_PER_MINUTE, settings.HITCOUNTER_MAX_PATHS = per_minute, in_total
        settings.HITCOUNTER_WORKERS = 1
        admission.new_paths.cache_clear()

    yield bound
    admission.new_paths.cache_clear()


def counts() -> dict[str, int]:
    return dict(Counter.objects.values_list("path", "hits"))


def told() -> float:
    """Hits that metrics tell of, of too many new paths."""
    return metrics.REGISTRY.get_sample_value("hitcounter_hits_other_total") or 0


def reported(*paths: str) -> None:
    answer = Client().post("/hits/", json.dumps([{"path": path, "n": 2} for path in paths]), "application/json")
    assert answer.json() == {"counted": 2 * len(paths)}


def test_the_writer_tells_which_paths_have_a_counter():
    async def work(writer):
        await writer.write(1, plain([("/api/a", 1), ("/api/b", 1)]))
        paths = ["/api/x", "/api/b", "/api/a", "/api/A"]
        return await writer.known(paths, ["/api/", "/ap/", "/b/"]), await writer.known(paths[:2], [])

    known = {"/api/a", "/api/b"}
    assert with_writer(work) == ((known, {"/api/"}), ({"/api/b"}, set()))


def test_the_view_counts_hits_of_too_many_new_paths_as_others_and_says_so(client, bounded):
    bounded(per_minute=2)
    answers = [client.get(f"/api/{name}").json() for name in "abcac"]
    assert answers == [
        {"path": "/api/a", "count": 1},
        {"path": "/api/b", "count": 1},
        {"path": OTHER, "count": 1},
        {"path": "/api/a", "count": 2},
        {"path": OTHER, "count": 2},
    ]


def test_the_pixel_does_as_well(client, bounded):
    bounded(per_minute=1)
    before = told()
    for path in ("/site/a", "/site/b", "/site/a"):
        assert client.get("/pixel.gif", {"path": path}).status_code == 200
    assert counts() == {"/site/a": 2, "/site/(other)": 1}
    assert told() - before == 1


def test_reported_hits_of_too_many_new_paths_are_counted_as_others(bounded):
    bounded(per_minute=2)
    before = told()
    reported("/api/a", "/api/b", "/api/c", "/shop/x", "/api/d")
    reported("/api/a", "/api/e", "/shop/y")
    assert counts() == {"/api/a": 4, "/api/b": 2, "/shop/x": 2, "/shop/y": 2, OTHER: 6}
    assert verify(lambda _: None) == Verdict(5, 0, 0)
    assert told() - before == 6


def test_a_prefix_that_is_full_has_its_new_paths_counted_as_others(client, bounded):
    bounded(in_total=3)
    for name in "ab":
        Counter.objects.increment(f"/api/{name}")
    admission.count_paths()
    for name in "acde":
        client.get(f"/api/{name}")
    assert counts() == {"/api/a": 2, "/api/b": 1, "/api/c": 1, OTHER: 2}
    Counter.objects.filter(path__in=["/api/b", "/api/c", OTHER]).delete()
    admission.count_paths()
    client.get("/api/z")
    assert "/api/z" in counts()


def test_paths_without_a_second_slash_are_a_prefix_of_their_own(client, bounded):
    bounded(in_total=2)
    for path in ("/api/a", "/api/b", "/api/c", "/robots.txt"):
        Counter.objects.increment(path)
    reported("/favicon.ico")
    admission.count_paths()
    reported("/humans.txt")
    assert counts()["/(other)"] == 2
    assert "/humans.txt" not in counts()


def test_without_bounds_the_database_is_not_asked_which_paths_are_new(bounded, django_assert_num_queries):
    bounded()
    with django_assert_num_queries(0):
        assert admission.others(["/api/a"]) == {}
        admission.count_paths()


async def test_the_service_looks_how_many_paths_there_are(monkeypatch, bounded):
    bounded(in_total=3)
    looked = []
    monkeypatch.setattr(housekeeping, "count_paths", lambda: looked.append(True))
    keeping = Housekeeping()
    keeping.start()
    while not looked:
        await asyncio.sleep(0.01)
    await keeping.close()


def test_the_view_tells_a_hit_that_the_database_refuses(client):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE counters_counter ADD CONSTRAINT no_poison CHECK (path <> '/api/poison')")
        try:
            answer = client.get("/api/poison")
        finally:
            cursor.execute("ALTER TABLE counters_counter DROP CONSTRAINT no_poison")
    assert (answer.status_code, answer.json()) == (400, {"detail": "The database refused this hit's values."})
    assert counts() == {}
