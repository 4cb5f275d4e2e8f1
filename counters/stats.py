"""Every read of the counts: the REST API, the admin and the commands share these functions. No request objects.

Each answer is read in one snapshot, whatever is committed or dropped meanwhile. What is given row by row is read while
it is given, and holds its snapshot until it is at its end or closed.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet, Value
from psycopg import sql

from counters import days, hits, leaders, tallies
from counters.bounds import TookTooLong, bounded_read
from counters.dimensions import NAMES
from counters.figures import Node, Overview, PathReport, Place, Point, Row, Share, Total, values_of_days
from counters.models import NO_MAGNITUDE, ONE_HIT, Counter, magnitude_of, path_begins_with
from counters.periods import buckets
from counters.questions import Position, Question
from counters.sources import Kind, NotKept, Source, Span, right, spans, whats_there, within
from counters.sql import load
from counters.tallies import FIRST, Scope

__all__ = [
    "Node",
    "NotKept",
    "Overview",
    "PathReport",
    "Place",
    "Point",
    "Position",
    "Question",
    "Row",
    "Share",
    "TookTooLong",
    "Total",
]

#: How many values of each dimension are told of one path.
TOP = 10
#: The paths with a prefix are looked up one by one when they are at most so many.
FEW_PATHS = 1_000
ROWS_AT_ONCE = 2_000

# Locked before the snapshot is taken: no day can be dropped from then on. In memory, 10 million hits fit well.
_SNAPSHOT = """
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
LOCK TABLE counters_hit IN ACCESS SHARE MODE;
"""
# PostgreSQL takes the nodes to be as many as the paths, and does not think it worth while.
_BY_ALL_PROCESSES = "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0"
# An overview passes over much at once: with two processes, in nine tenths of the time.
_BY_SOME_PROCESSES = "SET LOCAL parallel_setup_cost = 100; SET LOCAL parallel_tuple_cost = 0.001"
_TUNED = "SET LOCAL jit = off; SET LOCAL work_mem = '64MB'"


_TOP_HITS = sql.SQL(load("top_hits"))


def count(path: str) -> int:
    """The hits of all times of one path; 0 of one without a counter."""
    return sum(Counter.objects.filter(id=hits.counter_id(path)).values_list("hits", flat=True))


def days_with_hits() -> tuple[date, date]:
    """The first and the last UTC day that have hits, or may have; today if there is none."""
    there = [day.day for day in whats_there().days] or [hits.now().date()]
    return there[0], there[-1]


def single_hits_since() -> date | None:
    """The first UTC day whose hits are still kept one by one; None where all are."""
    since = whats_there().hits_since
    return None if since == date.min else since


def is_kept(question: Question) -> bool:
    """Whether what is kept tells the hits and visitors that are asked for."""
    with _snapshot():
        try:
            tallies.parts_of_tally(_scope(question))
        except NotKept:
            return False
        return True


def counters_ranked(prefix: str = "") -> "QuerySet[Counter, Row]":
    """All counters with hits whose path begins with `prefix`, as (path, hits): most hits first, ties by path.

    In the order of the magnitude index: PostgreSQL reads that from its beginning and sorts only within a magnitude.
    """
    return _counted(prefix).order_by("-magnitude", "-hits", "path").values_list("path", "hits")


def ranking(question: Question) -> Iterator[Row]:
    """The paths and their hits, most hits first, ties by path. Raises NotKept with the first row."""
    if question.always and not question.path:
        yield from counters_ranked(question.prefix).iterator(chunk_size=ROWS_AT_ONCE)
        return
    with _snapshot():
        yield from _streamed(_ranked(_scope(question)))


def page(question: Question, limit: int, after: Position | None = None) -> list[Row]:
    """The next `limit` rows of the ranking, from its beginning or `after` a position. Raises NotKept."""
    if question.always and not question.path:
        return _page_of_counters(limit, question.prefix, after)
    with _snapshot():
        scope = _scope(question)
        return _leaders(scope, limit) if after is None else _rows(_ranked(scope, limit, after))


def total(question: Question) -> Total:
    """Raises NotKept."""
    with _snapshot():
        scope = _scope(question)
        found, visitors = _figures(scope)
        return Total(found, visitors, _paths(scope) if found else 0)


def series(question: Question, interval: str) -> list[Point]:
    """Hits and visitors of every interval of the period, empty ones included. Raises NotKept, PeriodInvalid."""
    with _snapshot():
        return _series(_scope(question), interval)


def by(question: Question, dimension: str, limit: int | None = None, after: Position | None = None) -> Iterator[Share]:
    """The values of a dimension, most hits first, ties by value. Raises NotKept with the first row."""
    with _snapshot():
        for row in _streamed(_values(_scope(question), dimension, limit, after)):
            yield Share(*row)


def tree(question: Question, depth: int, limit: int | None = None, after: Position | None = None) -> Iterator[Node]:
    """The paths below the prefix, summed up `depth` segments below it; most hits first. Raises NotKept at the first."""
    with _snapshot(), connection.cursor() as cursor:
        cursor.execute(_BY_ALL_PROCESSES)
        nodes = _nodes(question.prefix, depth, _paths_and_hits(_scope(question)))
        for row in _streamed(_part_of(nodes, "node", limit, after)):
            yield Node(*row)


def path_report(question: Question, interval: str) -> PathReport:
    """All about the question's path; a path without a counter has no hits. Raises NotKept, PeriodInvalid."""
    with _snapshot():
        scope = _scope(question)
        counter = Counter.objects.filter(id=hits.counter_id(question.path)).first()
        points, values = _series(scope, interval), _top_values(scope)
        return PathReport(
            question.path,
            counter.hits if counter else 0,
            counter.first_hit if counter else None,
            counter.last_hit if counter else None,
            *_sums(values["bot"]),
            points,
            values,
        )


