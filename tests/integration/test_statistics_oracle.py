"""Every function of stats.py agrees with brute force on random hits, whatever has been rolled up or dropped meanwhile.

The same questions are asked at every stage of the days' life. Where what is kept cannot answer, NotKept is raised, and
nowhere else; no other number is ever told.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from counters import stats
from counters.dimensions import NAMES, REFERRER_URL, Dimensions, Origin
from counters.periods import INTERVALS, Period
from counters.stats import NotKept, Position, Question
from tests.oracle import (
    Ask,
    Made,
    World,
    answer,
    check,
    check_place,
    check_search,
    contents,
    through_the_orm,
    through_the_writer,
)

pytestmark = pytest.mark.long

UTC_ZONE = ZoneInfo("UTC")
#: A day about which the clocks change in one of the zones: forward, back, by half an hour, by a whole day.
MONDAYS = [
    datetime(2026, 3, 27, tzinfo=UTC),
    datetime(2025, 10, 24, tzinfo=UTC),
    datetime(2026, 3, 6, tzinfo=UTC),
    datetime(2025, 10, 31, tzinfo=UTC),
    datetime(2026, 4, 2, tzinfo=UTC),
    datetime(2025, 10, 3, tzinfo=UTC),
    datetime(2011, 12, 28, tzinfo=UTC),
]
ZONES = [
    ZoneInfo(name)
    for name in (
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",
    )
]
DAYS = 6
OFTEN = ["/a/b", "/a/b", "/a/b", "/a/b/", "/a"]
PATHS = ["/", "/a/", "/a/b/c", "/a/bc", "/a//b", "/b/c/d/e", "/b/c/d", "/%2Fa", "/a~", "/B/c", *OFTEN]
PREFIXES = ["", "/", "/a", "/a/", "/a/b", "/a/b/", "/b/c/", "/a/b/c", "/none/", "/%2"]
VALUES: dict[str, list[Any]] = {
    "method": ["GET", "POST"],
    "status": [None, 200, 404],
    "consumer": ["", "acme", 'a"\\é,'],
    "country": ["", "DE", "FR"],
    "referrer": ["", "example.org"],
    "referrer_url": ["", "https://example.org/a", "https://example.org/b"],
    "browser": ["", "Firefox", "Chrome"],
    "os": ["", "Linux"],
    "device": ["", "mobile"],
    "bot": [False, False, True],
    "route": ["", "/a/<int:id>/"],
}
IDENTITIES = [None, b"ann", b"bob", b"bob"]
FUNCTIONS = [
    "total",
    "total",
    "series",
    "series",
    "by",
    "by",
    "by",
    "tree",
    "path_report",
    "ranking",
    "page",
    "page",
    *["overview"] * 3,
]


class Life(NamedTuple):
    """The days of a data set, and what is asked at every stage of their life."""

    start: datetime
    first: list[Made]
    late: list[Made]
    later: list[Made]
    latest: list[Made]
    asks: list[Ask]


origins = st.builds(
    lambda values, identity: Origin(Dimensions(**values), identity),
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()}),
    st.sampled_from(IDENTITIES),
)


@st.composite
def made(draw: st.DrawFn, start: datetime, known: list[Origin], least: int, most: int) -> list[Made]:
    """Hits of the days from `start` on, many of them on the borders of hours and days."""
    numbers = draw(
        st.lists(
            st.tuples(
                st.integers(0, DAYS * 24 - 1),
                st.sampled_from([0, 0, 15, 29, 30, 45, 59]),
                st.sampled_from(PATHS),
                st.sampled_from(known),
                st.integers(1, 3),
            ),
            min_size=least,
            max_size=most,
        )
    )
    return [
        Made(start + timedelta(hours=hours, minutes=minutes), path, origin, number)
        for hours, minutes, path, origin, number in numbers
    ]


@st.composite
def moments(draw: st.DrawFn, start: datetime, tz: ZoneInfo) -> datetime:
    """A UTC midnight, a local one, a full hour or none, about the days from `start` on."""
    at = start + timedelta(days=draw(st.integers(-1, DAYS + 1)))
    kind = draw(st.sampled_from(["utc", "utc", "local", "hour", "any"]))
    if kind == "local":
        return at.replace(tzinfo=tz)
    if kind == "utc":
        return at
    minutes = draw(st.integers(0, 23)) * 60 + (draw(st.integers(0, 59)) if kind == "any" else 0)
    return (at + timedelta(minutes=minutes)).astimezone(draw(st.sampled_from([UTC_ZONE, tz])))


@st.composite
def periods(draw: st.DrawFn, start: datetime) -> Period:
    tz = draw(st.sampled_from(ZONES))
    ends = sorted([draw(moments(start, tz)), draw(moments(start, tz))], key=datetime.timestamp)
    opened = draw(st.sampled_from(["", "", "", "", "start", "end", "both"]))
    return Period(
        None if opened in ("start", "both") else ends[0],
        None if opened in ("end", "both") else ends[1],
        tz,
    )


filters = st.dictionaries(st.sampled_from([*VALUES, "bot", "country"]), st.integers(0, 3), max_size=2).map(
    lambda drawn: {
        name: "true"
        if name == "bot" and number % 2
        else "false"
        if name == "bot"
        else ["" if value is None else str(value) for value in [*VALUES[name], "unheard of"]][
            number % (len(VALUES[name]) + 1)
        ]
        for name, number in drawn.items()
    }
)


@st.composite
def questions(draw: st.DrawFn, start: datetime) -> Question:
    about = draw(st.sampled_from(["site", "site", "prefix", "path"]))
    return Question(
        draw(periods(start)),
        prefix=draw(st.sampled_from(PREFIXES)) if about == "prefix" else "",
        path=draw(st.sampled_from([*PATHS, "/never"])) if about == "path" else "",
        filters=draw(st.just({}) | filters),
    )


@st.composite
def asks(draw: st.DrawFn, start: datetime) -> Ask:
    question, function = draw(questions(start)), draw(st.sampled_from(FUNCTIONS))
    argument: str | int = ""
    limit, after = None, None
    match function:
        case "series" | "path_report" | "overview":
            argument = draw(st.sampled_from(INTERVALS if question.period.end else INTERVALS[1:]))
        case "by":
            argument = draw(st.sampled_from([*NAMES, REFERRER_URL]))
        case "tree":
            argument = draw(st.integers(1, 4))
    if function == "path_report":
        question = Question(question.period, path=question.path or "/a/b", filters=question.filters)
    if function in ("page", "by", "tree") and draw(st.booleans()):
        limit = draw(st.integers(1, 4))
        name = draw(st.sampled_from(PATHS if function != "by" else ["", "DE", "GET", "false"]))
        after = draw(st.none() | st.builds(Position, st.integers(1, 30), st.just(name)))
    if function == "overview":
        limit = draw(st.integers(1, 12))
    if function == "page":
        limit = limit or 5
    return Ask(function, question, argument, limit, after)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    start = draw(st.sampled_from(MONDAYS))
    known = draw(st.lists(origins, min_size=2, max_size=6))
    return Life(
        start,
        draw(made(start, known, 60, 120)),
        draw(made(start, known, 1, 5)),
        draw(made(start, known, 1, 8)),
        draw(made(start - timedelta(days=1), known, 1, 5)),
        draw(st.lists(asks(start), min_size=20, max_size=30)),
    )


def oracle_settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        phases=[
            Phase.explicit,
            Phase.generate,
        ],  # to shrink takes longer than a test may; add Phase.shrink to look closer
    )


class Versions:
    """What was answered under each validator: never two things under one."""

    def __init__(self) -> None:
        self._answers: dict[Any, Any] = {}

    def check(self, number: int, ask: Ask) -> None:
        version = stats.version(ask.question)
        if version is not None:
            given = answer(ask)
            assert self._answers.setdefault((number, version), given) == given, ask


@oracle_settings(12)
@given(life=lives())
def test_answers_are_those_of_brute_force_at_every_stage(afresh: Callable[[], None], life: Life):
    afresh()
    world, versions = World(), Versions()

    def ask(stage: str) -> None:
        for number, one in enumerate(life.asks):
            answered = check(world, one)
            event(f"{stage}: {'answered' if answered else 'not kept'}")
            if answered:
                versions.check(number, one)
        for path in {*PATHS, "/never"}:
            check_place(world, path)
        for text in ("", "/a", "b", "%", "_", "~", "/b/", "%2F", "\\"):
            check_search(world, text, 3)

    noon = life.start + timedelta(hours=12)
    world.hit(life.first, through_the_writer)
    ask("nothing rolled up")
    world.maintain(noon + timedelta(days=3))
    ask("half rolled up")
    world.hit(life.late, through_the_orm)
    ask("late hits")
    world.maintain(noon + timedelta(days=4), keep_hits_days=2)
    ask("hit rows dropped")
    world.hit(life.later, through_the_writer)
    ask("late hits for dropped days")
    world.maintain(noon + timedelta(days=DAYS), keep_hits_days=3, keep_hours_days=5)
    ask("all rolled up, hours dropped")
    world.hit(life.latest, through_the_writer)
    ask("late hits for days without hours")
    world.maintain(noon + timedelta(days=DAYS), keep_hits_days=3, keep_hours_days=5)
    before = contents()
    ask("late hits added")
    world.maintain(noon + timedelta(days=DAYS), keep_hits_days=3, keep_hours_days=5)
    assert contents() == before


@oracle_settings(5)
@given(life=lives(), data=st.data())
def test_parts_add_up_to_their_whole(afresh: Callable[[], None], life: Life, data: st.DataObject):
    afresh()
    world = World()
    world.hit(life.first, through_the_writer)
    asked = data.draw(st.lists(questions(life.start), min_size=4, max_size=6))
    for stage in range(3):
        if stage:
            world.maintain(life.start + timedelta(days=3 * stage, hours=12), keep_hits_days=stage + 1)
            world.hit(life.late if stage == 1 else life.later, through_the_writer)
        for question in asked:
            with suppress(NotKept):
                parts_add_up(question, stats.total(question))


def parts_add_up(question: Question, total: stats.Total) -> None:
    """Hits add up over every dimension, interval and level; visitors over whole UTC days, and bots and people."""
    for dimension in (*NAMES, REFERRER_URL):
        with suppress(NotKept):
            shares = list(stats.by(question, dimension))
            assert sum(share.hits for share in shares) == total.hits
            assert dimension != "bot" or sum(share.visitors for share in shares) == total.visitors
    for interval in INTERVALS if question.period.end else INTERVALS[1:]:
        with suppress(NotKept):
            points = stats.series(question, interval)
            assert sum(point.hits for point in points) == total.hits
            whole_days = interval != "hour" and question.period.tz == UTC_ZONE
            assert not whole_days or sum(point.visitors for point in points) == total.visitors
    for depth in range(1, 5):
        with suppress(NotKept):
            nodes = list(stats.tree(question, depth))
            assert (sum(node.hits for node in nodes), sum(node.paths for node in nodes)) == (total.hits, total.paths)
    if not question.path:
        with suppress(NotKept):
            for parent in list(stats.tree(question, 1)):
                if parent.path.endswith("/") and parent.path != question.prefix:  # that is a path by itself
                    level = list(stats.tree(replace(question, prefix=parent.path), 1))
                    assert (sum(n.hits for n in level), sum(n.paths for n in level)) == (parent.hits, parent.paths)
