"""The hits that pages show."""

from collections.abc import Iterator

import pytest

from tests.counting import hit
from tests.integration.dashboard.pages import NOW, keep
from tests.oracle import drop_days


@pytest.fixture(autouse=True)
def _open(settings, monkeypatch):
    settings.HITCOUNTER_OPEN = True
    monkeypatch.setattr("counters.hits.now", lambda: NOW)


@pytest.fixture
def hits(db) -> None:
    """Three days of March 2026."""
    hit("/api/shop/a", "2026-03-01T10:00", 2, b"ann", country="DE", browser="Firefox", status=200, referrer="a.example")
    hit("/api/shop/b", "2026-03-01T23:30", 3, b"bob", country="FR", browser="Chrome", status=404)
    hit("/api/blog", "2026-03-02T00:30", 2, country="", bot=True, route="/api/<slug>", device="Desktop", os="Linux")
    hit("/api/shop/a", "2026-03-03T09:00", 4, b"ann", country="DE", consumer="shop")
    hit("/api/shop/", "2026-03-03T09:30", 1, b"eve", country="DE")
    hit("/elsewhere", "2026-03-03T12:00", 1, b"eve", country="FR")


@pytest.fixture
def old(transactional_db, tables) -> Iterator[None]:
    """Hits of eleven years, of which those of the last 30 days are kept one by one, and hours of 400 days."""
    drop_days()
    for day in ("2015-05-18", "2024-12-31", "2025-11-01", "2026-01-15", "2026-02-10", "2026-03-02"):
        for hour in (10, 22):
            hit("/api/shop/a", f"{day}T{hour}:15", 2, b"ann", country="DE", consumer="acme")
            hit("/api/shop/b", f"{day}T{hour}:45", 1, b"bob", country="FR")
    keep()
    yield
    drop_days()
