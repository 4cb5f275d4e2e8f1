"""The hits that pages show."""

from collections.abc import Callable, Iterator

import pytest

from tests.counting import hit
from tests.integration.dashboard.pages import NOW, hits_of_eleven_years


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
def old(tables: Callable[[], None]) -> Iterator[None]:
    """Hits of eleven years, for a test that adds to them."""
    with hits_of_eleven_years():
        yield
