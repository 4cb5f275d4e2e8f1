"""A brute-force oracle of the statistics: plain Python over the hits that a test has made, and nothing of the tables.

`World` makes hits and runs maintenance as the service does, and keeps every hit in a list. `answer` asks the
statistics, `expected` works out the same from that list. They share no code: what a week or a node is, is said anew.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby, pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django.db import connection

from counters import maintenance, stats
from counters.dimensions import NAMES, Dimensions, Origin
from counters.ingest.writer import PostgresWriter
from counters.models import Counter
from counters.periods import PeriodInvalid
from counters.stats import NotKept, Position, Question
from hitcounter.asgi import conninfo

DAY = timedelta(days=1)
#: No zone has its clocks put forward or back, nor its offset, at other times than these.
STEP = timedelta(minutes=15)
GRACE = timedelta(minutes=5)
SITE = ("", "/")
OVERVIEW_NAMES = tuple(reversed(NAMES))


class Made(NamedTuple):
    """Hits to be made: `number` like ones at a time."""

    at: datetime
    path: str
    origin: Origin
    number: int = 1


class Seen(NamedTuple):
    """Hits that were made, with what tells their visitor apart, None for nobody."""

    at: datetime
    path: str
    dimensions: Dimensions
    visitor: Hashable
    number: int


class Figures(NamedTuple):
    """What is told of some hits."""

    hits: int
    visitors: int
    paths: int


class Ask(NamedTuple):
    """A question and the function of stats.py that it is put to, with what that takes besides."""

    function: str
    question: Question
    argument: str | int = ""
    limit: int | None = None
    after: Position | None = None


@dataclass
class World:
    """What has happened: the hits, and what maintenance was told to keep."""

    seen: list[Seen] = field(default_factory=list)
    days: set[date] = field(default_factory=set)  # that have or had a partition
    salts_gone_before: list[date] = field(default_factory=list)
    hits_since: date = date.min
    hours_since: date = date.min
    not_added: set[date] = field(default_factory=set)  # days without hit rows for which hits have come since

    def hit(self, hits: Iterable[Made], write: Callable[[Sequence[Made]], None]) -> None:
        """Make hits in order of time."""
        made = sorted(hits, key=lambda one: (one.at, one.path))
        write(made)
        for at, path, origin, number in made:
            day = at.astimezone(UTC).date()
            self.days |= {day, day + DAY}
            if day < self.hits_since:
                self.not_added.add(day)
            # A visitor is one per UTC day, and people are others than bots. When a day's salt is gone, nobody can tell
            # who was there already: who comes later is somebody else.
            salt = sum(day < gone for gone in self.salts_gone_before)
            visitor = origin.identity and (day, salt, origin.identity, origin.dimensions.bot)
            self.seen.append(Seen(at, path, origin.dimensions, visitor, number))

    def maintain(self, now: datetime, keep_hits_days: int = 30, keep_hours_days: int = 400) -> list[str]:
        """Run maintenance as if it were `now`."""
        said = list(maintenance.maintain(now, keep_hits_days=keep_hits_days, keep_hours_days=keep_hours_days))
        today, over = now.date(), (now - GRACE).date()
        self.days |= {today, today + DAY}
        self.salts_gone_before.append(over)
        self.not_added.clear()
        self.hits_since = self._since(self.hits_since, min(today - keep_hits_days * DAY, over))
        self.hours_since = self._since(self.hours_since, min(today - keep_hours_days * DAY, self.hits_since))
        return said

    def _since(self, kept: date, before: date) -> date:
        """From which day on something is kept when it is dropped of all days before another."""
        dropped = [day for day in self.days if kept <= day < before]
        return max(dropped) + DAY if dropped else kept


def through_the_writer(hits: Sequence[Made]) -> None:
    """Write hits in the product's quick way, a batch for each time."""

    async def run() -> None:
        writer = PostgresWriter(conninfo(), clock=lambda: at)
        at = datetime.now(UTC)
        await writer.connect()
        for number, (at, some) in enumerate(groupby(hits, lambda one: one.at), start=1):  # noqa: B007
            batch: dict[str, list[Origin]] = {}
            for one in some:
                batch.setdefault(one.path, []).extend([one.origin] * one.number)
            await writer.write(number, batch)
        await writer.close()

    asyncio.run(run())


