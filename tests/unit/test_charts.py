"""A series drawn: outlines as high as the figures say, few labels, and a table that has them all."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters.dashboard.charts import HEIGHT, MOST_TICKS, Chart, chart, histogram
from counters.stats import Point

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
RECTANGLE = re.compile(r"M(\d+\.\d+) 100V(-?\d+\.\d+)H(\d+\.\d+)V100Z")


def series(*hits: int, visitors: int = 0) -> list[Point]:
    return [Point(MONDAY + timedelta(hours=n), one, visitors) for n, one in enumerate(hits)]


def drawn(*hits: int, interval: str = "hour") -> Chart:
    found = chart(series(*hits), interval)
    assert found
    return found


def rectangles(outline: str) -> list[tuple[float, float, float]]:
    """Left, top and right of each; there is nothing else."""
    assert RECTANGLE.sub("", outline) == ""
    return [(float(left), float(top), float(right)) for left, top, right in RECTANGLE.findall(outline)]


@pytest.mark.parametrize("hits", [[], [0], [0, 0, 0]])
def test_without_hits_there_is_no_chart(hits):
    assert chart(series(*hits), "hour") is None


def test_a_bar_is_as_high_as_its_share_of_the_scale():
    found = drawn(10, 5, 0, 1)
    assert found.top == 10
    assert rectangles(found.hits) == [(0.12, 0, 0.88), (1.12, 50, 1.88), (3.12, 90, 3.88)]
    assert found.width == 4


def test_visitors_stand_within_the_hits_on_the_same_scale():
    found = chart([Point(MONDAY, 8, 2)], "hour")
    assert found
    assert (rectangles(found.hits), rectangles(found.visitors)) == ([(0.12, 0, 0.88)], [(0.12, 75, 0.88)])


@pytest.mark.parametrize(
    ("most", "top"),
    [(1, 1), (2, 2), (7, 8), (9, 10), (10, 10), (11, 20), (51, 60), (100, 100), (1001, 2000), (2**62, 5 * 10**18)],
)  # fmt: skip
def test_the_scale_ends_at_a_round_number(most, top):
    assert drawn(most).top == top


@pytest.mark.parametrize(
    ("most", "scale"),
    [(90, "100"), (200_000, "200,000"), (3_000_000, "3M"), (70 * 10**9, "80B"), (10**12, "1T"), (10**16, "10,000T")],
)
def test_the_scale_takes_little_room(most, scale):
    assert drawn(most).scale == scale


def test_the_table_has_every_interval_in_words():
    found = drawn(3, 0)
    assert [tuple(bar) for bar in found.bars] == [("Mon, 2 Mar 2026, 00:00", 3, 0), ("Mon, 2 Mar 2026, 01:00", 0, 0)]
    assert found.highest.label == "Mon, 2 Mar 2026, 00:00"


@pytest.mark.parametrize(
    ("interval", "label", "tick"),
    [
        ("hour", "Mon, 2 Mar 2026, 00:00", "00:00"),
        ("day", "Mon, 2 Mar 2026", "2 Mar"),
        ("week", "2 Mar 2026", "2 Mar"),
        ("month", "March 2026", "Mar 2026"),
    ],
)
def test_an_interval_is_named_as_long_as_it_is(interval, label, tick):
    found = drawn(1, interval=interval)
    assert (found.bars[0].label, [one.label for one in found.ticks]) == (label, [tick])


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=400).filter(any))
def test_whatever_the_figures_the_chart_stays_within_its_frame(hits):
    found = drawn(*hits)
    assert max(hits) <= found.top <= max(10, 2 * max(hits))
    bars = rectangles(found.hits)
    assert len(bars) == sum(map(bool, hits))
    assert all(0 <= left < right <= found.width and 0 <= top <= HEIGHT for left, top, right in bars)
    assert all(before[2] < after[0] for before, after in pairwise(bars))
    assert 1 <= len(found.ticks) <= MOST_TICKS
    assert all(0 < tick.at < 100 for tick in found.ticks)
    assert [bar.hits for bar in found.bars] == hits


def test_a_histogram_has_a_row_for_each_class_as_long_as_its_share_of_the_longest():
    rows = histogram([{"ms": 0.5, "count": 1}, {"ms": 1000, "count": 4}, {"ms": 2000, "count": 0}])
    assert [tuple(row) for row in rows] == [("0.5", 1, 25), ("1,000", 4, 100), ("2,000", 0, 0)]
    assert histogram([]) == []
    assert [row.bar for row in histogram([{"ms": 1, "count": 0}])] == [0]