def overview(
    question: Question, interval: str, names: Sequence[str], top: int, before: Question | None = None
) -> Overview:
    """The question's figures at a glance, with the `top` paths and values of each of these dimensions.

    `before` asks for what to compare with. Raises NotKept, of the question itself alone, and PeriodInvalid.
    """
    with _snapshot(), connection.cursor() as cursor:
        cursor.execute(_BY_SOME_PROCESSES)
        scope = _scope(question)
        starts = _starts(scope, interval)
        total = _figures(scope)
        return Overview(
            *total,
            _figures_if_kept(before) if before else None,
            _points(scope, starts, total),
            _leaders(scope, top),
            _values_at_once(scope, names, top),
        )


def place(path: str) -> Place | None:
    """Where a path stands in the ranking of all times; None without a hit."""
    with _snapshot():
        counter = _counted("").filter(id=hits.counter_id(path)).first()
        if counter is None:
            return None
        more = Q(magnitude__gt=counter.magnitude)
        ties = Q(magnitude=counter.magnitude) & (Q(hits__gt=counter.hits) | Q(hits=counter.hits, path__lt=path))
        return Place(1 + _counted("").filter(more | ties).count(), _counted("").count())


def search(text: str, limit: int) -> list[Row]:
    """The most requested paths that contain this text, byte for byte; all do the empty one. Raises TookTooLong."""
    if not text.isascii() or "\0" in text:  # no counted path is like that
        return []
    with bounded_read():
        return list(counters_ranked().filter(path__contains=text)[:limit])


def version(question: Question) -> str | None:
    """What changes when the answer to a question does; None when that cannot be told without answering it."""
    with _snapshot():
        scope = Scope(question, whats_there())
        asked = within(scope.there, scope.start, scope.end)
        added = (right(scope.there, day) and not (day.partition and day.day < scope.there.hits_since) for day in asked)
        if question.path or not all(added):
            return None
        rolled = _rows(
            sql.SQL("SELECT day::text, rolled::text FROM counters_rolledday WHERE day = ANY({}) ORDER BY day").format(
                [day.day for day in asked]
            )
        )
        return blake2b(repr((rolled, *scope.there[1:])).encode(), digest_size=16).hexdigest()


def _counted(prefix: str) -> "QuerySet[Counter]":
    counted = Counter.objects.filter(magnitude__gt=NO_MAGNITUDE)
    return counted.filter(path_begins_with(prefix)) if prefix else counted


def _first_counters(limit: int) -> list[Row]:
    """The first rows of the ranking of all counters, by as much of the magnitude index as they need."""
    # PostgreSQL is told how far to read: else it takes a sort of all for quicker where most have one magnitude.
    ranked = counters_ranked()
    magnitudes = _counted("").order_by("-magnitude", "path").values_list("magnitude", flat=True)
    lowest = magnitudes[limit - 1 : limit].first()
    if lowest is None:  # there are not so many
        return list(ranked[:limit])
    if lowest > ONE_HIT:
        rows = list(ranked.filter(magnitude__gte=lowest)[:limit])
        if len(rows) == limit:  # else some have been reset since
            return rows
    rows = list(ranked.filter(magnitude__gt=ONE_HIT)[:limit])
    # Those with one hit lie in the index as they are ranked.
    return rows + list(ranked.filter(magnitude=ONE_HIT).order_by("path")[: limit - len(rows)])


