"""How many new paths a prefix may gain, in a minute and in total, and where the hits of more of them go."""

import logging
from collections.abc import Iterable

import pytest

from counters.newpaths import MINUTE, MOST_PREFIXES, MOST_REMEMBERED, MOST_TOLD, NewPaths, prefix_of


class Clock:
    time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def count(allowed: NewPaths, paths: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """The paths that a batch of these is counted under, as the recorder has it."""
    paths = list(dict.fromkeys(paths))
    doubtful = allowed.doubtful(paths, len(paths))
    settled = [prefix for prefix in allowed.strange(doubtful) if any(path.startswith(prefix) for path in known)]
    others = allowed.others(doubtful, known, settled)
    counted = list(dict.fromkeys(others.get(path, path) for path in paths))
    allowed.gained(path for path in counted if path not in known)
    return counted


def some(prefix: str, number: int, start: int = 0) -> list[str]:
    return [f"{prefix}{n}" for n in range(start, start + number)]


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/api/a/b", "/api/"),
        ("/api/", "/api/"),
        ("/example.org/blog/", "/example.org/"),
        ("//a", "//"),
        ("/a", "/"),
        ("/", "/"),
        ("/" + 253 * "x" + "/a", "/" + 253 * "x" + "/"),
        ("/" + 254 * "x" + "/a", "/"),
    ],
)
def test_the_prefix_of_a_path_is_its_first_segment(path, prefix):
    assert prefix_of(path) == prefix


def test_so_many_new_paths_are_counted_and_those_that_come_later_are_others(clock):
    allowed = NewPaths(per_minute=5, clock=clock)
    assert count(allowed, some("/api/", 3)) == some("/api/", 3)
    assert count(allowed, some("/api/", 4, 3)) == ["/api/3", "/api/4", "/api/(other)"]
    assert count(allowed, some("/api/", 4, 7)) == ["/api/(other)"]


def test_each_prefix_has_its_own(clock):
    allowed = NewPaths(per_minute=2, clock=clock)
    count(allowed, some("/api/", 9))
    assert count(allowed, ["/shop/a", "/shop/b", "/api/z"]) == ["/shop/a", "/shop/b", "/api/(other)"]


def test_known_paths_are_counted_whatever_happens(clock):
    allowed = NewPaths(per_minute=2, clock=clock)
    count(allowed, some("/api/", 9))
    assert count(allowed, ["/api/0", "/api/x", "/api/1"], {"/api/0", "/api/1"}) == ["/api/0", "/api/(other)", "/api/1"]


def test_the_next_minute_brings_new_ones(clock):
    allowed = NewPaths(per_minute=2, clock=clock)
    count(allowed, some("/api/", 9))
    clock.time += MINUTE
    assert count(allowed, ["/api/x"]) == ["/api/x"]


def test_no_path_slips_through_that_looks_like_the_others(clock):
    allowed = NewPaths(per_minute=1, clock=clock)
    count(allowed, ["/api/0"])
    assert count(allowed, ["/api/x(other)", "/api/x/(other)"]) == ["/api/(other)"]


def test_made_up_prefixes_are_bounded_too(clock):
    allowed = NewPaths(per_minute=100, clock=clock)
    for n in range(MOST_PREFIXES):
        count(allowed, [f"/{n}/a"])
    assert count(allowed, ["/more/a", "/still-more/a", "/7/b"]) == ["/(other)", "/7/b"]
    clock.time += MINUTE
    assert count(allowed, ["/more/a"]) == ["/more/a"]


def test_made_up_prefixes_do_not_keep_those_that_have_paths_from_gaining_more(clock):
    allowed = NewPaths(per_minute=2, clock=clock)
    for n in range(MOST_PREFIXES):
        count(allowed, [f"/{n}/a"])
    known = ["/api/a", "/example.org/a"]
    assert count(allowed, ["/api/b", "/api/c", "/api/d", "/made-up/a", "/example.org/b"], known) == [
        *("/api/b", "/api/c", "/api/(other)", "/(other)", "/example.org/b"),
    ]


def test_paths_that_were_counted_are_doubtful_no_more(clock):
    allowed = NewPaths(per_minute=2, clock=clock)
    count(allowed, some("/api/", 9))
    assert allowed.doubtful(["/api/0", "/api/1", "/api/2"], 3) == ["/api/2"]
    assert allowed.others(["/api/2"], {"/api/2"}) == {}
    assert allowed.doubtful(["/api/2"], 1) == []


def test_no_more_are_remembered_than_a_bound(clock):
    allowed = NewPaths(per_minute=2 * MOST_REMEMBERED, clock=clock)
    for n in range(2 * MOST_REMEMBERED):
        allowed.gained([f"/api/{n}"])
        assert len(allowed._known) <= MOST_REMEMBERED


def test_processes_share_what_may_be_counted(clock):
    processes = [NewPaths(per_minute=10, sharers=2, clock=clock) for _ in range(2)]
    counted = {path for number, process in enumerate(processes) for path in count(process, some(f"/api/{number}-", 9))}
    assert len(counted - {"/api/(other)"}) == 10


def test_a_share_is_never_nothing(clock):
    assert count(NewPaths(per_minute=1, sharers=4, clock=clock), ["/api/a", "/api/b"]) == ["/api/a", "/api/(other)"]


@pytest.mark.parametrize("prefix", ["/api/", "/"])
def test_a_prefix_has_no_more_paths_in_total_than_it_may(clock, prefix):
    allowed = NewPaths(per_minute=100, in_total=50, clock=clock)
    count(allowed, some(prefix, 10))
    assert allowed.to_be_counted() == [prefix]
    allowed.counted({prefix: 47})
    assert count(allowed, some(prefix, 9, 100)) == [*some(prefix, 3, 100), f"{prefix}(other)"]
    clock.time += MINUTE
    assert count(allowed, some(prefix, 9, 200)) == [f"{prefix}(other)"]


def test_a_full_prefix_is_looked_at_until_it_has_room_again(clock):
    allowed = NewPaths(per_minute=100, in_total=50, clock=clock)
    allowed.counted({"/api/": 50})
    for _ in range(3):
        clock.time += 2 * MINUTE
        assert allowed.to_be_counted() == ["/api/"]
        allowed.counted({"/api/": 50})
    allowed.counted({"/api/": 49})
    assert allowed.to_be_counted() == []
    assert count(allowed, ["/api/a", "/api/b"]) == ["/api/a", "/api/(other)"]


def test_without_bounds_nothing_is_looked_at():
    allowed = NewPaths(per_minute=0)
    assert not allowed.bounded
    assert count(allowed, some("/api/", 10_000)) == some("/api/", 10_000)


def test_the_log_is_told_once_a_minute_of_each_prefix_and_of_a_few_prefixes_only(clock, caplog):
    allowed = NewPaths(per_minute=1, clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            for n in range(2 * MOST_TOLD):
                count(allowed, some(f"/{n}/", 3))
        assert len(caplog.messages) == MOST_TOLD
        assert caplog.messages[0] == "Too many new paths under /0/: hits of more are counted as /0/(other)."
        clock.time += MINUTE
        count(allowed, some("/0/", 3, 10))
    assert len(caplog.messages) == MOST_TOLD + 1
