"""All pages: their links, their size, and how often they ask the database."""

import gzip
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from counters.dimensions import NAMES
from counters.models import LoadTestRun
from tests.counting import hit
from tests.integration.dashboard.pages import PAGES, asks, links, text

pytestmark = pytest.mark.django_db


#: Links lead on without end: so deep they are followed, and so many of those that differ in values alone.
DEPTH = 2
FEW = 2
ELSEWHERE = ("/admin/", "/docs/")


def test_every_link_of_every_page_leads_somewhere(client, hits):
    hit("/api/%3Cb%3E/%E2%80%AE/100%25", "2026-03-03T09:00", referrer="evil.example", consumer="=<b>&\u202e")
    seen: dict[tuple[str, ...], int] = {}
    pages, tried = {"/": "/", **dict.fromkeys(PAGES, "/")}, 0
    for _ in range(DEPTH + 1):
        found: dict[str, str] = {}
        for address, where in pages.items():
            answer = client.get(address, follow=True)
            assert answer.status_code == 200, f"{address} on {where}"
            tried += 1
            if answer.streaming:
                answer.getvalue()
            elif answer.headers["Content-Type"].startswith("text/html") and not address.startswith(ELSEWHERE):
                found |= {urljoin(address, link).partition("#")[0]: address for link in links(answer.text)}
        pages = {link: where for link, where in found.items() if link.startswith("/") and _is_of_few(link, seen)}
    assert tried > 100


def _is_of_few(link: str, seen: dict[tuple[str, ...], int]) -> bool:
    """Whether few links to the same page with the same parameters have been followed; dimensions are all alike."""
    address = urlsplit(link)
    given = parse_qs(address.query, keep_blank_values=True)
    kind = (address.path, *sorted({"dimension" if name in NAMES else name for name in given}))
    seen[kind] = seen.get(kind, 0) + 1
    return seen[kind] <= FEW


@pytest.mark.parametrize(
    ("page", "most"),
    [("/", 40), ("/paths/", 12), ("/path/?path=/api/shop/a", 40), ("/tree/", 12), ("/by/country/", 12), ("/live/", 2)],
)
def test_a_page_asks_the_database_as_often_however_much_it_shows(client, hits, page, most):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            asks(client, page)
        return len(captured)

    few = queries()
    for n in range(60):
        hit(f"/api/{n}", "2026-03-03T09:00", country=f"{chr(65 + n % 26)}A", browser=f"B{n}")
    assert queries() <= few <= most


@pytest.mark.parametrize("length", [100, 640, 1920])
def test_a_page_of_many_intervals_and_long_paths_is_small_enough_for_a_phone(client, length):
    for n in range(12):
        path = f"/api/{n:02}/" + "%F0%9F%98%80" * (length // 12)
        hit(path, "2026-03-03T09:00", n + 1, referrer="r" * 250 + ".example", consumer="c" * 255)
    hit(path, "2026-02-16T09:00")
    for address in ("/?first=2026-02-16&interval=hour", f"/path/?path={quote(path)}&interval=hour&first=2026-02-16"):
        answer = client.get(address, headers={"Accept-Encoding": "gzip"})
        assert (answer.status_code, answer.headers["Content-Encoding"]) == (200, "gzip")
        page = gzip.decompress(answer.content).decode()
        assert page.count('<tr><th scope="row">') > 360
        assert len(answer.content) < 15_000
        # The links on a path's own page repeat it: of the longest, only what is sent is small.
        assert len(page) < 100_000 or length > 1000


def test_the_list_of_load_tests_says_where_it_ends(client):
    for _ in range(50):
        LoadTestRun.objects.create(url="http://127.0.0.1", requested=1, concurrency=1)
    assert "These are the last" not in text(asks(client, "/loadtests/"))
    LoadTestRun.objects.create(url="http://127.0.0.1", requested=1, concurrency=1)
    page = asks(client, "/loadtests/")
    assert page.count('<th scope="row">') == 50
    assert "These are the last 50; there have been more." in text(page)
