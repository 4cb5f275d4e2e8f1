"""Paths: in lists, found by a search, in the tree, and each on a page of its own."""

import re
from html import unescape
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.counting import hit
from tests.integration.dashboard.pages import asks, links, rows, text

pytestmark = pytest.mark.django_db


PATHS = {"/api/shop/a": 6, "/api/shop/b": 3, "/api/blog": 2, "/api/shop/": 1, "/elsewhere": 1}


def test_paths_are_listed_and_exported_alike(client, hits):
    page = asks(client, "/paths/?period=7d")
    assert rows(page) == sorted(PATHS.items(), key=lambda row: (-row[1], row[0]))
    [csv] = [link for link in links(page) if "format=csv" in link]
    lines = b"".join(client.get(csv).streaming_content).decode().splitlines()
    assert lines == ["path,count", *(f"{path},{count}" for path, count in rows(page))]


def test_an_export_of_the_time_of_clocks_with_seconds_is_one(client, hits):
    [csv] = [link for link in links(asks(client, "/paths/?first=1880-01-01&tz=Europe/Berlin")) if "format=csv" in link]
    answer = client.get(csv)
    assert answer.status_code == 200
    assert b"/api/shop/a,6" in answer.getvalue()


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


def test_a_path_that_reads_otherwise_than_it_is_sent_tells_both(client):
    hit("/api/caf%C3%A9", "2026-03-03T09:00")
    hit("/api/plain", "2026-03-03T09:00")
    page = asks(client, "/paths/")
    assert 'title="/api/caf%C3%A9"' in page
    assert 'title="/api/plain"' not in page


def test_the_tree_leads_down_to_each_path_and_up_again(client, hits):
    assert rows(asks(client, "/tree/")) == [("/api/", 12), ("/elsewhere", 1)]
    page = asks(client, "/tree/?prefix=/api/shop/")
    assert rows(page) == [("/api/shop/a", 6), ("/api/shop/b", 3), ("/api/shop/", 1)]
    to_paths = {parse_qs(urlsplit(link).query)["path"][0] for link in links(page) if link.startswith("/path/?")}
    assert to_paths == {"/api/shop/a", "/api/shop/b", "/api/shop/"}
    above = {parse_qs(urlsplit(link).query)["prefix"][0] for link in links(page) if link.startswith("/tree/?prefix=")}
    assert above >= {"/", "/api/"}


@pytest.mark.parametrize("path", ["/", "/api/hello/world/"])
def test_the_tree_reaches_a_path_that_ends_in_a_slash(client, path):
    hit(path, "2026-03-03T09:00")
    found = [urlsplit(link) for link in links(asks(client, f"/tree/?prefix={path}"))]
    assert path in [parse_qs(link.query)["path"][0] for link in found if link.path == "/path/"]


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
