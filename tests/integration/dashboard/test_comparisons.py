"""What figures are compared with: the period before, as far as it is kept."""

import re

import pytest

from tests.counting import hit
from tests.integration.dashboard.pages import asks, keep, text

pytestmark = pytest.mark.django_db


def compared(page: str) -> set[str]:
    return set(re.findall(r'<dd class="change" title="([^"]*)"', page))


def test_a_change_is_told_in_percent_of_the_period_before(client, hits):
    hit("/api/a", "2026-03-02T08:00", 2)  # the same time of the day before has 4, later ones do not count
    hit("/api/a", "2026-03-02T12:31", 90)
    page = text(asks(client, "/?period=today"))
    assert "▲ 50.0% from 4 in the period before" in page
    assert "none in the period before" in text(asks(client, "/?first=2026-03-01&last=2026-03-01"))
    assert "in the period before" not in text(asks(client, "/?period=all"))


def test_less_is_told_as_less(client, hits):
    assert "▼ 60.0% from 5 in the period before" in text(asks(client, "/?first=2026-03-02&last=2026-03-02"))


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