def _page_of_counters(limit: int, prefix: str, after: Position | None) -> list[Row]:
    if after is None:
        of_all = prefix in ("", "/")  # with which every path begins
        return _first_counters(limit) if of_all else list(counters_ranked(prefix)[:limit])
    # Ties are read along the index (magnitude, path): a page in the midst of a million paths with one hit each is
    # as quick as the first.
    magnitude = magnitude_of(Value(after.hits))
    ties = counters_ranked(prefix).filter(magnitude=magnitude, hits=after.hits, path__gt=after.path)
    rows = list(ties.order_by("path")[:limit])
    if len(rows) < limit:
        fewer = counters_ranked(prefix).filter(magnitude__lte=magnitude, hits__lt=after.hits)
        rows += fewer[: limit - len(rows)]
    return rows


def _ranked(scope: Scope, limit: int | None = None, after: Position | None = None) -> sql.Composable:
    return _part_of(_paths_and_hits(scope), "path", limit, after)


def _leaders(scope: Scope, limit: int) -> list[Row]:
    """The first rows of the ranking. How deep the lists must be read is known once some of it has been."""
    if scope.question.always and not scope.question.path:
        return _page_of_counters(limit, scope.question.prefix, None)
    lists = leaders.lists(scope) if limit <= leaders.MOST else None
    if lists is None:
        return _rows(_ranked(scope, limit))
    of_known = _best_of_known(scope, limit) if limit <= leaders.MOST_KNOWN else None
    if of_known is not None:
        return of_known
    first = _best(scope, lists, limit, leaders.first_depth(limit))
    if first.settles(limit):
        return first.rows
    for depth in leaders.deeper(leaders.first_depth(limit), lists):
        [(unread,)] = _rows(leaders.unread(lists, depth))
        if not unread:  # that would be all of them
            break
        if first._replace(of_days=unread).settles(limit):
            return _best(scope, lists, limit, depth).rows
    return _rows(_ranked(scope, limit))


def _best_of_known(scope: Scope, limit: int) -> list[Row] | None:
    """The first rows, when they are of paths that have most hits of all times; None when others could be among them.

    No path has more hits in a period than it has of all times. So this settles what is most of the history there is.
    """
    known = _first_counters(leaders.KNOWN * limit)
    ids = [hits.counter_id(path) for path, _ in known]
    rows = _rows(_part_of(_paths_and_hits(scope._replace(ids=ids)), "path", limit, None))
    if len(known) < leaders.KNOWN * limit:
        return rows
    return rows if len(rows) == limit and rows[-1][1] > known[-1][1] else None


def _best(scope: Scope, lists: leaders.Lists, limit: int, depth: int) -> leaders.Found:
    return leaders.found(_rows(leaders.best(scope, lists, limit, depth)))


def _paths_and_hits(scope: Scope) -> sql.Composable:
    """A relation (path, hits) of the paths that are asked for and have any."""
    question = scope.question
    if question.always:
        where = sql.SQL("path = {}").format(question.path) if question.path else tallies.begins_with(question.prefix)
        return sql.SQL("SELECT path, hits FROM counters_counter WHERE hits > 0 AND {}").format(where)
    return sql.SQL("SELECT c.path, t.hits FROM ({}) AS t JOIN counters_counter AS c ON c.id = t.counter_id").format(
        tallies.counts(scope)
    )


def _part_of(ranked: sql.Composable, name: str, limit: int | None, after: Position | None) -> sql.Composable:
    """A relation with `hits` in the order of ranking, by name (as bytes) where hits are equal, from a position on."""
    by_name = sql.SQL('{} COLLATE "C"').format(sql.Identifier(name))
    statement = sql.SQL("SELECT * FROM ({}) AS ranked").format(ranked)
    if after:
        statement += sql.SQL(" WHERE (-hits, {}) > ({}, {})").format(by_name, -after.hits, after.path)
    statement += sql.SQL(" ORDER BY hits DESC, {}").format(by_name)
    return statement if limit is None else statement + sql.SQL(" LIMIT {}").format(limit)


