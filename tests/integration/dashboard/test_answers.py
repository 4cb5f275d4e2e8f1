"""What is answered to whatever is asked of a page, and that no address breaks one."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from django.db import OperationalError
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counters.bounds import TookTooLong
from counters.dashboard.narrowing import NAMED as PERIODS
from tests.integration.dashboard.pages import NARROWED, PAGES, asks, text, with_query

pytestmark = pytest.mark.django_db


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


@pytest.mark.parametrize("page", NARROWED)
def test_what_decorates_a_link_that_was_shared_asks_for_nothing(client, hits, page):
    found = asks(client, with_query(page, "utm_source=a&utm_source=b&fbclid=1&gclid=2&msclkid=3"))
    assert not re.search("utm_|clid", found)


@pytest.mark.parametrize("page", NARROWED)
def test_a_value_that_never_came_is_no_error(client, hits, page):
    assert "No hits" in text(asks(client, with_query(page, "country=XX&browser=%3Cb%3E")))


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
