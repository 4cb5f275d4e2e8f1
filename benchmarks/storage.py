"""Where the dimensions of hits are kept best: three layouts, their size and their speed.

    python -m benchmarks.storage [--hits 10000000] [--paths 1000000] [--days 30] [--rounds 7]

On a fresh private PostgreSQL, with the hits of benchmarks/data.py, each a row with

* text: all values as text;
* narrow: small numbers, and a dictionary for each dimension;
* set: one number, and a dictionary of combinations (`counters.dimensions`).

Prints a Markdown table. The times are medians; so is that of a batch of 16 rows, whose dictionaries hold its values
and whose writer knows their numbers, without waiting for the disk.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, cast

import psycopg
from psycopg import sql

from benchmarks.data import copy_hits, copy_sets, hits, keys_of
from hitcounter.postgres import PrivatePostgres
from tests.service import PROJECT

SEED = 1
LAST_DAY = date(2026, 11, 23)
BATCH = 16
BATCHES, DIFFERENT_BATCHES = 4000, 200

#: The dimensions that narrow keeps in dictionaries, and the type of their numbers.
DICTIONARIES = {
    "consumer": "integer", "referrer": "integer", "referrer_url": "integer", "method": "smallint",
    "country": "smallint", "browser": "smallint", "os": "smallint", "device": "smallint",
    "route": "smallint",
}  # fmt: skip
#: Those that are numbers or booleans in every layout.
PLAIN = {"status": "smallint", "bot": "boolean"}

SESSION = "SET synchronous_commit = off; SET timezone = 'UTC'; SET work_mem = '1GB'; SET jit = off"
#: The queries run as the service's own do.
READER = "SET work_mem = '64MB'; SET max_parallel_workers_per_gather = {workers}"

MAKE_SET = """
CREATE TABLE dimension_set (
    id bigint PRIMARY KEY, seen date NOT NULL, method text NOT NULL, status smallint, consumer text NOT NULL,
    country text NOT NULL, referrer text NOT NULL, referrer_url text NOT NULL, browser text NOT NULL, os text NOT NULL,
    device text NOT NULL, bot boolean NOT NULL, route text NOT NULL
);
CREATE TABLE hit_set (
    at timestamptz NOT NULL, counter_id uuid NOT NULL, hits integer NOT NULL, dimensions_id bigint NOT NULL,
    visitor bigint
);
CREATE INDEX ON hit_set USING brin (at) WITH (pages_per_range = 32)
"""

MAKE_TEXT = """
CREATE TABLE hit_text AS
SELECT at, counter_id, hits, visitor,
    method, status, consumer, country, referrer, referrer_url, browser, os, device, bot, route
