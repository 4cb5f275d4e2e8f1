"""GET /stats/: order, pages, prefixes, forms, bad questions, and the plans behind them."""

import csv
import io
import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counters import stats
from counters.hits import counter_id
from counters.models import Counter

pytestmark = pytest.mark.django_db
AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _open(settings):
    settings.HITCOUNTER_OPEN = True


def count(**hits: int) -> None:
    """Counters /api/<name>/ with so many hits."""
    store({f"/api/{name}/": number for name, number in hits.items()})


def store(counts: dict[str, int]) -> None:
    Counter.objects.bulk_create(
        Counter(id=counter_id(path), path=path, hits=hits, first_hit=AT, last_hit=AT) for path, hits in counts.items()
    )


def ask(client: Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/stats/", query)
    assert answer.status_code == 200, answer.content
    return json.loads(answer.getvalue())


def test_most_requested_first_ties_by_path(client):
    count(b=2, a=2, c=10, d=1, B=2)
    assert ask(client) == [
        {"path": "/api/c/", "count": 10},
        {"path": "/api/B/", "count": 2},
        {"path": "/api/a/", "count": 2},
        {"path": "/api/b/", "count": 2},
        {"path": "/api/d/", "count": 1},
    ]


def test_nothing_counted_is_an_empty_list(client):
    assert ask(client) == ask(client, limit=5) == []


def test_a_reset_counter_is_not_listed(client):
    count(a=1, reset=0)
    assert ask(client) == [{"path": "/api/a/", "count": 1}]


def test_a_prefix_is_meant_byte_for_byte(client):
    store(
        {
            "/api/a/": 1,
            "/api/a/b": 2,
            "/api/a": 3,
            "/api/A/": 4,
            "/api/a%2F": 5,
            "/api/_/": 6,
            "/api/%/": 7,
            "/api/a~": 8,
        }
    )
    assert [row["path"] for row in ask(client, prefix="/api/a/")] == ["/api/a/b", "/api/a/"]
    assert [row["path"] for row in ask(client, prefix="/api/_")] == ["/api/_/"]
    assert [row["path"] for row in ask(client, prefix="/api/%")] == ["/api/%/"]
    assert [row["path"] for row in ask(client, prefix="/api/a~")] == ["/api/a~"]
    assert ask(client, prefix="/nothing/") == []


@given(
    hits=st.lists(st.integers(0, 30) | st.integers(31, 10**6), max_size=25),
    limit=st.integers(1, 7),
    prefix=st.sampled_from(["", "/api/", "/api/1"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_linked_pages_add_up_to_the_whole_list(client, hits, limit, prefix):
    Counter.objects.all().delete()
    store({f"/api/{n}/": number for n, number in enumerate(hits)})
    whole, pages, target = ask(client, prefix=prefix), [], f"/stats/?limit={limit}&prefix={prefix}"
    expected = {f"/api/{n}/": number for n, number in enumerate(hits) if number and f"/api/{n}/".startswith(prefix)}
    assert [(row["path"], row["count"]) for row in whole] == sorted(expected.items(), key=lambda i: (-i[1], i[0]))
    while target:
        answer = client.get(target)
        page = json.loads(answer.getvalue())
        assert len(page) <= limit
        pages += page
        link = answer.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        target = link.partition(">")[0].removeprefix("<http://testserver")
    assert pages == whole


def test_a_last_page_has_no_link(client):
    count(a=1, b=2)
    assert "Link" not in client.get("/stats/?limit=3").headers


def test_csv_has_a_header_and_a_line_per_path(client):
    store({'/api/"a",b/': 2, "/api/c/": 1})
    answer = client.get("/stats/?format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert list(csv.reader(io.StringIO(answer.getvalue().decode()))) == [
        ["path", "count"],
        ['/api/"a",b/', "2"],
        ["/api/c/", "1"],
    ]


def test_ndjson_has_an_object_per_line(client):
    count(a=2, b=1)
    answer = client.get("/stats/?format=ndjson&limit=5")
    assert answer.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
    assert [json.loads(line) for line in answer.getvalue().splitlines()] == [
        {"path": "/api/a/", "count": 2},
        {"path": "/api/b/", "count": 1},
    ]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=10001", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=1&cursor=%00nonsense", "cursor"),
        ("limit=1&cursor=bm9uc2Vuc2U=", "cursor"),
        ("limit=1&cursor=WzEsIDJd", "cursor"),
        ("limit=1&cursor=WzAsICIvYSJd", "cursor"),
        ("limit=1&cursor=" + "9" * 30, "cursor"),
        ("limit=1&cursor=" + b64encode(b"[" * 1800).decode(), "cursor"),
        ("limit=1&cursor=" + b64encode(b"[" * 60000).decode(), "cursor"),
        ("cursor=WzEsICIvYSJd", "limit"),
        ("prefix=api", "prefix"),
        ("prefix=%00", "prefix"),
        ("prefix=/" + "x" * 2048, "prefix"),
        ("format=xml", "format"),
        ("order=path", "order"),
    ],
)
@pytest.mark.parametrize("form", ["", "&format=csv"])
def test_a_bad_question_is_answered_400_by_name(client, query, named, form):
    answer = client.get(f"/stats/?{query}{form if 'format' not in query else ''}")
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("application/json")
    assert list(answer.json()) == [named]


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_statistics_are_only_read(client, method):
    answer = getattr(client, method)("/stats/")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_a_page_amid_many_paths_costs_two_queries_at_most(client, django_assert_max_num_queries):
    count(**{f"p{n}": n for n in range(1, 20)})
    with django_assert_max_num_queries(2):
        link = client.get("/stats/?limit=5").headers["Link"]
    with django_assert_max_num_queries(2):
        client.get(link.partition(">")[0].removeprefix("<http://testserver"))


def test_a_reset_while_the_first_page_is_read_takes_no_other_path_from_it():
    def reset_after_the_first(execute, statement, parameters, many, context):
        result = execute(statement, parameters, many, context)
        if not seen:
            seen.append(statement)
            Counter.objects.filter(path="/api/0/").update(hits=0)
        return result

    store({**{f"/api/{n}/": 10 for n in range(4)}, "/api/some/": 3, "/api/one/": 1})
    seen: list[str] = []
    with connection.execute_wrapper(reset_after_the_first):
        rows = stats.page(stats.Question(), 4)
    assert rows == [("/api/1/", 10), ("/api/2/", 10), ("/api/3/", 10), ("/api/some/", 3)]


def many_paths(number: int) -> None:
    """A million paths in the way the web has them: nearly all with one hit, few with many."""
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO counters_counter (id, path, hits, first_hit, last_hit)
               SELECT md5(n::text)::uuid, '/api/' || n || '/', greatest(1, 1000000 / n), now(), now()
               FROM generate_series(1, %s) AS n""",
            [number],
        )
        cursor.execute("ANALYZE counters_counter")


def plan(rows: Any) -> str:
    return str(rows.explain(analyze=True, buffers=True))


def test_the_first_page_reads_the_magnitude_index_and_never_the_table_whole():
    many_paths(50_000)
    text = plan(stats.counters_ranked()[:100])
    assert "Index Scan using counter_magnitude" in text
    assert "Incremental Sort" in text
    assert "Seq Scan" not in text


def test_a_page_amid_a_great_tie_reads_only_its_own_rows(django_assert_num_queries):
    store({f"/api/{n:05}/": 1 for n in range(20_000)})
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE counters_counter")
    after = stats.Position(1, "/api/15000/")
    with django_assert_num_queries(1) as asked:
        assert stats.page(stats.Question(), 3, after=after)[0] == ("/api/15001/", 1)
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + asked.captured_queries[0]["sql"])
        [[[explained]]] = cursor.fetchall()
    scan = explained["Plan"]["Plans"][0]
    assert scan["Node Type"] in ("Index Scan", "Index Only Scan")
    assert (scan["Actual Rows"], scan.get("Rows Removed by Filter", 0)) == (3, 0)
