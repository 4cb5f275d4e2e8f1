"""What the hot reads of the statistics read: sums by index, never the hits of days that are rolled up."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from psycopg import sql
from pytest_django import DjangoDbBlocker

from counters import maintenance, stats
from counters.dimensions import Dimensions
from counters.hits import counter_id
from counters.models import Counter, DimensionSet, Hit
from counters.periods import Period
from counters.questions import ALWAYS, Question
from tests.conftest import empty_tables, leave_as_migrated
from tests.oracle import drop_days

pytestmark = pytest.mark.django_db

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS, PATHS, CONSUMERS, HITS = 7, 500, 50, 20_000
ONE_DAY = Period(FIRST + 3 * DAY, FIRST + 4 * DAY, ALWAYS.tz)
SOME_DAYS = Period(FIRST + 2 * DAY, FIRST + 5 * DAY, ALWAYS.tz)
SUMS = {"counters_rollup", "counters_dailypaths"}

READ_HITS = """
INSERT INTO counters_hit (at, counter_id, hits, dimensions_id, visitor)
SELECT %(first)s + n * interval '1 day' * %(days)s / %(hits)s, (%(paths)s::uuid[])[1 + n * n %% cardinality(%(paths)s)],
    1, (%(dimensions)s::bigint[])[1 + n %% cardinality(%(dimensions)s)], n %% 997
FROM generate_series(0::bigint, %(hits)s - 1) AS n
"""
MANY_COUNTERS = """
INSERT INTO counters_counter (id, path, hits)
SELECT md5(n::text)::uuid, '/api/+/' || n, CASE WHEN n < 100200 THEN 2 ELSE 1 END
FROM generate_series(100000, 300000) AS n ORDER BY 1
"""
READ_HOURS = """
INSERT INTO counters_hourlyhits (counter_id, hour, hits)
SELECT counter_id, date_trunc('hour', at, 'UTC'), sum(hits) FROM counters_hit GROUP BY 1, 2
"""


@pytest.fixture(scope="module", autouse=True)
def _some_days(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A week that is over, rolled up; committed, and only looked at."""
    with django_db_blocker.unblock():
        empty_tables()
        drop_days()
        plant_days()
        yield
        drop_days()
        leave_as_migrated()
        connection.close_pool()


