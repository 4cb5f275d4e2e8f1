"""The overview: figures, what they are compared with, series, panels, books."""

import re
from datetime import datetime
from html import unescape

import pytest
from django.utils import translation

from counters.models import Verification
from tests.counting import hit
from tests.integration.dashboard.pages import NOW, asks, rows, text

pytestmark = pytest.mark.django_db


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


def test_the_books_tell_when_they_were_verified(client, hits):
    Verification.objects.create(at=NOW, checked=5, differing=0, rollups_differing=0)
    at = re.search(r'<time datetime="([^"]+)" title="3 Mar 2026, 12:30:00 UTC">', asks(client, "/"))
    assert at
    assert datetime.fromisoformat(at[1]) == NOW


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