def through_the_orm(hits: Sequence[Made]) -> None:
    """Write hits as a Django program does."""
    for at, path, origin, number in hits:
        Counter.objects.increment(path, number, origin=origin, at=at)


def drop_days() -> None:
    """Drop all partitions: those that were closed by another test note late hits."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DO $$ DECLARE day regclass; BEGIN"
            " FOR day IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'counters_hit'::regclass"
            " LOOP EXECUTE 'DROP TABLE ' || day; END LOOP; END $$"
        )


def contents() -> dict[str, list[tuple[Any, ...]]]:
    """All rows of what maintenance writes, but for the times of its work, and which days it has closed."""
    with connection.cursor() as cursor:
        rows = {}
        for table, columns in (
            ("counters_counter", "*"),
            ("counters_hourlyhits", "*"),
            ("counters_hit", "*"),
            ("counters_dailyhits", "*"),
            ("counters_rollup", "*"),
            ("counters_dailypaths", "*"),
            ("counters_rolledday", "day, chained, removed"),
            ("counters_lateday", "day"),
            ("counters_retention", "*"),
            ("counters_dimensionset", "*"),
            ("counters_visitorsalt", "*"),
            ("counters_batchledger", "*"),
        ):
            cursor.execute(f"SELECT {columns} FROM {table} AS t ORDER BY t::text")  # noqa: S608
            rows[table] = cursor.fetchall()
        return rows


# What the statistics answer


def answer(ask: Ask) -> Any:
    """What the statistics say. Raises NotKept."""
    function, question, argument, limit, after = ask
    match function:
        case "total":
            return stats.total(question)
        case "series":
            return stats.series(question, str(argument))
        case "by":
            return list(stats.by(question, str(argument), limit, after))
        case "tree":
            return list(stats.tree(question, int(argument), limit, after))
        case "path_report":
            return stats.path_report(question, str(argument))
        case "ranking":
            return list(stats.ranking(question))
        case "page":
            return stats.page(question, limit or 1, after)
        case "overview":
            return stats.overview(question, str(argument), OVERVIEW_NAMES, limit or 1, before(question))
    raise AssertionError(function)


def before(question: Question) -> Question | None:
    """The same question about the period before, if there is one."""
    try:
        return replace(question, period=question.period.previous())
    except PeriodInvalid:
        return None


def check(world: World, ask: Ask) -> bool:
    """Hold an answer against the oracle's; whether there was one, and not rightly none."""
    try:
        given = answer(ask)
    except NotKept:
        if suffices(world, ask):
            raise
        return False
    match ask.function:
        case "series":
            check_series(world, ask.question, str(ask.argument), given)
        case "path_report":
            check_path_report(world, ask.question, str(ask.argument), given)
        case "overview":
            check_overview(world, ask, given)
        case _:
            assert (
                [*map(tuple, given)] == expected(world, ask)
                if isinstance(given, list)
                else given == figures(matching(world, ask.question))
            ), ask
    return True


# What the oracle says


def matching(world: World, question: Question) -> list[Seen]:
    """The hits that are asked for."""
    start, end, _ = question.period
    return [
        seen
        for seen in world.seen
        if (start is None or start.timestamp() <= seen.at.timestamp())
        and (end is None or seen.at.timestamp() < end.timestamp())
        and seen.path.startswith(question.prefix)
        and (not question.path or seen.path == question.path)
        and all(value_of(seen, name) == value for name, value in question.filters.items())
    ]


def value_of(seen: Seen, dimension: str) -> str:
    value = getattr(seen.dimensions, dimension)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def figures(hits: Iterable[Seen]) -> Figures:
    hits = list(hits)
    visitors = {seen.visitor for seen in hits if seen.visitor}
    return Figures(sum(seen.number for seen in hits), len(visitors), len({seen.path for seen in hits}))


def grouped(hits: Iterable[Seen], key: Callable[[Seen], Any]) -> dict[Any, Figures]:
    groups: dict[Any, list[Seen]] = {}
    for seen in hits:
        groups.setdefault(key(seen), []).append(seen)
    return {name: figures(some) for name, some in groups.items()}


