"""Hits and visitors summed up from whichever tables answer for a question: the SQL of the statistics.

What is asked of the paths is put together here from a few parts, since a period may be answered by several tables at
once (counters/sources.py). Values are quoted by psycopg; none is pasted in as text.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from typing import LiteralString, NamedTuple
from uuid import UUID

from psycopg import sql

from counters.dimensions import NAMES, REFERRER_URL
from counters.hits import counter_id
from counters.questions import Question
from counters.sources import Kind, Source, Span, Spans, There, spans
from counters.sql import load

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
NOTHING = sql.SQL("")

_VALUES_OF_HITS = sql.SQL(load("values_of_hits"))
_HITS_OF_VALUES = sql.SQL(load("hits_of_values"))
_HITS_OF_ROLLUPS = sql.SQL(load("hits_of_rollups"))


def _column(dimension: str, table: str = "d") -> sql.Composable:
    """The value of a dimension in a row of DimensionSet, as text; "" has one value."""
    return sql.SQL(_EXPRESSIONS.get(dimension, "{table}.{name}")).format(
        table=sql.SQL(table), name=sql.Identifier(dimension or "none")
    )


_EXPRESSIONS: dict[str, LiteralString] = {
    "": "''",
    "bot": "CASE WHEN {table}.bot THEN 'true' ELSE 'false' END",
    "status": "coalesce({table}.status::text, '')",
}


class Scope(NamedTuple):
    """A question, what there is to answer it, and the keys of its paths when they are few.

    `since`: none of its hits came before. Nothing is asked of those days, whatever is kept of them.
    """

    question: Question
    there: There
    ids: Sequence[UUID] | None = None
    since: datetime = FIRST

    @property
    def start(self) -> datetime:
        """Where the period begins, in UTC as all times here: what is a full hour or day is seen by the clock of UTC."""
        return (self.question.period.start or self.since).astimezone(UTC)

    @property
    def end(self) -> datetime:
        return (self.question.period.end or LAST).astimezone(UTC)


def tally(scope: Scope, dimension: str = "", bounds: Sequence[datetime] = ()) -> sql.Composable:
    """A relation (bucket, value, hits, visitors) by the values of a dimension, "" for none.

    `bounds` are the sorted starts of the buckets, which are numbered from 1; without them there is one. Raises NotKept.
    """
    return tally_of(scope, parts_of_tally(scope, dimension, bounds), dimension, bounds)


def parts_of_tally(scope: Scope, dimension: str = "", bounds: Sequence[datetime] = ()) -> Spans:
    """Where to read what `tally` adds up. Raises NotKept."""
    return spans(scope.there, kind_of(scope.question, dimension), scope.start, scope.end, bounds)


def tally_of(scope: Scope, parts: Spans, dimension: str = "", bounds: Sequence[datetime] = ()) -> sql.Composable:
    """The relation `tally` of these parts alone."""
    starts = [max(scope.start, bounds[0]), *bounds[1:]] if bounds else [scope.start]
    relations = [_of_hits(scope, dimension, starts, parts[Source.HITS])] if parts[Source.HITS] else []
    if parts[Source.DAYS] or parts[Source.HOURS]:
        relations.append(_of_rollups(scope, dimension, starts, _rolled_up(scope, dimension, parts)))
    return sql.SQL(
        "SELECT bucket, value, sum(hits)::bigint AS hits, sum(visitors)::bigint AS visitors FROM ({}) AS part"
        " GROUP BY bucket, value HAVING sum(hits) > 0"
    ).format(_together(relations, "SELECT 1 AS bucket, '' AS value, 0 AS hits, 0 AS visitors WHERE false"))


def counts(scope: Scope) -> sql.Composable:
    """A relation (counter_id, hits) of the paths that have any. Raises NotKept."""
    return counts_of(scope, parts_of_counts(scope))


def parts_of_counts(scope: Scope) -> Spans:
    """Where to read the hits by path. Raises NotKept."""
    filters = scope.question.filters
    kind = Kind.OTHER if filters.keys() - {"bot"} else Kind.PATH if filters else Kind.COUNTS
    return spans(scope.there, kind, scope.start, scope.end)


def counts_of(scope: Scope, parts: Spans) -> sql.Composable:
    """The relation `counts` of these parts alone."""
    filters = scope.question.filters
    relations = [
        sql.SQL("SELECT counter_id, {} AS hits FROM {} WHERE {} AND {}").format(
            hits, table, where, _of_paths(scope, sql.SQL("counter_id"))
        )
        for hits, table, where in (
            (
                HITS_OF_DAYS[filters.get("bot")],
                sql.SQL("counters_dailyhits"),
                on_days(sql.SQL("day"), parts[Source.DAYS]),
            ),
            (sql.SQL("hits"), sql.SQL("counters_hourlyhits"), _within(sql.SQL("hour"), parts[Source.HOURS])),
        )
        if where is not NOTHING
    ]
    if parts[Source.HITS]:
        relations.append(sql.SQL("SELECT h.counter_id, h.hits {}").format(_hits(scope, filters, parts[Source.HITS])))
    return sql.SQL(
        "SELECT counter_id, sum(hits)::bigint AS hits FROM ({}) AS part GROUP BY counter_id HAVING sum(hits) > 0"
    ).format(_together(relations, "SELECT NULL::uuid AS counter_id, 0 AS hits WHERE false"))


#: The hits of a row of DailyHits that are asked for, by the filter of bots.
HITS_OF_DAYS = {None: sql.SQL("hits"), "true": sql.SQL("bot_hits"), "false": sql.SQL("hits - bot_hits")}


def kind_of(question: Question, dimension: str = "") -> Kind:
    """What has been summed up for a question about a dimension; bots are told apart in all that has."""
    involved = {*question.filters, dimension} - {"", "bot"}
    if len(involved) > 1 or REFERRER_URL in involved or question.prefix not in ("", "/"):
        return Kind.OTHER
    return Kind.PATH if question.path else Kind.SITE


def _of_hits(scope: Scope, dimension: str, starts: list[datetime], where: list[Span]) -> sql.Composable:
    """Hits and visitors by bucket and value, from hit rows."""
    return sql.SQL(
        "SELECT bucket, value, sum(hits) AS hits, count(visitor) AS visitors FROM ("
        "SELECT {bucket} AS bucket, {value} AS value, h.visitor, sum(h.hits) AS hits {hits} GROUP BY 1, 2, 3"
        ") AS seen GROUP BY 1, 2"
    ).format(
        bucket=_bucket(sql.SQL("h.at"), starts),
        value=_column(dimension),
        hits=_hits(scope, [*scope.question.filters, *([dimension] if dimension else [])], where),
    )


def _hits(scope: Scope, dimensions: Collection[str], where: list[Span]) -> sql.Composable:
    """The hit rows that are asked for, with their dimensions if any of those is."""
    # Combinations that were last in use before the first of these days have none of its hits.
    join = (
        sql.SQL("JOIN counters_dimensionset AS d ON d.id = h.dimensions_id AND d.seen >= {}").format(where[0][0].date())
        if dimensions
        else NOTHING
    )
    conditions = [
        _within(sql.SQL("h.at"), where),
        _of_paths(scope, sql.SQL("h.counter_id")),
        *(sql.SQL("{} = {}").format(_column(name), value) for name, value in scope.question.filters.items()),
    ]
    return sql.SQL("FROM counters_hit AS h {} WHERE {}").format(join, sql.SQL(" AND ").join(conditions))


def _of_rollups(scope: Scope, dimension: str, starts: list[datetime], rolled_up: sql.Composable) -> sql.Composable:
    """Hits and visitors by bucket and value, from a relation (start, value, bot, gap, hits, visitors).

    Of visitors, those are counted that were not seen before in the bucket: whose gap reaches back before its start.
    """
    filters = scope.question.filters
    by = {"": sql.SQL("''"), "bot": sql.SQL("CASE WHEN bot THEN 'true' ELSE 'false' END")}
    conditions = [
        sql.SQL("{} = {}").format(by["bot"] if name == "bot" else sql.SQL("value"), value)
        for name, value in filters.items()
    ]
    return sql.SQL(
        "SELECT {bucket} AS bucket, {value} AS value, sum(hits) AS hits,"
        " coalesce(sum(visitors) FILTER (WHERE gap = 0 OR start - gap * interval '1 hour' < {bucket_start}), 0)"
        " AS visitors"
        " FROM ({rolled_up}) AS rolled_up WHERE {conditions} GROUP BY 1, 2"
    ).format(
        bucket=_bucket(sql.SQL("start"), starts),
        value=by.get(dimension, sql.SQL("value")),
        bucket_start=_bucket_start(sql.SQL("start"), starts),
        rolled_up=rolled_up,
        conditions=sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true"),
    )


def _rolled_up(scope: Scope, dimension: str, parts: dict[Source, list[Span]]) -> sql.Composable:
    """The relation (start, value, bot, gap, hits, visitors) of one path's, or all paths', days and hours."""
    stored = _stored(scope, dimension)
    if scope.question.path:
        return _days_of_path(scope, stored, parts[Source.DAYS])
    return sql.SQL(
        "SELECT start, value, bot, gap, hits, visitors FROM counters_rollup WHERE dimension = {} AND {}"
    ).format(stored, _by_grain(parts))


def _stored(scope: Scope, dimension: str) -> str:
    """The dimension under which it is stored what is asked by this one."""
    return next(iter({*scope.question.filters, dimension} - {"", "bot"}), "")


def _by_grain(parts: Spans, of: sql.Composable = NOTHING) -> sql.Composable:
    """The condition that a row of Rollup tells of these days, or hours."""
    conditions = [
        sql.SQL("({of}grain = {grain} AND {within})").format(
            of=of, grain=grain, within=_within(sql.SQL("{}start").format(of), parts[source])
        )
        for source, grain in ((Source.DAYS, "day"), (Source.HOURS, "hour"))
        if parts[source]
    ]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(conditions))


def _days_of_path(scope: Scope, stored: str, where: list[Span]) -> sql.Composable:
    """The relation of one path's days; of no dimension, it has the value ""."""
    return sql.SQL(
        "SELECT d.day::timestamp AT TIME ZONE 'UTC' AS start, v.value, a.bot, 0 AS gap, a.hits, a.visitors"
        " FROM counters_dailyhits AS d {values} {audiences} WHERE d.counter_id = {id} AND {days}"
    ).format(
        values=_VALUES_OF_DAYS.format(stored) if stored else _TOTALS_OF_DAYS,
        audiences=_AUDIENCES,
        id=counter_id(scope.question.path),
        days=on_days(sql.SQL("d.day"), where),
    )