def plant_days() -> None:
    paths = {counter_id(path): path for path in (f"/api/{n}" for n in range(PATHS))}
    last = FIRST + DAYS * DAY
    Counter.objects.bulk_create(
        Counter(id=id, path=path, hits=1, first_hit=FIRST, last_hit=last) for id, path in paths.items()
    )
    known = [Dimensions("GET", 200, f"c{n}", "DE", bot=n % 3 == 0) for n in range(CONSUMERS)]
    DimensionSet.objects.bulk_create(DimensionSet(id=one.id, seen=last, **one._asdict()) for one in known)
    Hit.objects.make_days(*[(FIRST + n * DAY).date() for n in range(DAYS)])
    with connection.cursor() as cursor:
        values = {"paths": list(paths), "dimensions": [one.id for one in known]}
        cursor.execute(READ_HITS, {"first": FIRST, "days": DAYS, "hits": HITS, **values})
        cursor.execute(READ_HOURS)
    list(maintenance.maintain(last + DAY / 2, keep_hits_days=30, keep_hours_days=400))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], list[dict[str, Any]]]:
    """The scans of tables in the plans of whatever a read executes, as executed."""
    read = stats._rows

    def explain(ask: Callable[[], Any]) -> list[dict[str, Any]]:
        statements: list[sql.Composable] = []

        def rows(statement: sql.Composable) -> list[Any]:
            statements.append(statement)
            return read(statement)

        monkeypatch.setattr(stats, "_rows", rows)
        monkeypatch.setattr(stats, "_streamed", lambda statement: iter(rows(statement)))
        ask()
        monkeypatch.undo()
        plans = [read(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) {}").format(one)) for one in statements]
        return [scan for [([plan],)] in plans for scan in scans(plan["Plan"])]

    return explain


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Relation Name" in plan or "Index Name" in plan:
        yield plan
    for part in plan.get("Plans", ()):
        yield from scans(part)


def tables_of(found: list[dict[str, Any]]) -> set[str]:
    return {scan["Relation Name"] for scan in found if "Relation Name" in scan}


def of(found: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    return [scan for scan in found if scan.get("Relation Name") == table]


def indexes(found: list[dict[str, Any]]) -> set[str]:
    return {scan["Index Name"] for scan in found if "Index Name" in scan}


@pytest.mark.parametrize("period", [ONE_DAY, SOME_DAYS], ids=["one day", "some days"])
def test_the_whole_site_is_read_from_sums_by_index(explained, period):
    for filters in ({}, {"bot": "false"}):
        question = Question(period, filters=filters)
        for read in (
            lambda question=question: stats.total(question),
            lambda question=question: stats.series(question, "hour"),
            lambda question=question: stats.series(question, "day"),
            lambda question=question: list(stats.by(question, "consumer", 10)),
            lambda question=question: list(stats.by(question, "bot")),
        ):
            found = explained(read)
            assert "counters_rollup" in tables_of(found) <= SUMS
            assert "counters_rollup_pkey" in indexes(found)
            assert not [scan for scan in of(found, "counters_rollup") if scan["Node Type"] == "Seq Scan"]


def test_what_has_one_value_of_a_dimension_is_read_from_sums_by_index(explained):
    question = Question(SOME_DAYS, filters={"consumer": "c7"})
    for read in (lambda: stats.series(question, "day"), lambda: list(stats.by(question, "bot"))):
        found = explained(read)
        assert tables_of(found) == {"counters_rollup"}
        assert "counters_rollup_pkey" in indexes(found)


def test_no_more_of_the_sums_is_read_than_of_the_days_and_the_dimension(explained):
    for scan in of(explained(lambda: list(stats.by(Question(ONE_DAY), "consumer"))), "counters_rollup"):
        assert scan["Actual Rows"] <= CONSUMERS
        assert scan.get("Rows Removed by Filter", 0) == 0


def test_a_path_is_read_by_the_key_of_its_days(explained):
    question = Question(SOME_DAYS, path="/api/4")
    found = explained(lambda: stats.path_report(question, "day"))
    assert tables_of(found) == {"counters_dailyhits"}
    assert indexes(found) == {"counters_dailyhits_pkey"}
    assert all(scan["Actual Rows"] <= 3 for scan in of(found, "counters_dailyhits"))


def test_the_hits_of_a_path_are_found_by_the_index_of_a_closed_day(explained):
    question = Question(Period(ONE_DAY.start, ONE_DAY.end - DAY / 2, ALWAYS.tz), path="/api/4")
    found = explained(lambda: stats.total(question))
    assert tables_of(found) == {"counters_hit_20260304"}
    assert len(indexes(found)) == 1
    assert not [scan for scan in found if scan["Node Type"] == "Seq Scan"]


@pytest.mark.parametrize("filters", [{}, {"bot": "true"}], ids=["all", "bots"])
def test_the_list_and_the_tree_of_whole_days_are_read_from_the_days_of_paths(explained, filters):
    question = Question(SOME_DAYS, filters=filters)
    for read in (lambda: stats.page(question, 10), lambda: list(stats.tree(question, 1))):
        assert tables_of(explained(read)) == {"counters_dailyhits", "counters_counter"}


@pytest.mark.parametrize("prefix", ["", "/"])
@pytest.mark.parametrize("limit", [100, 300])
def test_the_first_page_of_many_counters_reads_the_beginning_of_the_index_on_magnitudes(limit, prefix):
    with connection.cursor() as cursor:
        cursor.execute(MANY_COUNTERS)
        cursor.execute("ANALYZE counters_counter")
    with CaptureQueriesContext(connection) as asked:
        rows = stats.page(Question(prefix=prefix), limit)
    assert rows == [(f"/api/+/{n}", 2 if n < 100_200 else 1) for n in range(100_000, 100_000 + limit)]
    reads = [query["sql"] for query in asked if "counters_counter" in query["sql"]]
    assert len(reads) in (2, 3)
    for statement in reads:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
            [([plan],)] = cursor.fetchall()
        [scan] = scans(plan["Plan"])
        assert scan["Index Name"] == "counter_magnitude"
        assert scan["Actual Rows"] <= limit + 200