def expected(world: World, ask: Ask) -> list[tuple[Any, ...]]:
    """The rows of a list, in order."""
    hits, argument = matching(world, ask.question), ask.argument
    match ask.function:
        case "by":
            rows = [(value, f.hits, f.visitors) for value, f in grouped(hits, lambda s: value_of(s, argument)).items()]
        case "tree":
            nodes = grouped(hits, lambda seen: node(seen.path, ask.question.prefix, int(argument)))
            rows = [(path, f.hits, f.paths) for path, f in nodes.items()]
        case _:
            rows = [(path, f.hits) for path, f in grouped(hits, lambda seen: seen.path).items()]
    return listed(rows, ask.limit, ask.after)


def listed(rows: list[tuple[Any, ...]], limit: int | None, after: Position | None) -> list[tuple[Any, ...]]:
    """Rows of (name, hits, …): most hits first, ties by name, byte for byte; the next `limit` after a position."""
    places = sorted((-hits, name.encode(), (name, hits, *rest)) for name, hits, *rest in rows)
    following = [row for *place, row in places if not after or tuple(place) > (-after.hits, after.path.encode())]
    return following[:limit]


def node(path: str, prefix: str, depth: int) -> str:
    """The prefix and `depth` segments after it, with a slash if there is more."""
    segments = path.removeprefix(prefix).split("/")
    return path if len(segments) <= depth else prefix + "/".join(segments[:depth]) + "/"


# Intervals of time: all instants at which the clocks show the same hour (by the same offset), day, week, month


def interval_of(at: datetime, interval: str, tz: ZoneInfo) -> Hashable:
    local = at.astimezone(tz)
    return {
        "hour": (local.date(), local.hour, local.utcoffset()),
        "day": local.date(),
        "week": local.isocalendar()[:2],
        "month": (local.year, local.month),
    }[interval]


def check_series(world: World, question: Question, interval: str, points: Sequence[stats.Point]) -> None:
    """Every interval of the period is there once, begins when it begins, and has what came in it."""
    start, end, tz = question.period
    hits = matching(world, question)
    named = [interval_of(point.at, interval, tz) for point in points]
    found = {name: (point.hits, point.visitors) for name, point in zip(named, points, strict=True) if point.hits}
    wanted = grouped(hits, lambda seen: interval_of(seen.at, interval, tz))
    assert found == {name: (f.hits, f.visitors) for name, f in wanted.items()}, (question, interval)
    assert all((point.hits, point.visitors) == (0, 0) or point.hits for point in points)
    assert len(set(named)) == len(named)
    assert all(str(point.at.tzinfo) == str(tz) for point in points)
    instants = [point.at.astimezone(UTC) for point in points]
    just_before = timedelta(microseconds=1)
    assert all(interval_of(at - just_before, interval, tz) != name for at, name in zip(instants, named, strict=True))
    assert all(
        interval_of(b - just_before, interval, tz) == n for n, (_, b) in zip(named, pairwise(instants), strict=False)
    )
    if start and end:
        if start < end and world.days:
            assert named[0] == interval_of(start, interval, tz)
            assert named[-1] == interval_of(end.astimezone(UTC) - just_before, interval, tz)
        else:
            assert not points


def check_path_report(world: World, question: Question, interval: str, report: stats.PathReport) -> None:
    of_path = [seen for seen in world.seen if seen.path == question.path]
    hits = matching(world, question)
    assert (report.path, report.count) == (question.path, sum(seen.number for seen in of_path))
    assert (report.first_hit, report.last_hit) == (
        min((seen.at for seen in of_path), default=None),
        max((seen.at for seen in of_path), default=None),
    )
    assert (report.hits, report.visitors) == figures(hits)[:2], question
    check_series(world, question, interval, report.series)
    for name in NAMES:
        shares = [(value, f.hits, f.visitors) for value, f in grouped(hits, lambda s, n=name: value_of(s, n)).items()]
        assert [*map(tuple, report.dimensions[name])] == listed(shares, 10, None), (name, question)


