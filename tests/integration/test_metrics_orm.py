"""What is counted through the ORM, as under WSGI, is measured as the fast lane's hits are; /metrics of one process."""

from collections.abc import Callable

import pytest
from django.db import OperationalError

from counters import metrics
from counters.hits import now
from counters.models import Verification

pytestmark = pytest.mark.django_db


@pytest.fixture
def grown() -> Callable[..., float]:
    """By how much a series has grown since the test began."""
    before = {(s.name, *sorted(s.labels.items())): s.value for m in metrics.REGISTRY.collect() for s in m.samples}

    def read(name: str, **labels: str) -> float:
        value = metrics.REGISTRY.get_sample_value(name, labels) or 0.0
        return value - before.get((name, *sorted(labels.items())), 0.0)

    return read


def test_hits_and_page_views_are_counted_and_head_is_not(client, grown):
    client.get("/api/a/")
    client.head("/api/a/")
    client.post("/api/a/")
    client.get("/pixel.gif?path=/a")
    client.post("/pixel.gif?path=/a")
    client.head("/pixel.gif?path=/a")
    assert grown("hitcounter_hits_total", via="request") == 3


def test_what_is_refused_is_counted_by_the_reason(client, grown):
    client.get("/api/" + "x" * 3000)
    client.get("/pixel.gif?path=a")
    client.get("/pixel.gif")
    assert grown("hitcounter_hits_total", via="request") == 0
    reasons = {"path_too_long": 1, "path_invalid": 1, "parameters_invalid": 1}
    assert {reason: grown("hitcounter_hits_refused_total", reason=reason) for reason in reasons} == reasons


def test_hits_that_are_sent_in_are_counted_by_how_many_they_stand_for(client, grown, settings):
    settings.HITCOUNTER_OPEN = True
    for _ in range(2):
        client.post("/hits/", [{"path": "/a", "n": 7}], "application/json", headers={"Idempotency-Key": "k"})
    client.post("/hits/", [{"path": "/a"}, {"path": "a"}], "application/json")
    assert grown("hitcounter_hits_total", via="batch") == 7
    assert grown("hitcounter_responses_total", view="hits", status="2xx") == 2
    assert grown("hitcounter_responses_total", view="hits", status="4xx") == 1


def told(client) -> dict[str, float]:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=x"})
    assert answer.status_code == 200
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_metrics_have_the_version_and_what_the_last_verification_found(client, settings):
    settings.HITCOUNTER_OPEN = True
    assert "hitcounter_books_differing" not in told(client)
    at = now()
    Verification.objects.create(at=at, checked=9, differing=2, rollups_differing=1)
    values = told(client)
    assert values[f'hitcounter_build_info{{version="{settings.HITCOUNTER_VERSION}"}}'] == 1
    assert values["hitcounter_books_differing"] == 3
    assert values["hitcounter_books_verified_timestamp_seconds"] == pytest.approx(at.timestamp(), abs=1)


def test_without_a_database_metrics_leave_out_what_only_it_knows(client, settings, monkeypatch):
    settings.HITCOUNTER_OPEN = True

    def unreachable() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr("counters.books.last_verification", unreachable)
    values = told(client)
    assert "hitcounter_books_differing" not in values
    assert 'hitcounter_hits_total{via="request"}' in values


def test_metrics_are_not_for_strangers_where_statistics_are_not(client, settings):
    settings.HITCOUNTER_OPEN = False
    assert client.get("/metrics").status_code == 401


def test_every_answer_of_a_view_has_the_requests_id(client):
    assert client.get("/healthz/live", headers={"X-Request-ID": "from-a.proxy_1"})["X-Request-ID"] == "from-a.proxy_1"
    drawn = {client.get(path, headers={"X-Request-ID": "a b"})["X-Request-ID"] for path in ("/healthz/live", "/x", "/")}
    assert len(drawn) == 3 and "a b" not in drawn