_TOTALS_OF_DAYS = sql.SQL(
    "CROSS JOIN LATERAL (SELECT '' AS value, d.hits, d.visitors, d.bot_hits, d.bot_visitors) AS v"
)
# Of a dimension that is left out nothing is known: the day's own figures are those of the unknown value.
_VALUES_OF_DAYS = sql.SQL(
    "CROSS JOIN LATERAL ("
    "SELECT e.key AS value, (e.value->>0)::bigint AS hits, (e.value->>1)::bigint AS visitors,"
    " coalesce((e.value->>2)::bigint, 0) AS bot_hits, coalesce((e.value->>3)::bigint, 0) AS bot_visitors"
    " FROM json_each(coalesce(d.dimensions::json -> {}, json_build_object('',"
    " json_build_array(d.hits, d.visitors, d.bot_hits, d.bot_visitors)))) AS e"
    ") AS v"
)
_AUDIENCES = sql.SQL(
    "CROSS JOIN LATERAL (VALUES (false, v.hits - v.bot_hits, v.visitors - v.bot_visitors),"
    " (true, v.bot_hits, v.bot_visitors)) AS a (bot, hits, visitors)"
)


class OfOnePath(NamedTuple):
    """Where the values of all dimensions of one path are read, each None when there is nothing to read.

    `days`: a relation (hits, visitors, bot_hits, bot_visitors, dimensions), as in models.DailyHits.
    `hits`: a relation (dimension, value, hits, visitors).
    """

    days: sql.Composable | None
    hits: sql.Composable | None