def check_overview(world: World, ask: Ask, overview: stats.Overview) -> None:
    hits, earlier = matching(world, ask.question), before(ask.question)
    assert (overview.hits, overview.visitors) == figures(hits)[:2], ask
    check_series(world, ask.question, str(ask.argument), overview.series)
    assert overview.paths == expected(world, ask._replace(after=None)), ask
    assert overview.dimensions.keys() == {*OVERVIEW_NAMES}
    for name, shares in overview.dimensions.items():
        wanted = [(value, count) for value, count, _ in expected(world, Ask("by", ask.question, name, ask.limit))]
        assert shares == wanted, (name, ask)
    if overview.previous is not None:
        assert earlier and overview.previous == figures(matching(world, earlier))[:2], ask
    else:
        assert not earlier or not suffices(world, Ask("by", earlier, "bot")), ask


def check_place(world: World, path: str) -> None:
    """The path has its place among all, and none without a hit."""
    of_all = listed([(name, f.hits) for name, f in grouped(world.seen, lambda seen: seen.path).items()], None, None)
    places = [name for name, _ in of_all]
    wanted = (places.index(path) + 1, len(places)) if path in places else None
    assert stats.place(path) == wanted


def check_search(world: World, text: str, limit: int) -> None:
    """The paths that have these bytes somewhere, most requested first."""
    found = [seen for seen in world.seen if text in seen.path]
    rows = [(name, f.hits) for name, f in grouped(found, lambda seen: seen.path).items()]
    assert stats.search(text, limit) == listed(rows, limit, None), text


# What must be answered, whatever has been dropped


def suffices(world: World, ask: Ask) -> bool:
    """Whether what is kept must be enough to answer.

    Of the days whose hit rows are kept, everything can be told. Of those before:
    - lists (ranking, tree) without filters: by whole UTC days, and by full hours (UTC) as long as hours are kept; of
      bots or of people alone, by whole UTC days; always, when no time is named: then the counters tell;
    - hits and visitors of the whole site, by one dimension at most, bot aside: by whole UTC days, and by full hours as
      long as hours are kept. A series divides days by its intervals;
    - hits and visitors of one path, by one dimension at most, bot aside: by whole UTC days;
    - distinct paths of the whole site: as a list.
    """
    if ask.function == "overview":
        return all(suffices(world, part) for part in parts_of_overview(ask))
    if not ask.question.always or ask.function not in ("tree", "ranking", "page"):
        grains = sufficient(ask)
        return all(
            grain in grains and (grain != "hour" or day >= world.hours_since)
            for day, grain in dropped_parts(world, ask)
        )
    return True


def parts_of_overview(ask: Ask) -> Iterator[Ask]:
    yield ask._replace(function="series")
    yield ask._replace(function="page")
    yield from (Ask("by", ask.question, name) for name in (*OVERVIEW_NAMES, "bot"))


def sufficient(ask: Ask) -> set[str]:
    """By what a day without hit rows can be read that answers."""
    question, dimensions = ask.question, {*ask.question.filters} - {"bot"}
    lists = set() if dimensions else {"day"} if question.filters else {"day", "hour"}
    if ask.function in ("tree", "ranking", "page"):
        return lists
    if ask.function == "path_report":
        return set() if dimensions else {"day"}
    if ask.function == "by":
        dimensions |= {str(ask.argument)} - {"bot"}
    if len(dimensions) > 1 or "referrer_url" in dimensions or question.prefix not in SITE:
        return set()
    if question.path:
        return {"day"}
    return lists if ask.function == "total" else {"day", "hour"}


def dropped_parts(world: World, ask: Ask) -> Iterator[tuple[date, str]]:
    """The days without hit rows of which a part is asked for, and by what each can be read."""
    start, end, tz = ask.question.period
    for day in sorted(world.days):
        midnight = datetime.combine(day, time(), UTC)
        begins = max(start.astimezone(UTC), midnight) if start else midnight
        ends = min(end.astimezone(UTC), midnight + DAY) if end else midnight + DAY
        if day >= world.hits_since or begins >= ends:
            continue
        divided = []
        if ask.function in ("series", "path_report"):
            steps = [midnight + n * STEP for n in range(1, 96)]
            divided = [
                at
                for at in steps
                if begins < at < ends
                and interval_of(at, str(ask.argument), tz) != interval_of(at - STEP, str(ask.argument), tz)
            ]
        if not divided and (begins, ends) == (midnight, midnight + DAY):
            yield day, "day"
        elif all((at.minute, at.second, at.microsecond) == (0, 0, 0) for at in (*divided, begins, ends)):
            yield day, "hour"
        else:
            yield day, "hit"