FROM hit_set JOIN dimension_set ON id = dimensions_id ORDER BY at;
CREATE INDEX ON hit_text USING brin (at) WITH (pages_per_range = 32)
"""

MAKE_DICTIONARY = """
CREATE TABLE {dictionary} AS
SELECT row_number() OVER ()::{type} AS id, {name} AS value FROM (SELECT DISTINCT {name} FROM dimension_set) AS known;
ALTER TABLE {dictionary} ADD PRIMARY KEY (id), ADD UNIQUE (value)
"""

MAKE_NARROW = """
CREATE TABLE hit_narrow AS
SELECT at, counter_id, hits, visitor, {numbers}, status, bot
FROM hit_set
JOIN (SELECT dimension_set.id, status, bot, {renamed} FROM dimension_set {joins}) AS known ON known.id = dimensions_id
ORDER BY at;
CREATE INDEX ON hit_narrow USING brin (at) WITH (pages_per_range = 32)
"""

SIZE = "SELECT sum(pg_total_relation_size(name::regclass))::bigint FROM unnest(%s::text[]) AS name"

COMBINATIONS_OF_DAY = """
SELECT count(DISTINCT dimensions_id) FROM hit_set WHERE at >= %(from)s AND at < %(to)s
"""
COMBINATIONS = "SELECT count(*) FROM dimension_set"


class Layout(NamedTuple):
    """What a layout is made of, and how it is asked and written."""

    tables: list[str]
    #: Statements with the parameters from and to: by country with visitors, by browser, one count with filters.
    queries: tuple[str, str, str]
    #: Of its hit table: the columns besides time, path and hits, with their types.
    columns: dict[str, str]


TEXT = Layout(
    ["hit_text"],
    (
        """
        SELECT country, sum(hits), count(DISTINCT visitor)
        FROM hit_text WHERE at >= %(from)s AND at < %(to)s GROUP BY country
        """,
        "SELECT browser, sum(hits) FROM hit_text WHERE at >= %(from)s AND at < %(to)s GROUP BY browser",
        "SELECT sum(hits) FROM hit_text WHERE at >= %(from)s AND at < %(to)s AND country = 'DE' AND bot",
    ),
    {"visitor": "bigint", **dict.fromkeys(DICTIONARIES, "text"), **PLAIN},
)

NARROW = Layout(
    ["hit_narrow", *(f"known_{name}" for name in DICTIONARIES)],
    (
        """
        SELECT value, hits, visitors FROM known_country JOIN (
            SELECT country AS id, sum(hits) AS hits, count(DISTINCT visitor) AS visitors
            FROM hit_narrow WHERE at >= %(from)s AND at < %(to)s GROUP BY country
        ) AS counted USING (id)
        """,
        """
        SELECT value, hits FROM known_browser JOIN (
            SELECT browser AS id, sum(hits) AS hits
            FROM hit_narrow WHERE at >= %(from)s AND at < %(to)s GROUP BY browser
        ) AS counted USING (id)
        """,
        """
        SELECT sum(hits) FROM hit_narrow
        WHERE at >= %(from)s AND at < %(to)s AND country = (SELECT id FROM known_country WHERE value = 'DE') AND bot
        """,
    ),
    {"visitor": "bigint", **DICTIONARIES, **PLAIN},
)

#: What was last seen before the period is not in it.
SET = Layout(
    ["hit_set", "dimension_set"],
    (
        """
        SELECT country, sum(hits), count(DISTINCT visitor)
        FROM hit_set JOIN dimension_set ON id = dimensions_id AND seen >= %(from)s
        WHERE at >= %(from)s AND at < %(to)s GROUP BY country
        """,
        """
        SELECT browser, sum(hits) FROM hit_set JOIN dimension_set ON id = dimensions_id AND seen >= %(from)s
        WHERE at >= %(from)s AND at < %(to)s GROUP BY browser
        """,
        """
        SELECT sum(hits) FROM hit_set JOIN dimension_set ON id = dimensions_id AND seen >= %(from)s
        WHERE at >= %(from)s AND at < %(to)s AND country = 'DE' AND bot
        """,
    ),
    {"visitor": "bigint", "dimensions_id": "bigint"},
)

LAYOUTS = {"text": TEXT, "narrow": NARROW, "set": SET}


def fill(cursor: psycopg.Cursor, count: int, paths: int, days: int) -> None:
    """Make the tables of all layouts, with the same hits."""
    cursor.execute(MAKE_SET)
    sets = copy_hits(cursor, "hit_set", hits(count, paths, days, SEED, LAST_DAY), keys_of(paths, SEED))
    copy_sets(cursor, "dimension_set", sets)
    cursor.execute("ANALYZE hit_set, dimension_set")
    cursor.execute(MAKE_TEXT)
    for name, kind in DICTIONARIES.items():
        cursor.execute(MAKE_DICTIONARY.format(dictionary=f"known_{name}", name=name, type=kind))
    cursor.execute(_make_narrow())
    for layout in LAYOUTS.values():
        for table in layout.tables:
            cursor.execute(f"VACUUM (ANALYZE, FREEZE) {table}")
    cursor.execute("CHECKPOINT")


def _make_narrow() -> str:
    return MAKE_NARROW.format(
        numbers=", ".join(DICTIONARIES),
        renamed=", ".join(f"known_{name}.id AS {name}" for name in DICTIONARIES),
        joins=" ".join(f"JOIN known_{name} ON known_{name}.value = {name}" for name in DICTIONARIES),
    )


def size(cursor: psycopg.Cursor, tables: list[str]) -> int:
    """Bytes of the tables with all that belongs to them."""
    return _number(cursor, SIZE, [tables])


def _number(cursor: psycopg.Cursor, query: str, values: Sequence[object] | Mapping[str, object] = ()) -> int:
    row = cursor.execute(query, values).fetchone()
    assert row
    return cast(int, row[0])


def period(days: int) -> dict[str, datetime]:
    """The last so many days."""
    end = datetime.combine(LAST_DAY + timedelta(days=1), time(), UTC)
    return {"from": end - timedelta(days=days), "to": end}


def milliseconds(action: Callable[[], object], rounds: int) -> float:
    """The median of so many times, after one that only warms up."""
    took = []
    for _ in range(rounds + 1):
        began = perf_counter()
        action()
        took.append(1000 * (perf_counter() - began))
    return statistics.median(took[1:])


def ask(cursor: psycopg.Cursor, layout: Layout, days: int, rounds: int) -> Iterator[float]:
    for query, asked in zip(layout.queries, (1, days, days), strict=True):
        yield milliseconds(partial(_answer, cursor, query, period(asked)), rounds)


def _answer(cursor: psycopg.Cursor, query: str, asked: dict[str, datetime]) -> None:
    cursor.execute(query, asked).fetchall()


def write(cursor: psycopg.Cursor, layout: Layout) -> float:
    """The median of a batch's time in microseconds, client and server, each batch a transaction."""
    columns = {"at": "timestamptz", "counter_id": "uuid", "hits": "integer", **layout.columns}
    batches = _batches(cursor, layout.tables[0], columns)
    statement = _insert(layout.tables[0], columns)
    took = []
    for number in range(BATCHES):
        values = batches[number % len(batches)]
        began = perf_counter()
        cursor.execute(statement, values, prepare=True)
        took.append(1_000_000 * (perf_counter() - began))
    return statistics.median(took)


