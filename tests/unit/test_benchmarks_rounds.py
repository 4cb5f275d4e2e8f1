"""Who is driven when, and when a round is over; without wrk and without contestants."""

from itertools import accumulate, chain, repeat

import pytest

from benchmarks import rounds
from benchmarks.rounds import MOST_SECONDS_TO_SETTLE, WATCHED_SECONDS, alternate, settle


class Clock:
    """One that goes on when somebody sleeps."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def seconds_to_settle(*used):
    """`used` are the CPU seconds of each time that it is watched; afterwards the last of them again and again."""
    clock, told = Clock(), accumulate(chain(used, repeat(used[-1])), initial=100.0)
    settle(lambda: next(told), clock, clock.sleep)
    return clock.now


@pytest.fixture
def driven(monkeypatch):
    """The turns in the order in which they were driven and measured."""
    order = []
    monkeypatch.setattr(rounds, "_drive", lambda turn, *_: order.append((0, turn)))
    monkeypatch.setattr(rounds, "measured", lambda _part, turn, number, _seconds: order.append((number, turn)))
    return order


@pytest.mark.parametrize("used", [0.0, 0.01])
def test_who_is_idle_has_settled_at_once(used):
    assert seconds_to_settle(used) == WATCHED_SECONDS


def test_a_backlog_is_waited_for():
    assert seconds_to_settle(0.2, 0.1, 0.05, 0.0) == pytest.approx(4 * WATCHED_SECONDS)


def test_who_never_settles_is_not_waited_for_without_end():
    assert seconds_to_settle(0.2) == pytest.approx(MOST_SECONDS_TO_SETTLE, abs=WATCHED_SECONDS)


def test_every_other_round_is_driven_backwards(driven):
    list(alternate("counting", ["a", "b", "c"], 3, 2))
    told = [(number, "".join(turn for at, turn in driven if at == number)) for number in range(4)]
    assert told == [(0, "abc"), (1, "abc"), (2, "cba"), (3, "abc")]
