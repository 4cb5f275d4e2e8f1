"""What pages say of days of which not all is kept any more."""

import re
from collections.abc import Iterator
from html import unescape

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests.conftest import empty_tables, leave_as_migrated
from tests.integration.dashboard.pages import (
    NOW,
    asks,
    hits_of_eleven_years,
    links,
    rows,
    text,
    with_query,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def _planted(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Hits that all tests of this module look at and none adds to: what a test does is undone, these are committed."""
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("counters.hits.now", lambda: NOW)
        empty_tables()
        with hits_of_eleven_years():
            yield
        leave_as_migrated()
        connection.close_pool()


@pytest.fixture
def old(_planted: None, db: None) -> None:
    """Hits of eleven years."""


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
