"""What is forgotten is gone from every statistic, whatever has been rolled up or dropped: held against brute force.

The oracle has only the hits that remain. It is asked after each stage of the days' life from the forgetting on.
"""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from counters import forget
from counters.books import verify
from counters.dimensions import Origin
from counters.hits import counter_id
from counters.models import Counter, DailyHits, DimensionSet, Hit, HourlyHits, Rollup, path_begins_with
from tests.integration.test_statistics_oracle import (
    DAYS,
    PATHS,
    Life,
    lives,
    oracle_settings,
)
from tests.oracle import (
    DAY,
    Made,
    World,
    check,
    check_place,
    check_search,
    through_the_orm,
    through_the_writer,
)

pytestmark = pytest.mark.long

#: Brute force knows what these are told from: of days without hit rows, what is rolled up of all paths stays.
OF_PATHS = ("tree", "ranking", "page")
CONSUMER = 'a"\\é,'
STAGES = 6


class What(NamedTuple):
    """What is forgotten, and at which stage."""

    stage: int
    path: str = ""
    prefix: str = ""
    consumer: str = ""
    before: int | None = None  # days after the first


stages = st.integers(0, STAGES - 1)
midnights = st.integers(-1, DAYS + 1)
some_midnights = st.none() | midnights
whats = {
    "before": st.tuples(stages, midnights).map(lambda drawn: What(drawn[0], before=drawn[1])),
    "consumer": st.tuples(stages, some_midnights).map(lambda drawn: What(drawn[0], "", "", CONSUMER, drawn[1])),
    "path": st.tuples(stages, some_midnights, st.sampled_from(PATHS)).map(
        lambda drawn: What(drawn[0], path=drawn[2], before=drawn[1])
    ),
    "prefix": st.tuples(stages, some_midnights, st.sampled_from(["/a", "/a/b", "/", "/b/"])).map(
        lambda drawn: What(drawn[0], prefix=drawn[2], before=drawn[1])
    ),
}


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters and days go in several steps."""
    monkeypatch.setattr(forget, "COUNTERS_AT_ONCE", 3)
    monkeypatch.setattr(forget, "DAYS_AT_ONCE", 2)


def told_apart(hits: list[Made]) -> list[Made]:
    """The same hits, of visitors none of whom has two consumers: those of a forgotten one add to those of none."""
    return [
        made._replace(
            origin=Origin(
                made.origin.dimensions,
                made.origin.identity and made.origin.dimensions.consumer.encode() + made.origin.identity,
            )
        )
        for made in hits
    ]


def others(hits: list[Made], what: What) -> list[Made]:
    """Without the consumer that was forgotten, whose name a combination has lost that is in use."""
    return [made for made in told_apart(hits) if not what.consumer or made.origin.dimensions.consumer != what.consumer]


def live(world: World, life: Life, what: What) -> Iterator[str]:
    noon = life.start + timedelta(hours=12)
    world.hit(told_apart(life.first), through_the_writer)
    yield "nothing rolled up"
    world.maintain(noon + timedelta(days=3))
    world.hit(others(life.late, what), through_the_orm)
    yield "late hits"
    world.maintain(noon + timedelta(days=4), keep_hits_days=2)
    yield "hit rows dropped"
    world.hit(others(life.later, what), through_the_writer)
    yield "late hits for dropped days"
    world.maintain(noon + timedelta(days=DAYS), keep_hits_days=3, keep_hours_days=5)
    world.hit(others(life.latest, what), through_the_writer)
    yield "hours dropped, late hits for days without"
    world.maintain(noon + timedelta(days=DAYS), keep_hits_days=3, keep_hours_days=5)
    yield "late hits added"


def forget_it(what: What, before: date | None) -> list[forget.Gone]:
    """Forget, and find the books in balance after each transaction."""
    gone = []
    for one in forgetting(what, before):
        gone.append(one)
        assert_books_balance()
    assert_books_balance()
    return gone


def forgetting(what: What, before: date | None) -> Iterator[forget.Gone]:
    if what.consumer:
        return forget.forget_consumer(what.consumer, before, lambda: None)
    if what.path:
        return forget.forget_paths(Counter.objects.filter(id=counter_id(what.path)), before, lambda: None)
    if what.prefix:
        return forget.forget_paths(Counter.objects.filter(path_begins_with(what.prefix)), before, lambda: None)
    assert before
    return forget.forget_before(before, lambda: None)


def forgotten_by(world: World, what: What, before: date | None) -> int:
    """Have the oracle forget; return the number of hits that go."""
    goes = [
        seen
        for seen in world.seen
        if (before is None or seen.at.date() < before)
        and (not what.path or seen.path == what.path)
        and seen.path.startswith(what.prefix)
        and (not what.consumer or seen.dimensions.consumer == what.consumer)
    ]
    stays = []
    if what.consumer:
        waiting = {seen for seen in goes if seen.at.date() < world.hits_since and not is_added(world, seen.at.date())}
        stays = [seen for seen in goes if seen.at.date() < world.hits_since and seen not in waiting]
    world.seen = [seen for seen in world.seen if seen not in goes]
    world.seen += [seen._replace(dimensions=seen.dimensions._replace(consumer="")) for seen in stays]
    if not (what.path or what.prefix or what.consumer) and before:
        world.days = {day for day in world.days if day >= before}
    return sum(seen.number for seen in goes) - sum(seen.number for seen in stays)


def is_added(world: World, day: date) -> bool:
    return day not in world.not_added


def assert_books_balance() -> None:
    differences: list[Any] = []
    verify(differences.append)
    assert differences == []


def ask(world: World, life: Life, what: What, stage: str) -> None:
    dropped = world.hits_since > date.min
    for one in life.asks:
        if dropped and (what.path or what.prefix) and one.function not in OF_PATHS:
            continue
        if one.question.period.start and one.question.period.start == one.question.period.end:
            continue  # within a day without hit rows, what lies between is not said to be nothing
        if dropped and one.function == "path_report":  # its first and last hit are known by the hour
            continue
        event(f"{stage}: {'answered' if check(world, one) else 'not kept'}")
    for path in {*PATHS, "/never"}:
        check_place(world, path)
    for text in ("", "/a", "b", "/b/"):
        check_search(world, text, 3)


@pytest.mark.parametrize("kind", whats)
@oracle_settings(8)
@given(life=lives(), data=st.data())
def test_what_is_forgotten_is_gone_from_every_statistic(
    afresh: Callable[[], None], life: Life, data: st.DataObject, kind: str
):
    afresh()
    what = data.draw(whats[kind])
    before = None if what.before is None else (life.start + what.before * DAY).date()
    world = World()
    # Late hits that wait for days without hit rows are told from those that were added by nothing but their rows.
    if what.consumer and what.stage in (3, 4):
        what = what._replace(stage=5)
    for number, stage in enumerate(live(world, life, what)):
        assert_books_balance()
        if number == what.stage:
            hits = forgotten_by(world, what, before)
            gone = forget_it(what, before)
            assert sum(one.hits for one in gone) == hits
            nothing_is_left(what, before)
            assert sum(one.hits for one in forget_it(what, before)) == 0
        if number >= what.stage:
            ask(world, life, what, stage)


def nothing_is_left(what: What, before: date | None) -> None:
    if what.consumer and before is None:
        assert not DimensionSet.objects.filter(consumer=what.consumer).exists()
        assert not Rollup.objects.filter(value=what.consumer).exists()
        assert not DailyHits.objects.filter(dimensions__contains=r'"a\"\\é,"').exists()
    if what.path and before is None:
        assert not Counter.objects.filter(path=what.path).exists()
        for table in (DailyHits, HourlyHits, Hit):
            assert not table.objects.filter(counter_id=counter_id(what.path)).exists()
    if before and not (what.path or what.prefix or what.consumer):
        assert not DailyHits.objects.filter(day__lt=before).exists()
        assert not Counter.objects.filter(first_hit__date__lt=before).exists()
        assert not Rollup.objects.filter(start__date__lt=before).exists()