def of_one_path(scope: Scope) -> OfOnePath:
    """What tells the values of all dimensions at once, for a question about one path. Raises NotKept."""
    kind = Kind.OTHER if scope.question.filters.keys() - {"bot"} else Kind.PATH
    parts = spans(scope.there, kind, scope.start, scope.end)
    days = sql.SQL(
        "SELECT hits, visitors, bot_hits, bot_visitors, dimensions FROM counters_dailyhits WHERE counter_id = {} AND {}"
    ).format(counter_id(scope.question.path), on_days(sql.SQL("day"), parts[Source.DAYS]))
    hits = _values_of_hits(scope, NAMES, parts[Source.HITS]) if parts[Source.HITS] else None
    return OfOnePath(days if parts[Source.DAYS] else None, hits)


def hits_of_values(scope: Scope, names: Sequence[str]) -> list[sql.Composable]:
    """Relations (dimension, value, hits) that together tell the values of these dimensions. Raises NotKept.

    Not for a question about one path. Visitors would have to be told apart, which takes twice as long.
    """
    relations = []
    for kind in (Kind.SITE, Kind.OTHER):
        of_kind = [name for name in names if kind_of(scope.question, name) is kind]
        parts = spans(scope.there, kind, scope.start, scope.end) if of_kind else {source: [] for source in Source}
        if parts[Source.DAYS] or parts[Source.HOURS]:
            relations.append(_hits_of_rollups(scope, of_kind, parts))
        if parts[Source.HITS]:
            relations.append(_hits_of_hits(scope, of_kind, parts[Source.HITS]))
    return relations


