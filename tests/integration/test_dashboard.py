"""The pages as a client without a browser sees them: who may look, what they say, and that no address breaks them."""

import gzip
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counters import maintenance
from counters.bounds import TookTooLong
from counters.dashboard.narrowing import NAMED as PERIODS
from counters.dimensions import NAMES, Dimensions, Origin
from counters.models import Counter, Hit, LoadTestRun, Verification
from tests.oracle import drop_days

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 3, 12, 30, tzinfo=UTC)
PATHS = {"/api/shop/a": 6, "/api/shop/b": 3, "/api/blog": 2, "/api/shop/": 1, "/elsewhere": 1}
#: Of each page, an address that shows something.
PAGES = ["/", "/paths/", "/path/?path=/api/shop/a", "/tree/", "/by/country/", "/live/", "/loadtests/"]
NARROWED = PAGES[:5]
#: Links lead on without end: so deep they are followed, and so many of those that differ in values alone.
DEPTH = 2
FEW = 2
ELSEWHERE = ("/admin/", "/docs/")


@pytest.fixture(autouse=True)
def _open(settings, monkeypatch):
    settings.HITCOUNTER_OPEN = True
    monkeypatch.setattr("counters.hits.now", lambda: NOW)


def hit(path: str, at: str, by: int = 1, visitor: bytes | None = None, **dimensions: Any) -> None:
    when = datetime.fromisoformat(at).replace(tzinfo=UTC)
    Hit.objects.make_days(when.date())
    Counter.objects.increment(path, by, at=when, origin=Origin(Dimensions(**{"method": "GET", **dimensions}), visitor))


@pytest.fixture
def hits(db) -> None:
    """Three days of March 2026."""
    hit("/api/shop/a", "2026-03-01T10:00", 2, b"ann", country="DE", browser="Firefox", status=200, referrer="a.example")
    hit("/api/shop/b", "2026-03-01T23:30", 3, b"bob", country="FR", browser="Chrome", status=404)
    hit("/api/blog", "2026-03-02T00:30", 2, country="", bot=True, route="/api/<slug>", device="Desktop", os="Linux")
    hit("/api/shop/a", "2026-03-03T09:00", 4, b"ann", country="DE", consumer="shop")
    hit("/api/shop/", "2026-03-03T09:30", 1, b"eve", country="DE")
    hit("/elsewhere", "2026-03-03T12:00", 1, b"eve", country="FR")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = {"a": "href", "img": "src", "link": "href", "script": "src"}
        self.found += [value for name, value in attributes if names.get(tag) == name and value]


def links(page: str) -> list[str]:
    parser = _Links()
    parser.feed(page)
    return parser.found


def text(page: str) -> str:
    """What can be read on a page, with single spaces."""
    without = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", page)
    return " ".join(unescape(without).split())


def rows(page: str) -> list[tuple[str, int]]:
    """The rows of the first list: name and hits."""
    found = re.findall(
        r"<bdi[^>]*>([^<]*)</bdi></a></th>(.*?)</tr>", page.partition("</table>")[0].rpartition("<tbody>")[2]
    )
    return [
        (unescape(name), int(re.findall(r"<td>([\d,]+)</td>", cells)[-1].replace(",", ""))) for name, cells in found
    ]


