"""counters.live.Feed with a clock and a database of the tests' own."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, ProgrammingError

from counters import live
from counters.live import AWAY, HISTORY_SECONDS, MOST_WAITING, ONE_SECOND, Feed

BEGIN = datetime(2026, 3, 1, 23, 59, 58, 400_000, tzinfo=UTC)
#: The second that is told first: the latest that has been over for a second.
FIRST = datetime(2026, 3, 1, 23, 59, 56, tzinfo=UTC)
WAIT_SECONDS = 10


class World:
    """A clock whose seconds pass quickly, and what is seen in them: as many hits as the second's number.

    It begins when it is first asked.
    """

    speed = 50

    def __init__(self) -> None:
        self.begun: float | None = None
        self.skipped = timedelta()
        self.looked: list[datetime] = []
        self.minutes = 0
        self.away = False
        self.error: type[Exception] = OperationalError
        self.hold = threading.Event()
        self.hold.set()

    def clock(self) -> datetime:
        if self.begun is None:
            self.begun = time.monotonic()
        return BEGIN + self.skipped + timedelta(seconds=(time.monotonic() - self.begun) * self.speed)

    def look(self, at: datetime) -> live.Event:
        self.hold.wait(WAIT_SECONDS)
        if self.away:
            raise self.error("it is gone")
        self.looked.append(at)
        return {"at": at.isoformat(), "hits": hits_at(at)}

    def by_second(self, since: datetime, until: datetime) -> list[int]:
        self.minutes += 1
        return [hits_at(since + n * ONE_SECOND) for n in range((until - since) // ONE_SECOND)]

    def feed(self) -> Feed:
        return Feed(self.clock, self.look, self.by_second)


def hits_at(at: datetime) -> int:
    return int(at.timestamp()) % 1000


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    sleep = asyncio.sleep
    monkeypatch.setattr(live.asyncio, "sleep", lambda seconds: sleep(seconds / World.speed))
    return World()


async def some(events: AsyncGenerator[Any], number: int) -> list[Any]:
    async with asyncio.timeout(WAIT_SECONDS):
        return [await anext(events) for _ in range(number)]


def times(events: list[live.Event]) -> list[datetime]:
    return [datetime.fromisoformat(event["at"]) for event in events]


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.1)


async def test_it_tells_each_second_once_from_the_latest_that_is_settled(world):
    async with aclosing(world.feed().listen()) as events:
        told = await some(events, 5)
    assert times(told) == [FIRST + n * ONE_SECOND for n in range(5)]
    assert [event["hits"] for event in told] == [hits_at(at) for at in times(told)]


async def test_no_second_is_looked_at_before_it_has_been_over_for_a_second(world):
    early, real = [], world.look

    def look(at: datetime) -> live.Event:
        early.append(world.clock() < at + 2 * ONE_SECOND)
        return real(at)

    async with aclosing(Feed(world.clock, look, world.by_second).listen()) as events:
        await some(events, 5)
    assert not any(early)


async def test_the_first_event_has_the_hits_of_the_minute_up_to_it(world):
    async with aclosing(world.feed().listen()) as events:
        first, second = await some(events, 2)
    assert first["history"] == [hits_at(FIRST - n * ONE_SECOND) for n in reversed(range(HISTORY_SECONDS))]
    assert "history" not in second


async def test_who_comes_later_has_the_last_event_at_once_with_the_minute_up_to_it(world):
    feed = world.feed()
    async with aclosing(feed.listen()) as events, aclosing(feed.listen()) as later:
        last = (await some(events, 4))[-1]
        [first] = await some(later, 1)
        [at] = times([first])
        assert at >= times([last])[0]
        assert first["history"] == [hits_at(at - n * ONE_SECOND) for n in reversed(range(HISTORY_SECONDS))]
    assert world.minutes == 1, "the minute was read again"


async def test_many_listeners_are_told_the_same_and_cause_one_look_a_second(world):
    feed = world.feed()
    listeners = [feed.listen() for _ in range(10)]
    told = await asyncio.gather(*(some(events, 5) for events in listeners))
    for events in listeners:
        await events.aclose()
    assert all([one["at"] for one in events] == [one["at"] for one in told[0]] for events in told)
    assert len(world.looked) == len(set(world.looked)) and world.minutes == 1


async def test_when_nobody_listens_it_does_not_look(world):
    feed = world.feed()
    async with aclosing(feed.listen()) as events:
        await some(events, 1)
    await asyncio.sleep(2)
    looked = len(world.looked)
    await asyncio.sleep(5)
    assert len(world.looked) == looked
    async with aclosing(feed.listen()) as events:
        [event] = await some(events, 1)
    assert len(event["history"]) == HISTORY_SECONDS and world.minutes == 2


async def test_a_database_that_is_away_is_told_and_then_it_goes_on_with_the_second_that_was_due(world, caplog):
    async with aclosing(world.feed().listen()) as events:
        [first] = await some(events, 1)
        world.away = True
        while await anext(events) != AWAY:
            pass
        assert await some(events, 2) == [AWAY, AWAY]
        world.away = False
        while (event := await anext(events)) == AWAY:
            pass
        told = [event, *await some(events, 5)]
    assert "history" in first and "history" not in told[0]
    assert world.looked[: len(world.looked)] == [FIRST + n * ONE_SECOND for n in range(len(world.looked))]
    assert times(told) == [times(told)[0] + n * ONE_SECOND for n in range(6)]
    assert [record.levelno for record in caplog.records] == [logging.WARNING], "told once"


async def test_who_came_while_the_database_was_away_has_the_minute_when_it_is_back(world):
    world.away = True
    async with aclosing(world.feed().listen()) as events:
        assert await some(events, 2) == [AWAY, AWAY]
        world.away = False
        while (event := await anext(events)) == AWAY:
            pass
    assert len(event["history"]) == HISTORY_SECONDS


async def test_after_more_than_a_minute_it_goes_on_with_the_last_minute(world):
    async with aclosing(world.feed().listen()) as events:
        await some(events, 1)
        world.away = True
        while await anext(events) != AWAY:
            pass
        world.skipped = timedelta(hours=1)
        world.away = False
        await until(lambda: world.looked[-1] > FIRST + world.skipped)
        assert min(at for at in world.looked if at > FIRST + timedelta(minutes=1)) > FIRST + timedelta(minutes=58)


async def test_when_the_clock_is_set_back_it_goes_on_with_the_time_that_it_is(world):
    async with aclosing(world.feed().listen()) as events:
        await some(events, 3)
        world.skipped = timedelta(hours=-1)
        while times([event := await anext(events)])[0] > FIRST:
            pass
        told = times([event, *await some(events, 3)])
        assert FIRST + world.skipped < told[0] < FIRST + world.skipped + timedelta(minutes=10)
        assert told == [told[0] + n * ONE_SECOND for n in range(4)]


async def test_a_database_that_does_not_answer_is_told_to_be_away(world, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 0.05)
    world.hold.clear()
    async with aclosing(world.feed().listen()) as events:
        assert await some(events, 2) == [AWAY, AWAY]
        world.hold.set()
        while (event := await anext(events)) == AWAY:
            pass
    assert times([event]) == [FIRST]


async def test_who_listens_slowly_misses_the_oldest_events(world):
    feed = world.feed()
    async with aclosing(feed.listen()) as slow, aclosing(feed.listen()) as quick:
        await some(slow, 1)
        await some(quick, 3 * MOST_WAITING)
        told = times(await some(slow, MOST_WAITING))
    assert told[0] >= FIRST + 2 * MOST_WAITING * ONE_SECOND
    assert told == [told[0] + n * ONE_SECOND for n in range(MOST_WAITING)]


async def test_when_it_is_closed_everybody_goes_at_once_and_nobody_comes_in(world):
    world.hold.clear()  # even while it waits for the database
    feed = world.feed()
    listening = [asyncio.ensure_future(rest(feed)) for _ in range(3)]
    await asyncio.sleep(1)
    begun = time.monotonic()
    feed.close()
    assert await asyncio.gather(*listening) == [[], [], []]
    assert await rest(feed) == []
    assert time.monotonic() - begun < 1
    world.hold.set()


async def rest(feed: Feed) -> list[Any]:
    async with asyncio.timeout(WAIT_SECONDS):
        return [event async for event in feed.listen()]


async def test_silence_is_broken_by_a_sign_of_life(world, monkeypatch):
    monkeypatch.setattr(live, "SILENCE_SECONDS", 0.05)
    world.hold.clear()
    async with aclosing(world.feed().listen()) as events:
        assert await some(events, 2) == [None, None]
        world.hold.set()
        while (event := await anext(events)) is None:
            pass
    assert event["hits"] == hits_at(FIRST)


async def test_a_mistake_ends_the_streams_and_who_comes_again_finds_it_at_work(world):
    world.away, world.error = True, ProgrammingError
    feed = world.feed()
    listening = asyncio.ensure_future(rest(feed))
    await asyncio.sleep(0)
    task = feed._task
    assert task and await listening == []
    with pytest.raises(ProgrammingError):
        await task
    world.away = False
    async with aclosing(feed.listen()) as events:
        assert len(await some(events, 2)) == 2