def _hits_of_rollups(scope: Scope, names: Sequence[str], parts: Spans) -> sql.Composable:
    filters = scope.question.filters
    conditions = [
        _by_grain(parts, sql.SQL("r.")),
        *(
            sql.SQL("r.bot = {}").format(value == "true") if name == "bot" else sql.SQL("r.value = {}").format(value)
            for name, value in filters.items()
        ),
    ]
    return _HITS_OF_ROLLUPS.format(
        asked=sql.SQL(", ").join(sql.SQL("({}, {})").format(name, _stored(scope, name)) for name in names),
        conditions=sql.SQL(" AND ").join(conditions),
    )


def _hits_of_hits(scope: Scope, names: Sequence[str], where: list[Span]) -> sql.Composable:
    return _HITS_OF_VALUES.format(
        hits=_hits(scope, scope.question.filters, where),
        since=where[0][0].date(),
        # All combinations of a day are read in less time than most of them are looked up in.
        asked=sql.SQL("d.id IN (SELECT id FROM combination)" if _is_narrow(scope) else "true"),
        **_grouped_by(names),
    )


def _values_of_hits(scope: Scope, names: Sequence[str], where: list[Span]) -> sql.Composable:
    return _VALUES_OF_HITS.format(
        hits=_hits(scope, scope.question.filters, where),
        since=where[0][0].date(),
        pairs_of_columns=_each(names, ", ", "known.{column}, first.{column} AS {first}"),
        others=_each(names, " UNION ALL ", _ANOTHER_VALUE),
        **_grouped_by(names),
    )


def _grouped_by(names: Sequence[str]) -> dict[str, sql.Composable]:
    """What a statement needs that groups by several dimensions at once."""
    return {
        "columns": _each(names, ", ", "{value} AS {column}"),
        "dimension": _each(names, " ", "WHEN grouping({column}) = 0 THEN {name}"),
        "names": _each(names, ", ", "{column}"),
        "sets": _each(names, ", ", "({column})"),
    }


def _each(names: Sequence[str], between: LiteralString, template: LiteralString) -> sql.Composable:
    return sql.SQL(between).join(
        sql.SQL(template).format(
            name=name, column=sql.Identifier(name), first=sql.Identifier(f"first_{name}"), value=_column(name)
        )
        for name in names
    )


_ANOTHER_VALUE: LiteralString = (
    "SELECT {name}, value, 0, count(*) FROM ("
    "SELECT DISTINCT {column} AS value, visitor FROM later WHERE {column} <> {first}) AS another GROUP BY 2"
)


def _is_narrow(scope: Scope) -> bool:
    """Whether only some hits are asked for."""
    question = scope.question
    return bool(question.path or question.prefix not in ("", "/") or question.filters.keys() - {"bot"})


def _bucket(time: sql.Composable, starts: list[datetime]) -> sql.Composable:
    if len(starts) == 1:
        return sql.SQL("1")
    return sql.SQL("width_bucket({}, {}::timestamptz[])").format(time, starts)


def _bucket_start(time: sql.Composable, starts: list[datetime]) -> sql.Composable:
    if len(starts) == 1:
        return sql.Literal(starts[0])
    return sql.SQL("({}::timestamptz[])[{}]").format(starts, _bucket(time, starts))


def _within(time: sql.Composable, where: Sequence[tuple[datetime, datetime] | tuple[date, date]]) -> sql.Composable:
    """The condition that a time lies in one of the spans; NOTHING when there is none."""
    spans = [sql.SQL("({0} >= {1} AND {0} < {2})").format(time, *span) for span in where]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(spans)) if spans else NOTHING


def on_days(day: sql.Composable, where: list[Span]) -> sql.Composable:
    """The condition that a UTC day lies in one of the spans; NOTHING when there is none."""
    return _within(day, [(start.date(), end.date()) for start, end in where])


def _of_paths(scope: Scope, key: sql.Composable) -> sql.Composable:
    """The condition that a hit is of the paths that are asked for."""
    question = scope.question
    if question.path:
        return sql.SQL("{} = {}").format(key, counter_id(question.path))
    if scope.ids is not None:
        return sql.SQL("{} = ANY({}::uuid[])").format(key, list(scope.ids))
    if question.prefix in ("", "/"):
        return sql.SQL("true")
    return sql.SQL("{} IN (SELECT id FROM counters_counter WHERE {})").format(key, begins_with(question.prefix))


def begins_with(prefix: str) -> sql.Composable:
    """The condition that a counter's path begins with this; see models.path_begins_with."""
    return sql.SQL("path >= {} AND path < {}").format(prefix, prefix + "\x7f")


def _together(relations: Sequence[sql.Composable], none: str) -> sql.Composable:
    return sql.SQL(" UNION ALL ").join(relations) if relations else sql.SQL(none)