def asks(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, (address, text(answer.text))
    return answer.text


def with_query(page: str, query: str) -> str:
    return f"{page}{'&' if '?' in page else '?'}{query}"


# Who may look


@pytest.mark.parametrize("page", PAGES)
def test_where_the_service_is_not_open_strangers_are_led_to_log_in_and_back(client, settings, page):
    settings.HITCOUNTER_OPEN = False
    answer = client.get(page)
    assert answer.status_code == 302
    address = urlsplit(answer.headers["Location"])
    assert (address.path, parse_qs(address.query)) == ("/login/", {"next": [page]})


def test_a_stranger_is_not_told_whether_there_is_such_a_page(client, settings):
    settings.HITCOUNTER_OPEN = False
    assert client.get("/by/colour/").status_code == client.get("/by/country/?tz=Mars").status_code == 302


# What is answered to whom


@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_private_and_asked_for_again(client, page):
    answer = client.get(page)
    assert set(answer.headers["Cache-Control"].split(", ")) == {"private", "no-cache"}
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "'unsafe" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("page", PAGES)
def test_HEAD_is_GET_without_the_page(client, page):
    answer = client.head(page)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options", "trace"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_read_and_nothing_else(client, page, method):
    allowed = "GET, HEAD"
    if page == "/loadtests/":
        allowed += ", POST"
        if method == "post":
            return
    answer = getattr(client, method)(page)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize("page", ["/by/colour/", "/loadtests/00000000-0000-0000-0000-000000000000/"])
def test_a_page_that_there_is_not_is_a_page_that_says_so(client, page):
    answer = client.get(page)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such page." in text(answer.text)


def test_a_form_without_its_token_is_refused_with_a_page(client):
    answer = Client(enforce_csrf_checks=True).post("/loadtests/", {"requests": "1"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "The form was not taken" in text(answer.text)
    assert "Books" not in text(answer.text)


def test_a_link_from_another_site_finds_one_who_is_logged_in(client, settings, django_user_model):
    django_user_model.objects.create_superuser("ann", password="secret")
    answer = client.post("/login/", {"username": "ann", "password": "secret", "next": "/"})
    assert answer.status_code == 302
    assert answer.cookies[settings.SESSION_COOKIE_NAME]["samesite"] == "Lax"


@pytest.mark.parametrize("page", NARROWED)
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("colour=red", "colour"),
        ("tz=Mars/Olympus", "tz"),
        ("tz=%00", "tz"),
        ("tz=Europe/Berlin&tz=UTC", "tz"),
        ("first=2026-03-02&last=2026-03-01", "last"),
        ("last=9999-12-31", "last"),
        ("first=2026-02-30", "first"),
        ("country=D%00E", "country"),
        ("referrer=" + "x" * 5000, "referrer"),
        ("status=1e3", "status"),
        ("bot=maybe", "bot"),
    ],
)
def test_an_address_that_asks_for_what_there_is_not_is_told_which_part_of_it(client, page, query, named):
    answer = client.get(with_query(page, query))
    assert answer.status_code == 400
    assert f"<code>{named}</code>" in answer.text


@pytest.mark.parametrize("page", ["/paths/", "/tree/", "/by/country/"])
@pytest.mark.parametrize("cursor", ["rubbish", "", "AAAA", "W10=", "%00", "%FF%FE", "x" * 9000, "WzEsICJcdWQ4MDAiXQ=="])
def test_a_cursor_that_no_link_has_is_refused_by_name(client, page, cursor):
    answer = client.get(f"{page}?cursor={cursor}")
    assert answer.status_code == 400
    assert "<code>cursor</code>" in answer.text


@pytest.mark.parametrize(
    "query", ["", "path=", "path=api", "path=/%20", "path=/%00", "path=/%C3%A9", "path=/" + "a" * 2048]
)
def test_a_path_that_cannot_be_counted_has_no_page(client, query):
    answer = client.get(f"/path/?{query}")
    assert answer.status_code == 400
    assert "<code>path</code>" in answer.text


def test_what_is_refused_is_shown_as_text(client):
    page = client.get("/?%3Cscript%3Ealert(1)%3C/script%3E=1").text
    assert "<code>&lt;script&gt;alert(1)&lt;/script&gt;</code>" in page
    assert page.count("<script") == 1


# What is not kept any more


def keep(hits_days: int = 30, hours_days: int = 400) -> None:
    """What housekeeping leaves of the hits that a test has made."""
    list(maintenance.maintain(NOW, keep_hits_days=hits_days, keep_hours_days=hours_days))


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


WHOLE_DAYS = "it is shown by days of UTC."
HALF_HOUR, FULL_HOUR = "Asia/Kolkata", "Europe/Berlin"


@pytest.mark.parametrize(
    ("address", "by_whole_days"),
    [
        ("/?period=all&tz={}", {FULL_HOUR, HALF_HOUR}),
        ("/?period=12mo&tz={}", {HALF_HOUR}),
        ("/?period=30d&tz={}", set()),
        ("/path/?path=/api/shop/a&period=12mo&tz={}", {FULL_HOUR, HALF_HOUR}),
        ("/path/?path=/api/shop/a&period=all&tz={}", {FULL_HOUR, HALF_HOUR}),
        ("/?first=2015-05-18&last=2015-05-20&tz={}", {FULL_HOUR, HALF_HOUR}),
        ("/?first=2015-05-18&last=2015-05-19&tz={}", {"UTC", FULL_HOUR, HALF_HOUR}),  # by the hour
        ("/paths/?first=2015-05-18&last=2015-05-19&tz={}", {FULL_HOUR, HALF_HOUR}),
        ("/by/country/?first=2015-05-18&last=2015-05-18&tz={}", {FULL_HOUR, HALF_HOUR}),
        ("/tree/?first=2015-05-18&last=2015-05-18&tz={}", {FULL_HOUR, HALF_HOUR}),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", FULL_HOUR, HALF_HOUR])
def test_what_is_kept_by_whole_days_alone_is_shown_by_them_and_says_so(client, old, address, by_whole_days, zone):
    page = asks(client, address.format(zone))
    assert (WHOLE_DAYS in text(page)) == (zone in by_whole_days)
    assert "No hits" not in text(page)
    # The reader's zone remains that of forms and links.
    assert f'name="tz" value="{zone}"' in page


def test_by_whole_days_the_figures_are_those_of_the_days_of_UTC(client, old):
    here, elsewhere = (
        text(asks(client, f"/?first=2015-05-18&last=2015-05-18&tz={zone}")) for zone in ("UTC", HALF_HOUR)
    )
    assert "Hits 6" in here
    assert "Hits 6" in elsewhere
    assert "Visitors 2" in elsewhere


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", FULL_HOUR, HALF_HOUR])
@pytest.mark.parametrize(
    "address",
    [
        "/?consumer=acme&country=DE&period=all",
        "/?prefix=/api/&period=12mo",
        "/by/referrer_url/?period=all",
        "/by/country/?path=/api/shop/a&consumer=acme&period=all",
        "/tree/?consumer=acme",
        "/path/?path=/api/shop/a&country=DE&consumer=acme&first=2026-01-01&last=2026-03-02",
    ],
)
def test_what_is_not_kept_is_not_guessed_and_leads_to_what_is(client, old, address, zone):
    answer = client.get(with_query(address, f"tz={zone}"))
    assert answer.status_code == 422
    said = text(answer.text)
    assert "Single hits are kept since 2026-01-" in said
    # With all that can be chosen, and each chip of what it is narrowed to.
    assert 'class="periods"' in answer.text
    assert answer.text.count('aria-label="Without ') == len(
        re.findall("consumer=|country=|[?]prefix=|by.*[?]path=", address)
    )
    [link] = re.findall(r'<a href="([^"]+)">The same since \d+ Jan 2026</a>', answer.text)
    assert "No hits" not in text(asks(client, unescape(link)))


def test_no_link_of_an_overview_of_all_times_is_a_dead_end(client, old):
    ended = 0
    for period in ("all", "12mo"):
        for zone in ("UTC", FULL_HOUR):
            for link in links(asks(client, f"/?period={period}&tz={zone}")):
                if not link.startswith(("/?", "/path/", "/paths/", "/tree/", "/by/")):
                    continue
                answer = client.get(link)
                if answer.status_code == 422:
                    ended += 1
                    [since] = re.findall(r'<a href="([^"]+)">The same since', answer.text)
                    answer = client.get(unescape(since))
                assert answer.status_code == 200, link
    assert ended


def test_a_tree_is_of_the_period_of_the_page_that_leads_to_it(client, old):
    [tree] = [link for link in links(asks(client, "/?consumer=acme")) if link.startswith("/tree/")]
    page = asks(client, tree)
    assert rows(page) == [("/api/", 8)]
    assert ">30 days</a>" in page.partition('aria-current="true"')[2][:12]


def test_a_database_that_is_away_is_told_in_a_sentence(client, monkeypatch, caplog):
    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("connection refused")

    monkeypatch.setattr("counters.stats.overview", away)
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "The database cannot be reached" in text(answer.text)
    assert "connection refused" in caplog.text
    assert "connection refused" not in answer.text


def test_a_database_that_cannot_tell_who_looks_is_told_as_a_page_too(client, settings, monkeypatch):
    def away(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError("connection refused")

    settings.HITCOUNTER_OPEN = False
    monkeypatch.setattr("counters.access.key_of", away)
    answer = client.get("/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert "The database cannot be reached" in text(answer.text)


def test_a_search_that_takes_too_long_says_what_does_not(client, monkeypatch):
    def long(*args: Any, **kwargs: Any) -> Any:
        raise TookTooLong

    monkeypatch.setattr("counters.stats.search", long)
    answer = client.get("/paths/?search=a")
    assert answer.status_code == 503
    assert "slash" in text(answer.text)


# What they say


def test_the_overview_says_what_the_statistics_say(client, hits):
    page = asks(client, "/?first=2026-03-01&last=2026-03-03")
    assert "Hits 13" in text(page)
    assert "Visitors 4" in text(page)
    assert rows(page.partition('id="panel-path"')[2]) == [
        ("/api/shop/a", 6), ("/api/shop/b", 3), ("/api/blog", 2), ("/api/shop/", 1), ("/elsewhere", 1)
    ]  # fmt: skip
    assert rows(page.partition('id="panel-country"')[2]) == [("DE", 7), ("FR", 4), ("(unknown)", 2)]


def test_what_a_page_is_narrowed_to_it_says_and_lets_go_of(client, hits):
    page = asks(client, "/?period=7d&country=FR&prefix=/api/shop/")
    assert "Hits 3" in text(page)
    chips = re.findall(r"<li>(\w[\w ]*) <b><bdi>(.*?)</bdi></b>\s*<a href=\"(.*?)\"", page)
    assert [(name, value) for name, value, _ in chips] == [("Begins with", "/api/shop/"), ("Country", "FR")]
    without_prefix, without_country = (unescape(link) for _, _, link in chips)
    assert "Hits 4" in text(asks(client, without_prefix))
    assert "Hits 10" in text(asks(client, without_country))


def test_the_unknown_is_a_value_that_a_page_can_be_narrowed_to(client, hits):
    page = asks(client, "/?period=7d&country=")
    assert "Hits 2" in text(page)
    assert "Country (unknown) ×" in text(page)


@pytest.mark.parametrize("page", NARROWED)
def test_a_value_that_never_came_is_no_error(client, hits, page):
    assert "No hits" in text(asks(client, with_query(page, "country=XX&browser=%3Cb%3E")))


def test_a_change_is_told_in_percent_of_the_period_before(client, hits):
    hit("/api/a", "2026-03-02T08:00", 2)  # the same time of the day before has 4, later ones do not count
    hit("/api/a", "2026-03-02T12:31", 90)
    page = text(asks(client, "/?period=today"))
    assert "▲ 50.0% from 4 in the period before" in page
    assert "none in the period before" in text(asks(client, "/?first=2026-03-01&last=2026-03-01"))
    assert "in the period before" not in text(asks(client, "/?period=all"))


def compared(page: str) -> set[str]:
    return set(re.findall(r'<dd class="change" title="([^"]*)"', page))


def test_what_is_compared_with_is_told(client, hits):
    assert compared(asks(client, "/?period=today")) == {"before: 2 Mar 2026, 00:00 to 2 Mar 2026, 12:30"}
    page = asks(client, "/?period=30d&tz=Asia/Kolkata")
    assert compared(page) == {"before: 3 Jan 2026, 00:00 to 1 Feb 2026, 18:00"}
    assert "Compared with the period before up to 18:00, the full hour." in text(page)
    over = asks(client, "/?first=2026-03-01&last=2026-03-02")
    assert compared(over) == {"before: 27 Feb 2026, 00:00 to 1 Mar 2026, 00:00"}
    assert "the full hour" not in text(over)
    assert "the full hour" not in text(asks(client, "/?period=7d"))


def test_a_week_is_compared_to_the_minute_where_single_hits_are_kept_else_to_the_full_hour(client, old):
    hit("/api/shop/a", "2026-02-24T12:29", 3)
    hit("/api/shop/a", "2026-02-24T12:31", 90)
    hit("/api/shop/a", "2026-02-24T11:59", 1)
    page = asks(client, "/?period=7d")
    assert "▲ 50.0% from 4 in the period before" in text(page)
    assert compared(page) == {"before: 18 Feb 2026, 00:00 to 24 Feb 2026, 12:30"}
    keep(hits_days=5)
    page = asks(client, "/?period=7d")
    assert "▲ 500.0% from 1 in the period before" in text(page)
    assert compared(page) == {"before: 18 Feb 2026, 00:00 to 24 Feb 2026, 12:00"}
    assert "up to 12:00, the full hour." in text(page)


def test_where_too_little_is_kept_to_compare_with_the_page_says_so(client, old):
    # Midnight is no full hour of UTC there, and single hits are not kept of the first days.
    hit("/api/shop/a", "2026-01-02T18:00")
    hit("/api/shop/a", "2026-01-02T19:00")
    keep()
    page = asks(client, "/?period=30d&tz=Asia/Kolkata")
    assert "too little is kept to compare" in text(page)
    assert not compared(page)
    assert "too little is kept" not in text(asks(client, "/?period=30d"))


# Intervals, links


@pytest.mark.parametrize("page", ["/?", "/path/?path=/api/shop/a&"])
@pytest.mark.parametrize(
    ("query", "most"),
    [
        ("first=2016-01-01&interval=hour", 72),
        ("first=1000-01-01", 3),
        ("first=1000-01-01&last=9998-12-31&interval=hour", 72),
        ("first=2026-03-02&last=2099-12-31&interval=hour", 48),
        ("period=12mo&interval=hour", 72),
        ("first=2026-03-03&last=2026-03-03", 13),
    ],
)
def test_a_series_is_drawn_from_the_first_day_with_hits_until_now(client, hits, page, query, most):
    found = asks(client, page + query)
    assert 0 < found.partition("data-chart")[2].partition("</figure>")[0].count('<tr><th scope="row">') <= most


def test_figures_are_those_of_the_period_however_it_is_drawn(client, hits):
    for query in (
        "first=1000-01-01&last=2099-12-31",
        "period=all",
        "first=2026-03-01",
        "last=2026-03-03&tz=Asia/Tokyo",
    ):
        assert "Hits 13" in text(asks(client, f"/?{query}"))
    assert "No hits in this period." in text(asks(client, "/?first=1000-01-01&last=2026-02-28"))
    assert "No hits in this period." in text(asks(client, "/?first=2026-03-04&last=2099-01-01"))


@pytest.mark.parametrize("page", NARROWED)
def test_what_decorates_a_link_that_was_shared_asks_for_nothing(client, hits, page):
    found = asks(client, with_query(page, "utm_source=a&utm_source=b&fbclid=1&gclid=2&msclkid=3"))
    assert not re.search("utm_|clid", found)


def test_an_export_of_the_time_of_clocks_with_seconds_is_one(client, hits):
    [csv] = [link for link in links(asks(client, "/paths/?first=1880-01-01&tz=Europe/Berlin")) if "format=csv" in link]
    answer = client.get(csv)
    assert answer.status_code == 200
    assert b"/api/shop/a,6" in answer.getvalue()


def test_who_is_logged_in_stays_so_when_following_a_link_on_another_site(client, django_user_model):
    django_user_model.objects.create_user("ann", password="secret", is_staff=True)
    answer = client.post("/admin/login/", {"username": "ann", "password": "secret"})
    assert answer.cookies["hitcounter_session"]["samesite"] == "Lax"


def test_less_is_told_as_less(client, hits):
    assert "▼ 60.0% from 5 in the period before" in text(asks(client, "/?first=2026-03-02&last=2026-03-02"))


def test_paths_are_listed_and_exported_alike(client, hits):
    page = asks(client, "/paths/?period=7d")
    assert rows(page) == sorted(PATHS.items(), key=lambda row: (-row[1], row[0]))
    [csv] = [link for link in links(page) if "format=csv" in link]
    lines = b"".join(client.get(csv).streaming_content).decode().splitlines()
    assert lines == ["path,count", *(f"{path},{count}" for path, count in rows(page))]


def test_a_long_list_goes_on_page_by_page_with_each_path_once(client):
    for n in range(205):
        hit(f"/api/{n:03}", "2026-03-03T09:00", 1 + n % 3)
    found, address = [], "/paths/?period=today"
    while address:
        page = asks(client, address)
        found += rows(page)
        following = re.search(r'<a href="([^"]+)" rel="next"', page)
        address = unescape(following[1]) if following else ""
    assert len(found) == len(dict(found)) == 205
    assert [count for _, count in found] == sorted([count for _, count in found], reverse=True)


def test_a_search_finds_a_path_as_it_is_read_and_as_it_is_sent(client):
    hit("/api/caf%C3%A9/", "2026-03-03T09:00", 3)
    for search in ("café", "caf%C3%A9", " é "):
        assert rows(asks(client, f"/paths/?search={quote(search)}")) == [("/api/café/", 3)]
    assert "No path has this in it." in text(asks(client, "/paths/?search=tea"))
    answer = client.get("/paths/?search=/api/caf")
    assert answer.headers["Location"] == "/paths/?prefix=%2Fapi%2Fcaf&period=all"
    assert rows(asks(client, answer.headers["Location"])) == [("/api/café/", 3)]


def test_an_empty_search_is_the_list(client):
    for search in ("", "%20"):
        assert client.get(f"/paths/?search={search}").headers["Location"] == "/paths/"


def test_a_search_finds_all_that_is_shown_alike(client):
    sent = ["/api/%3Cb%3E", "/api/%3cb%3e", "/api/<b>"]
    for n, path in enumerate(sent):
        hit(path, "2026-03-03T09:00", 3 - n)
    found = asks(client, "/paths/?search=%3Cb%3E")
    assert [parse_qs(urlsplit(link).query)["path"][0] for link in links(found) if link.startswith("/path/")] == sent
    hit("/caf%c3%a9", "2026-03-03T09:00")
    answer = client.get("/paths/", {"search": "/café"})
    assert rows(asks(client, answer.headers["Location"])) == [("/café", 1)]


def test_a_search_says_where_it_ends(client):
    for n in range(100):
        hit(f"/api/{n}", "2026-03-03T09:00")
    assert "These are the first" not in text(asks(client, "/paths/?search=api"))
    hit("/api/100", "2026-03-03T09:00")
    page = asks(client, "/paths/?search=api")
    assert len(rows(page)) == 100
    assert "These are the first 100; there are more." in text(page)


def test_the_list_of_load_tests_says_where_it_ends(client):
    for _ in range(50):
        LoadTestRun.objects.create(url="http://127.0.0.1", requested=1, concurrency=1)
    assert "These are the last" not in text(asks(client, "/loadtests/"))
    LoadTestRun.objects.create(url="http://127.0.0.1", requested=1, concurrency=1)
    page = asks(client, "/loadtests/")
    assert page.count('<th scope="row">') == 50
    assert "These are the last 50; there have been more." in text(page)


def test_a_path_of_slashes_has_a_page_of_ordinary_size(client):
    path = "/api/" + "/" * 2043
    hit(path, "2026-03-03T09:00")
    page = asks(client, f"/path/?path={path}")
    assert len(page) < 300_000
    crumbs = page.partition("<h1")[2].partition("</h1>")[0]
    assert crumbs.count("<a ") == 16
    assert "…" in crumbs
    assert 'prefix=%2Fapi%2F"' in crumbs
    assert len(asks(client, f"/tree/?prefix={path}")) < 300_000


def test_every_parent_of_an_ordinary_path_leads_back(client):
    parents = [f"/{'s/' * n}" for n in range(16)]
    crumbs = asks(client, f"/path/?path={parents[-1]}x").partition("<h1")[2].partition("</h1>")[0]
    assert [parse_qs(urlsplit(link).query)["prefix"][0] for link in links(crumbs)] == parents
    assert "…" not in crumbs


@pytest.mark.parametrize("path", ["/", "/api/hello/world/"])
def test_the_tree_reaches_a_path_that_ends_in_a_slash(client, path):
    hit(path, "2026-03-03T09:00")
    found = [urlsplit(link) for link in links(asks(client, f"/tree/?prefix={path}"))]
    assert path in [parse_qs(link.query)["path"][0] for link in found if link.path == "/path/"]


def test_a_bar_is_as_long_in_a_language_of_decimal_commas(client, hits):
    with translation.override("de"):
        page = asks(client, "/?period=7d")
    assert re.search(r'<rect width="\d+\.\d+%"', page)
    assert not re.search(r'(width|x|viewBox|max|value)="[\d ]*\d,\d', page)


def test_what_is_unknown_looks_other_than_a_value_of_that_name(client, hits):
    hit("/api/a", "2026-03-03T09:00", consumer="(unknown)")
    hit("/api/a", "2026-03-03T09:00", consumer="   ")
    panel = asks(client, "/?period=7d").partition('id="panel-consumer"')[2].partition("</table>")[0]
    assert '<bdi class="unknown">(unknown)</bdi>' in panel
    assert "<bdi>(unknown)</bdi>" in panel
    assert r"<bdi>\x20\x20\x20</bdi>" in panel


def test_a_path_that_reads_otherwise_than_it_is_sent_tells_both(client):
    hit("/api/caf%C3%A9", "2026-03-03T09:00")
    hit("/api/plain", "2026-03-03T09:00")
    page = asks(client, "/paths/")
    assert 'title="/api/caf%C3%A9"' in page
    assert 'title="/api/plain"' not in page


def test_the_books_tell_when_they_were_verified(client, hits):
    Verification.objects.create(at=NOW, checked=5, differing=0, rollups_differing=0)
    at = re.search(r'<time datetime="([^"]+)" title="3 Mar 2026, 12:30:00 UTC">', asks(client, "/"))
    assert at
    assert datetime.fromisoformat(at[1]) == NOW


def test_the_tree_leads_down_to_each_path_and_up_again(client, hits):
    assert rows(asks(client, "/tree/")) == [("/api/", 12), ("/elsewhere", 1)]
    page = asks(client, "/tree/?prefix=/api/shop/")
    assert rows(page) == [("/api/shop/a", 6), ("/api/shop/b", 3), ("/api/shop/", 1)]
    to_paths = {parse_qs(urlsplit(link).query)["path"][0] for link in links(page) if link.startswith("/path/?")}
    assert to_paths == {"/api/shop/a", "/api/shop/b", "/api/shop/"}
    above = {parse_qs(urlsplit(link).query)["prefix"][0] for link in links(page) if link.startswith("/tree/?prefix=")}
    assert above >= {"/", "/api/"}


def test_the_page_of_a_path_has_all_about_it(client, hits):
    page = asks(client, "/path/?path=/api/shop/a&period=7d")
    said = text(page)
    for fact in ("Hits of all times 6", "Place 1 of 5", "First hit 1 Mar 2026, 10:00", "Last hit 3 Mar 2026, 09:00"):
        assert fact in said
    assert rows(page.partition('id="panel-country"')[2]) == [("DE", 6)]


def test_times_are_those_of_the_zone(client, hits):
    assert "First hit 1 Mar 2026, 19:00" in text(asks(client, "/path/?path=/api/shop/a&tz=Asia/Tokyo"))


def test_a_path_that_was_never_counted_says_so(client):
    assert "This path has not been counted." in text(asks(client, "/path/?path=/api/nowhere"))


def test_a_path_that_no_address_can_name_has_no_badge_and_is_counted_by_a_report(client):
    page = asks(client, "/path/?path=/api/a/../b%3Fc%2522")
    assert "/badge" not in page
    assert """curl http://testserver/hits/ --json '[{"path": "/api/a/../b?c%22"}]'""" in text(page)
    page = asks(client, "/path/?path=/api/o'neill")
    assert """curl 'http://testserver/api/o'"'"'neill'""" in text(page)
    assert "http://testserver/badge/api/o'neill.svg" in text(page)


def test_where_the_service_is_not_open_a_report_asks_for_a_key(admin_client, settings):
    settings.HITCOUNTER_OPEN = False
    page = text(asks(admin_client, "/path/?path=/elsewhere"))
    assert 'curl -H "Authorization: Bearer $KEY" http://testserver/hits/ --json' in page
    assert "curl http://testserver/api/a" in text(asks(admin_client, "/path/?path=/api/a"))


@pytest.mark.parametrize("path", ['/api/x"onerror="alert(1)"y/', "/api/a#b", "/api/a?b", "/api/../b"])
def test_what_is_to_be_copied_holds_no_markup_and_no_other_path(client, path):
    page = asks(client, f"/path/?path={quote(path, safe='')}")
    assert "<img" not in page
    assert 'id="badge"' not in page


def test_where_nothing_has_been_counted_there_is_a_line_to_copy(client):
    page = asks(client, "/")
    assert "curl http://testserver/api/hello/world/" in text(page)
    assert 'data-copy="example"' in page


def test_a_chart_names_itself_without_a_tooltip_over_its_figures(client, hits):
    body = asks(client, "/").partition("<body")[2]
    assert 'aria-label="Hits and visitors over' in body
    assert "<title" not in body


def test_an_empty_period_is_not_taken_for_an_empty_service(client, hits):
    page = text(asks(client, "/?first=2020-01-01&last=2020-01-02"))
    assert "No hits in this period." in page
    assert "curl" not in page


# All of them


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


TEXTS = st.text(max_size=30) | st.sampled_from(
    ["", "/", "/api/", "\x00", "\u202e", "2026-03-01", "9999-12-31", "0001-01-01", "UTC", "Europe/Berlin", "1" * 400]
)
QUERIES = st.dictionaries(
    st.sampled_from(
        ["path", "prefix", "tz", "first", "last", "period", "interval", "cursor", "search", "country", "status", "bot"]
    )
    | st.text(max_size=5),
    TEXTS | st.sampled_from([*PERIODS, "hour", "day", "week", "month", "true", "200"]),
    max_size=5,
)
BYTES = st.binary(max_size=40).map(quote)


def encoded(query: dict[str, str]) -> str:
    """As a query string; half a surrogate pair as its bytes."""
    return "&".join(
        f"{quote(name, errors='surrogatepass')}={quote(value, errors='surrogatepass')}" for name, value in query.items()
    )


@given(st.sampled_from([*PAGES, "/by/bot/", "/path/", "/by/referrer_url/"]), QUERIES.map(encoded) | BYTES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_address_breaks_a_page(client, hits, page, query):
    answer = client.get(with_query(page, query))
    assert answer.status_code in (200, 302, 400, 422), (page, query)
