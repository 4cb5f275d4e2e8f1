"""When the first paths of the lists are those of all: the threshold."""

import pytest

from counters.leaders import MOST_ROWS, Found, Lists, deeper

ROWS = [("/a", 9), ("/b", 5)]


@pytest.mark.parametrize(
    ("rows", "of_days", "of_rest", "settled"),
    [
        (ROWS, 4, 0, True),
        (ROWS, 3, 1, True),
        (ROWS, 3, 2, False),  # with as many hits, a path before /b may come first
        (ROWS, 5, 0, False),
        (ROWS[:1], 0, 0, True),  # there are no others
        (ROWS[:1], 1, 0, False),
        ([], 0, 0, True),
    ],
)
def test_found_is_what_no_path_that_was_not_seen_can_reach(rows, of_days, of_rest, settled):
    assert Found(rows, of_days, of_rest).settles(2) is settled


def test_lists_are_read_deeper_as_long_as_that_is_less_than_adding_up():
    depths = list(deeper(20, Lists([None] * 30, {})))
    assert depths == [160, 1280]
    assert all(depth * 30 <= MOST_ROWS for depth in depths)
    assert not list(deeper(2000, Lists([None] * 30, {})))
