"""The table of the fault suite."""

from collections import Counter

import pytest

from tests.faults.trials import Outcome, table
from tests.load import Load
from tests.service import Service


def outcome(counts: dict[str, int]) -> Outcome:
    return Outcome.of(
        "worker killed",
        20,
        sent=Counter({"/a": 5, "/b": 3}),
        acknowledged=Counter({"/a": 4, "/b": 2}),
        at_most=Counter({"/a": 5, "/b": 2}),
        counts=counts,
        recovery=0.26,
    )


def test_what_may_have_been_counted_may_be_counted_or_not():
    for counts in ({"/a": 4, "/b": 2}, {"/a": 5, "/b": 2}):
        found = outcome(counts)
        assert (found.lost, found.double) == (0, 0)


def test_what_was_said_not_to_be_counted_may_not():
    assert outcome({"/a": 5, "/b": 3}).double == 1


def test_a_path_that_has_too_few_does_not_make_up_for_one_that_has_too_many():
    found = outcome({"/a": 2, "/b": 5})
    assert (found.counted, found.lost, found.double) == (7, 2, 3)


def test_the_table_is_one_in_markdown_whose_columns_stand_below_each_other():
    lines = table([outcome({"/a": 4_000})])
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        *("worker killed", "20", "8", "6", "4,000", "2", "3,995", "0.3 s", "")
    ]


def test_what_was_not_looked_at_is_a_dash():
    [*_, line] = table([Outcome("bad input", 3, 3)])
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["bad input", "3", "3", *"–––––", ""]


def settled(places: dict[int, int], counted: int) -> None:
    load = Load(Service.__new__(Service), "/api/")
    path = load.paths[0]
    load.sent[path] = 10
    load.acknowledged[path] = sum(places.values())
    load.in_doubt[path] = 1
    load.places[path].update(places)
    load.assert_bounds_hold({path: counted})


def test_hits_that_have_places_of_their_own_within_the_count_are_fine():
    settled({1: 1, 3: 1}, counted=3)


@pytest.mark.parametrize(
    ("places", "counted"),
    [({1: 1, 2: 2}, 3), ({1: 1, 4: 1}, 3), ({1: 1, 2: 1}, 1), ({1: 1}, 3)],
    ids=["two hits in one place", "a place beyond the count", "lost", "double"],
)
def test_what_is_lost_or_counted_twice_is_found(places: dict[int, int], counted: int):
    with pytest.raises(AssertionError):
        settled(places, counted)