def _nodes(prefix: str, depth: int, paths: sql.Composable) -> sql.Composable:
    """A relation (node, hits, paths) from one of (path, hits), by the first `depth` segments from the prefix on.

    By the segments, found with functions that take text as bytes: a million paths take half as long as by characters.
    """
    base = prefix[: prefix.rfind("/") + 1]
    first = base.count("/") + 1
    segments = (
        sql.SQL("split_part(path, '/', {})").format(first)
        if depth == 1
        else sql.SQL("array_to_string((string_to_array(path, '/'))[{}:{}], '/')").format(first, first + depth - 1)
    )
    return sql.SQL(
        "SELECT {base} || segments || CASE WHEN more THEN '/' ELSE '' END AS node, hits, paths FROM ("
        "SELECT {segments} AS segments, octet_length(path) > {length} + octet_length({segments}) AS more,"
        " sum(hits)::bigint AS hits, count(*) AS paths FROM ({paths}) AS p GROUP BY 1, 2) AS nodes"
    ).format(base=base, length=len(base), segments=segments, paths=paths)


def _paths(scope: Scope) -> int:
    """How many distinct paths have hits."""
    question = scope.question
    if question.path:
        return 1
    if not question.filters and question.period.end is None:
        return _paths_since(scope)
    if question.prefix in ("", "/") and not question.filters.keys() - {"bot"} and _is_whole_days(scope):
        return _paths_of_days(scope)
    relation = tallies.counts(scope)
    [(paths,)] = _rows(sql.SQL("SELECT count(*) FROM ({}) AS t").format(relation))
    return int(paths)


def _paths_since(scope: Scope) -> int:
    """Of an open end, the counters themselves tell: a path has hits since a time if its last hit is not before."""
    counted = _counted(scope.question.prefix)
    start = scope.question.period.start
    return (counted.filter(last_hit__gte=start) if start else counted).count()


def _is_whole_days(scope: Scope) -> bool:
    """Whether the period is made of UTC days whose paths have been counted."""
    asked = within(scope.there, scope.start, scope.end)
    parts = spans(scope.there, Kind.SITE, scope.start, scope.end)
    return not (parts[Source.HOURS] or parts[Source.HITS]) and all(day.chained for day in asked)


def _paths_of_days(scope: Scope) -> int:
    audience = {None: "all", "true": "bots", "false": "people"}[scope.question.filters.get("bot")]
    statement = sql.SQL(
        "SELECT coalesce(sum(paths), 0)::bigint FROM counters_dailypaths"
        " WHERE audience = {} AND day >= {} AND day < {} AND (gap = 0 OR day - gap < {})"
    )
    start, end = scope.start.date(), scope.end.date()
    [(paths,)] = _rows(statement.format(audience, start, end, start))
    return int(paths)


def _series(scope: Scope, interval: str) -> list[Point]:
    return _points(scope, _starts(scope, interval))


def _starts(scope: Scope, interval: str) -> list[datetime]:
    """When each interval begins, in UTC. Raises PeriodInvalid."""
    period = scope.question.period
    if not scope.there.days:
        return []
    first = period.start or max(scope.start, days.midnight(scope.there.days[0].day))
    return buckets(first, period.end or max(hits.now(), first), interval, period.tz)


def _points(scope: Scope, starts: list[datetime], total: tuple[int, int] | None = None) -> list[Point]:
    """What came in each interval. With the total, hits that lie in one need not be read for that: it has the rest."""
    if not starts:
        return []
    parts = tallies.parts_of_tally(scope, "", starts)
    rest = _bucket_with_the_rest(starts, parts[Source.HITS]) if total else None
    if rest is not None:
        parts[Source.HITS] = []
    figures = _rows(
        sql.SQL("SELECT bucket, hits, visitors FROM ({}) AS t").format(tallies.tally_of(scope, parts, "", starts))
    )
    found = {bucket: (found, visitors) for bucket, found, visitors in figures}
    if total and rest is not None:
        found.pop(rest, None)
        found[rest] = total[0] - sum(n for n, _ in found.values()), total[1] - sum(n for _, n in found.values())
    tz = scope.question.period.tz
    return [Point(start.astimezone(tz), *found.get(bucket, (0, 0))) for bucket, start in enumerate(starts, start=1)]