def _batches(cursor: psycopg.Cursor, table: str, columns: dict[str, str]) -> list[list[list[str | None]]]:
    """Rows that the table holds, as one list of texts for each column: what is written again as new."""
    names = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in columns)
    chosen = sql.SQL("SELECT {} FROM {} LIMIT {}").format(
        names, sql.Identifier(table), sql.Literal(BATCH * DIFFERENT_BATCHES)
    )
    rows = cursor.execute(chosen).fetchall()
    slices = [rows[begin : begin + BATCH] for begin in range(0, len(rows), BATCH)]
    return [[list(column) for column in zip(*some, strict=True)] for some in slices]


def _insert(table: str, columns: dict[str, str]) -> str:
    arrays = ", ".join(f"%s::{kind}[]" for kind in columns.values())
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT * FROM unnest({arrays})"  # noqa: S608


def report(cursor: psycopg.Cursor, options: argparse.Namespace) -> None:
    sizes = {name: size(cursor, layout.tables) for name, layout in LAYOUTS.items()}
    of_hits = {name: size(cursor, layout.tables[:1]) for name, layout in LAYOUTS.items()}
    print("| layout | bytes per hit | of them dictionaries |", end="")
    print(f" 1 day by country | {options.days} days by browser | {options.days} days, 2 filters | batch of {BATCH} |")
    print("|---" * 7 + "|")
    for name, layout in LAYOUTS.items():
        cursor.execute(READER.format(workers=options.workers))
        asked = " | ".join(f"{one:,.0f} ms" for one in ask(cursor, layout, options.days, options.rounds))
        per_hit, dictionaries = sizes[name] / options.hits, (sizes[name] - of_hits[name]) / options.hits
        written = write(cursor, layout)
        print(f"| {name} | {per_hit:.0f} | {dictionaries:.0f} | {asked} | {written:.0f} µs |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=10_000_000)
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=7, help="of each query")
    parser.add_argument("--workers", type=int, default=2, help="that PostgreSQL may use beside the one that asks")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch,
        PrivatePostgres(Path(scratch) / "postgres").held() as postgres,
        psycopg.connect(postgres.url, autocommit=True) as connection,
    ):
        cursor = connection.cursor()
        cursor.execute(SESSION)
        fill(cursor, options.hits, options.paths, options.days)
        report(cursor, options)
        of_day = _number(cursor, COMBINATIONS_OF_DAY, period(1))
        print(f"\n{of_day:,} combinations on the last day, {_number(cursor, COMBINATIONS):,} in all.")


if __name__ == "__main__":
    main()