def _bucket_with_the_rest(starts: list[datetime], where: list[Span]) -> int | None:
    """The interval that all these spans lie in, if visitors add up over the intervals: these end with UTC days."""
    if not where or any(start != days.midnight(start.date()) for start in starts[1:]):
        return None
    first, last = bisect_right(starts, where[0][0]), bisect_left(starts, where[-1][1])
    return max(first, 1) if max(first, 1) == last else None


def _figures(scope: Scope) -> tuple[int, int]:
    """Hits and visitors."""
    [(found, visitors)] = _rows(
        sql.SQL("SELECT coalesce(sum(hits), 0)::bigint, coalesce(sum(visitors), 0)::bigint FROM ({}) AS t").format(
            tallies.tally(scope)
        )
    )
    return found, visitors


def _sums(bots: list[Share]) -> tuple[int, int]:
    """Hits and visitors; those of intervals do not add up, since a visitor of a day may come in several."""
    return sum(share.hits for share in bots), sum(share.visitors for share in bots)


def _figures_if_kept(question: Question) -> tuple[int, int] | None:
    try:
        return _figures(_scope(question))
    except NotKept:
        return None


def _values_at_once(scope: Scope, names: Sequence[str], top: int) -> dict[str, list[Row]]:
    """The `top` values of each dimension that have most hits."""
    if scope.question.path:
        return {name: [(value, n) for value, n, _ in _rows(_values(scope, name, top))] for name in names}
    values: dict[str, list[Row]] = {name: [] for name in names}
    relations = tallies.hits_of_values(scope, names)
    statement = _TOP_HITS.format(values=sql.SQL(" UNION ALL ").join(map(sql.SQL("({})").format, relations)), top=top)
    for name, value, found in _rows(statement) if relations else []:
        values[name].append((value, found))
    return values


def _values(scope: Scope, dimension: str, limit: int | None = None, after: Position | None = None) -> sql.Composable:
    shares = sql.SQL("SELECT value, hits, visitors FROM ({}) AS t").format(tallies.tally(scope, dimension))
    return _part_of(shares, "value", limit, after)


def _top_values(scope: Scope) -> dict[str, list[Share]]:
    """The values of each dimension that the path has most hits of.

    The days of a path are added up here: a much requested one has thousands of values each day, which PostgreSQL takes
    several times as long to unpack.
    """
    read = tallies.of_one_path(scope)
    found = values_of_days(_rows(read.days) if read.days else [], scope.question.filters.get("bot"))
    for name, value, *figures in _rows(read.hits) if read.hits else []:
        found[name, value] = [sum(two) for two in zip(found[name, value], figures, strict=True)]
    shares: dict[str, list[Share]] = {name: [] for name in NAMES}
    for (name, value), figures in found.items():
        if figures[0]:
            shares[name].append(Share(value, *figures))
    return {name: sorted(some, key=lambda share: (-share.hits, share.value))[:TOP] for name, some in shares.items()}


def _scope(question: Question) -> Scope:
    """The question with what is needed to answer it."""
    if not question.path and question.prefix in ("", "/"):
        return Scope(question, whats_there())
    asked = Counter.objects.filter(id=hits.counter_id(question.path)) if question.path else _counted(question.prefix)
    found = list(asked.values_list("id", "first_hit").order_by()[: FEW_PATHS + 1])
    if len(found) > FEW_PATHS:
        return Scope(question, whats_there())
    first = [days.midnight(at.astimezone(UTC).date()) for _, at in found if at]
    keys = None if question.path else [key for key, _ in found]
    return Scope(question, whats_there(), keys, min(first, default=FIRST))


@contextmanager
def _snapshot() -> Iterator[None]:
    """One state of the database for all that is read; within a transaction of the caller's, that one's."""
    outermost = not connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if outermost:
            cursor.execute(_SNAPSHOT)
        cursor.execute(_TUNED)
        yield


def _rows(statement: sql.Composable) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement.as_string(cursor.connection))
        rows: list[Any] = cursor.fetchall()
        return rows


def _streamed(statement: sql.Composable) -> Iterator[Any]:
    """The rows, read some at a time.

    Not through a cursor in the database, for which PostgreSQL does not use several processes.
    """
    with connection.cursor() as cursor, connection.wrap_database_errors:  # Django does so for what it knows
        yield from cursor.stream(statement.as_string(cursor.connection), size=ROWS_AT_ONCE)
