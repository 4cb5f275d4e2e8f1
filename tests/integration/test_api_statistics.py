"""GET /stats/… over time and dimensions: what is asked is checked, and answered in the shapes that are promised."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from psycopg import sql

from counters import stats
from counters.dimensions import NAMES
from counters.models import Counter
from tests.counting import hit

pytestmark = pytest.mark.django_db

ENDPOINTS = [
    "/stats/",
    "/stats/total/",
    "/stats/series/",
    "/stats/by/country/",
    "/stats/tree/",
    "/stats/path/?path=/api/a",
]
LISTS = ["/stats/", "/stats/series/", "/stats/by/country/", "/stats/tree/"]
OBJECTS = ["/stats/total/", "/stats/path/?path=/api/a"]
DAY = {"from": "2026-03-01", "to": "2026-03-02"}


@pytest.fixture(autouse=True)
def _open(settings):
    settings.HITCOUNTER_OPEN = True


@pytest.fixture
def hits(db) -> None:
    """Two days of March 2026."""
    hit("/api/shop/a", "2026-03-01T10:00", visitor=b"ann", country="DE", browser="Firefox", consumer="=1+1")
    hit("/api/shop/a", "2026-03-01T10:30", visitor=b"ann", country="DE", browser="Firefox")
    hit("/api/shop/b", "2026-03-01T23:30", 3, visitor=b"bob", country="FR", browser="Chrome", status=404)
    hit("/api/blog", "2026-03-02T00:30", 2, country="", bot=True, referrer="@evil.example")
    hit("/api/shop/a", "2026-03-02T09:00", visitor=b"ann", country="DE")


def ask(client: Client, address: str, **query: Any) -> Any:
    answer = client.get(address, query)
    assert answer.status_code == 200, answer.content
    return json.loads(answer.getvalue())


def addressed(endpoint: str, query: str) -> str:
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"


def walk(client: Client, target: str) -> Iterator[list[dict[str, Any]]]:
    """Each page, by following the links."""
    while target:
        answer = client.get(target)
        assert answer.status_code == 200, answer.content
        yield json.loads(answer.getvalue())
        link = answer.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        target = link.partition(">")[0].removeprefix("<http://testserver")


# What they answer


def test_the_list_of_a_period(client, hits):
    assert ask(client, "/stats/", **DAY) == [{"path": "/api/shop/b", "count": 3}, {"path": "/api/shop/a", "count": 2}]


def test_the_list_of_one_path_and_of_a_prefix(client, hits):
    assert ask(client, "/stats/", path="/api/blog") == [{"path": "/api/blog", "count": 2}]
    assert ask(client, "/stats/", path="/api/blo") == []
    assert ask(client, "/stats/", prefix="/api/blo", **DAY) == []


def test_the_total(client, hits):
    assert ask(client, "/stats/total/") == {"hits": 8, "visitors": 3, "paths": 3}
    assert ask(client, "/stats/total/", **DAY, country="DE") == {"hits": 2, "visitors": 1, "paths": 1}


def test_the_total_beside_the_period_before(client, hits):
    assert ask(client, "/stats/total/", **{"from": "2026-03-02", "to": "2026-03-03"}, compare="previous") == {
        "hits": 3,
        "visitors": 1,
        "paths": 2,
        "previous": {"hits": 5, "visitors": 2, "paths": 2},
    }


def test_a_comparison_until_now(client, hits):
    assert ask(client, "/stats/total/", **{"from": "2026-03-02"}, compare="previous")["hits"] == 3
    assert ask(client, "/stats/total/", **{"from": "9999-12-31"}, compare="previous")["hits"] == 0


def test_the_series_has_every_interval_in_the_time_zone(client, hits):
    asked = {"from": "2026-03-01", "to": "2026-03-03", "tz": "Europe/Berlin"}
    assert ask(client, "/stats/series/", **asked) == [
        {"at": "2026-03-01T00:00:00+01:00", "hits": 2, "visitors": 1},
        {"at": "2026-03-02T00:00:00+01:00", "hits": 6, "visitors": 2},
    ]
    hours = ask(client, "/stats/series/", **asked, interval="hour")
    assert len(hours) == 48
    assert sum(point["hits"] for point in hours) == 8


def test_a_series_without_hits_is_one_of_zeros(client):
    assert ask(client, "/stats/series/", **DAY) == [{"at": "2026-03-01T00:00:00+00:00", "hits": 0, "visitors": 0}]


def test_the_shares_of_a_dimension(client, hits):
    assert ask(client, "/stats/by/country/") == [
        {"value": "DE", "hits": 3, "visitors": 2},
        {"value": "FR", "hits": 3, "visitors": 1},
        {"value": "", "hits": 2, "visitors": 0},
    ]
    assert ask(client, "/stats/by/status/", status="404") == [{"value": "404", "hits": 3, "visitors": 1}]
    assert ask(client, "/stats/by/bot/", country="") == [{"value": "true", "hits": 2, "visitors": 0}]
    assert ask(client, "/stats/by/referrer_url/") == [{"value": "", "hits": 8, "visitors": 3}]


def test_hits_are_told_by_the_route_that_handled_them(client):
    hit("/product/1/", "2026-03-01T10:00", 2, route="/product/<int:id>/")
    hit("/product/2/", "2026-03-01T10:00", route="/product/<int:id>/")
    hit("/api/a", "2026-03-01T10:00", visitor=b"ann")
    of_products = {"value": "/product/<int:id>/", "hits": 3, "visitors": 0}
    unknown = {"value": "", "hits": 1, "visitors": 1}
    assert ask(client, "/stats/by/route/") == [of_products, unknown]
    assert ask(client, "/stats/", route="/product/<int:id>/", **DAY) == [
        {"path": "/product/1/", "count": 2},
        {"path": "/product/2/", "count": 1},
    ]
    assert ask(client, "/stats/path/", path="/product/1/")["dimensions"]["route"] == [of_products | {"hits": 2}]
    assert ask(client, "/stats/path/", path="/api/a")["dimensions"]["route"] == [unknown]


def test_the_tree(client, hits):
    assert ask(client, "/stats/tree/") == [{"path": "/api/", "hits": 8, "paths": 3}]
    assert ask(client, "/stats/tree/", prefix="/api/") == [
        {"path": "/api/shop/", "hits": 6, "paths": 2},
        {"path": "/api/blog", "hits": 2, "paths": 1},
    ]


def test_one_path(client, hits):
    report = ask(client, "/stats/path/", path="/api/shop/a", tz="Europe/Berlin", **DAY)
    assert {name: report[name] for name in ("path", "count", "first_hit", "last_hit", "hits", "visitors")} == {
        "path": "/api/shop/a",
        "count": 3,
        "first_hit": "2026-03-01T11:00:00+01:00",
        "last_hit": "2026-03-02T10:00:00+01:00",
        "hits": 2,
        "visitors": 1,
    }
    assert report["series"] == [{"at": "2026-03-01T00:00:00+01:00", "hits": 2, "visitors": 1}]
    assert set(report["dimensions"]) == set(NAMES)
    assert report["dimensions"]["country"] == [{"value": "DE", "hits": 2, "visitors": 1}]


def test_a_path_that_was_never_hit(client):
    report = ask(client, "/stats/path/", path="/api/none")
    assert (report["count"], report["first_hit"], report["last_hit"], report["hits"]) == (0, None, None, 0)


def test_paths_come_back_byte_for_byte(client):
    path = "/api/a%2Fb/%C3%A9'\"<&;=@\\"
    hit(path, "2026-03-01T10:00")
    assert ask(client, "/stats/", **DAY)[0]["path"] == path
    assert ask(client, "/stats/tree/", prefix="/api/a%2Fb/")[0]["path"] == path
    assert ask(client, "/stats/path/", path=path)["path"] == path


@pytest.mark.parametrize("endpoint", [*LISTS, "/stats/total/"])
def test_an_empty_period_has_nothing(client, hits, endpoint):
    answer = ask(client, endpoint, **{"from": "2026-03-01", "to": "2026-03-01"})
    assert answer in ([], {"hits": 0, "visitors": 0, "paths": 0})


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("tz", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_a_period_may_be_as_long_as_the_calendar(client, hits, endpoint, tz):
    query = f"from=0001-01-02&to=9999-12-30&tz={tz}" + (
        "&interval=month" if "path" in endpoint or "series" in endpoint else ""
    )
    answer = client.get(addressed(endpoint, query))
    if "interval" in query:  # of which there are too many
        assert (answer.status_code, list(answer.json())) == (400, ["interval"])
    else:
        assert (answer.status_code, answer.getvalue() != b"[]") == (200, True)


@pytest.mark.parametrize("value", ["a+b c&d", "é", "'", '"', "%", "\\", "\U0001f600", " "])
def test_values_are_filtered_as_they_are_given(client, value):
    hit("/api/a", "2026-03-01T10:00", consumer=value)
    hit("/api/b", "2026-03-01T10:00", consumer="other")
    assert ask(client, "/stats/", consumer=value) == [{"path": "/api/a", "count": 1}]
    assert ask(client, "/stats/by/consumer/", consumer=value)[0]["value"] == value


# Pages


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
@pytest.mark.parametrize(
    "endpoint",
    [
        "/stats/?from=2026-03-01",
        "/stats/?prefix=/api/1",
        "/stats/by/consumer/?from=2026-03-01",
        "/stats/tree/?prefix=/api/&tz=Asia/Kathmandu",
        "/stats/tree/?prefix=/api/&depth=2&consumer=é",
        "/stats/series/?interval=hour&from=2026-03-01&to=2026-03-01T07:30",
        "/stats/series/?interval=week&from=2025-12-01&to=2026-03-02",
    ],
)
def test_linked_pages_add_up_to_the_whole_list(client, endpoint, limit):
    for n in range(12):
        consumer = ["é", "=1", "a", "b", ""][n % 5]
        hit(f"/api/{n}/{n % 3}", f"2026-03-01T{n:02}:00", by=1 + n % 4, consumer=consumer, visitor=b"%d" % n)
    pages = list(walk(client, f"{endpoint}&limit={limit}"))
    assert all(len(page) <= limit for page in pages)
    assert [row for page in pages for row in page] == ask(client, endpoint) != []


@pytest.mark.parametrize("endpoint", LISTS)
def test_a_page_that_is_not_full_has_no_link(client, hits, endpoint):
    assert "Link" not in client.get(endpoint, {"limit": 50, **DAY}).headers


# Forms


@pytest.mark.parametrize("endpoint", LISTS)
def test_every_list_has_all_forms(client, hits, endpoint):
    rows = ask(client, endpoint, **DAY)
    as_csv = client.get(endpoint, {**DAY, "format": "csv"})
    as_lines = client.get(endpoint, {**DAY, "format": "ndjson"})
    assert as_csv.headers["Content-Type"] == "text/csv; charset=utf-8"
    read = list(csv.DictReader(io.StringIO(as_csv.getvalue().decode())))
    assert read == [{name: str(value) for name, value in row.items()} for row in rows]
    assert as_lines.headers["Content-Type"] == "application/x-ndjson; charset=utf-8"
    assert [json.loads(line) for line in as_lines.getvalue().splitlines()] == rows
    assert as_csv.streaming and as_lines.streaming


@pytest.mark.parametrize(("dimension", "cell"), [("consumer", "'=1+1"), ("referrer", "'@evil.example")])
def test_a_value_like_a_formula_is_defused_in_csv_alone(client, hits, dimension, cell):
    as_csv = client.get(f"/stats/by/{dimension}/", {"format": "csv"}).getvalue().decode()
    assert cell in [row["value"] for row in csv.DictReader(io.StringIO(as_csv))]
    assert cell[1:] in [row["value"] for row in ask(client, f"/stats/by/{dimension}/")]


@pytest.mark.parametrize("endpoint", OBJECTS)
def test_objects_are_given_as_json_alone(client, endpoint):
    answer = client.get(addressed(endpoint, "format=csv"))
    assert (answer.status_code, answer.json()) == (400, {"format": ["Must be one of json."]})
    assert client.get(addressed(endpoint, "format=json")).status_code == 200


# Bad questions


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("from=", "from"),
        ("from=yesterday", "from"),
        ("from=2026-02-30", "from"),
        ("to=2026-03-01T10:00:00 01:00", "to"),
        ("from=0001-01-01&tz=Asia/Tokyo", "from"),
        ("to=9999-12-31T23:59&tz=America/New_York", "to"),
        ("from=2026-03-02&to=2026-03-01", "to"),
        ("from=2026-03-01%00", "from"),
        ("tz=", "tz"),
        ("tz=Berlin", "tz"),
        ("tz=../../etc/passwd", "tz"),
        ("tz=UTC%00", "tz"),
        ("country=%00", "country"),
        ("country=" + "x" * 2049, "country"),
        ("bot=", "bot"),
        ("bot=1", "bot"),
        ("status=99", "status"),
        ("status=600", "status"),
        ("status=2000", "status"),
        ("status=200%0A", "status"),
        ("status=ok", "status"),
        ("country=de", "country"),
        ("country=Germany", "country"),
        ("city=Berlin", "city"),
        ("tz=UTC&tz=UTC", "tz"),
        ("country=DE&country=FR", "country"),
        ("format=json&format=json", "format"),
    ],
)
def test_a_bad_parameter_is_answered_400_by_name(client, endpoint, query, named):
    answer = client.get(addressed(endpoint, query))
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("application/json")
    assert list(answer.json()) == [named]


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("/stats/?prefix=/api/&path=/api/a", "path"),
        ("/stats/total/?path=api", "path"),
        ("/stats/total/?path=", "path"),
        ("/stats/total/?compare=last", "compare"),
        ("/stats/total/?compare=previous", "from"),
        ("/stats/total/?compare=previous&from=0001-01-01&to=2026-03-01", "compare"),
        ("/stats/total/?limit=1", "limit"),
        ("/stats/total/?interval=day", "interval"),
        ("/stats/series/?interval=minute", "interval"),
        ("/stats/series/?interval=hour&from=1990-01-01&to=2026-01-01", "interval"),
        ("/stats/series/?interval=week&from=9999-12-30&to=9999-12-31", "interval"),
        ("/stats/series/?limit=1&cursor=x", "cursor"),
        ("/stats/series/?limit=1&cursor=-1", "cursor"),
        ("/stats/series/?cursor=1", "limit"),
        ("/stats/by/country/?cursor=WzEsICIvYSJd", "limit"),
        ("/stats/by/country/?limit=1&cursor=WzEsIDJd", "cursor"),
        ("/stats/by/country/?limit=1&cursor=WzEsICJcdTAwMDAiXQ==", "cursor"),  # a NUL
        ("/stats/by/country/?limit=1&cursor=WzEsICJcdWQ4MDAiXQ==", "cursor"),  # half a surrogate pair
        ("/stats/tree/?path=/api/a", "path"),
        ("/stats/tree/?prefix=", "prefix"),
        ("/stats/tree/?depth=0", "depth"),
        ("/stats/tree/?depth=33", "depth"),
        ("/stats/path/", "path"),
        ("/stats/path/?path=/api/a&prefix=/", "prefix"),
        ("/stats/path/?path=/api/a&limit=1", "limit"),
        ("/stats/path/?path=/api/a&interval=hour&from=1990-01-01&to=2026-01-01", "interval"),
    ],
)
def test_what_an_endpoint_does_not_take_is_answered_400_by_name(client, address, named):
    hit("/api/a", "2026-03-01T10:00")
    answer = client.get(address)
    assert (answer.status_code, list(answer.json())) == (400, [named])


@pytest.mark.parametrize("method", ["get", "head"])
def test_an_unknown_dimension_is_answered_404_with_those_there_are(client, method):
    answer = getattr(client, method)("/stats/by/city/", {"format": "csv"})
    assert answer.status_code == 404
    if method == "get":
        assert answer.headers["Content-Type"] == "application/json"
        assert all(name in answer.json()["detail"] for name in NAMES)


# The rest of HTTP


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_head_checks_the_question_and_reads_nothing(client, endpoint, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = client.head(endpoint)
        assert client.head(addressed(endpoint, "from=x")).status_code == 400
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_statistics_are_only_read(client, endpoint, method):
    answer = getattr(client, method)(endpoint)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("endpoint", [*ENDPOINTS, "/schema/"])
def test_where_statistics_are_closed_they_say_what_to_send(client, settings, endpoint):
    settings.HITCOUNTER_OPEN = False
    answer = client.get(endpoint)
    said = {"detail": "Log in, or send an API key: Authorization: Bearer <key>."}
    assert (answer.status_code, answer.headers["WWW-Authenticate"], answer.json()) == (401, "Bearer", said)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_answer_is_not_used_again_unasked(client, endpoint):
    answer = client.get(endpoint)
    assert set(answer.headers["Cache-Control"].split(", ")) == {"private", "no-cache"}
    assert "Cookie" in answer.headers["Vary"]
    assert endpoint in OBJECTS or "Accept" in answer.headers["Vary"]


@pytest.fixture
def versions(monkeypatch) -> list[str | None]:
    """What stats.version says: the first of these."""
    said: list[str | None] = ["1"]
    monkeypatch.setattr(stats, "version", lambda question: said[0])  # noqa: ARG005
    return said


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_answer_that_is_known_is_not_computed_again(client, versions, endpoint, django_assert_num_queries):
    address = addressed(endpoint, "from=2026-03-01&to=2026-03-02")
    first = client.get(address)
    etag = first.headers["ETag"]
    assert etag.startswith('W/"')
    with django_assert_num_queries(0):
        again = client.get(address, headers={"If-None-Match": f'"other", {etag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert again.headers["Cache-Control"] == first.headers["Cache-Control"]
    versions[0] = "2"
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 200


def test_a_validator_is_that_of_one_question_in_one_form(client, versions):
    addresses = [
        "/stats/?to=2026-03-01",
        "/stats/?to=2026-03-01&format=csv",
        "/stats/?to=2026-03-01&limit=1",
        "/stats/tree/?to=2026-03-01",
        "/stats/by/os/?to=2026-03-01",
    ]
    etags = {client.get(address).headers["ETag"] for address in addresses}
    etags.add(client.get(addresses[0], headers={"Accept": "text/csv"}).headers["ETag"])
    assert len(etags) == 6


def test_there_is_no_validator_for_what_may_change_at_any_time(client, versions):
    assert "ETag" not in client.get("/stats/").headers
    assert "ETag" not in client.get("/stats/total/", {**DAY, "compare": "previous"}).headers
    versions[0] = None
    assert "ETag" not in client.get("/stats/total/", DAY).headers


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_is_not_kept_is_answered_422_with_the_reason(client, monkeypatch, endpoint):
    def not_kept(*asked: Any) -> None:
        raise stats.NotKept("Hours are kept since 2026-01-01.")

    for name in ("ranking", "total", "series", "by", "tree", "path_report"):
        monkeypatch.setattr(stats, name, not_kept)
    answer = client.get(endpoint)
    assert (answer.status_code, answer.json()) == (422, {"detail": "Hours are kept since 2026-01-01."})


def test_what_is_found_out_at_the_first_row_is_answered_422_too(client, monkeypatch):
    def not_kept(*asked: Any) -> Iterator[Any]:
        raise stats.NotKept("No.")
        yield

    monkeypatch.setattr(stats, "by", not_kept)
    assert client.get("/stats/by/os/", {"format": "csv"}).status_code == 422
    assert client.get("/stats/by/os/", {"limit": 5}).status_code == 422


@pytest.mark.parametrize(
    "target", ["/stats/by/country/", "/stats/tree/?bot=false", "/stats/?bot=false", "/stats/total/"]
)
def test_a_database_that_fails_amid_an_answer_is_503_and_not_500(tables, client, monkeypatch, target):
    client.raise_request_exception = False
    Counter.objects.increment("/a")

    cut = sql.SQL("(SELECT pg_terminate_backend(pg_backend_pid())) AS cut")
    tally = sql.SQL("SELECT 1 AS bucket, '' AS value, 1 AS hits, 1 AS visitors FROM {}").format(cut)
    counts = sql.SQL("SELECT id AS counter_id, hits FROM counters_counter, {}").format(cut)
    monkeypatch.setattr(stats.tallies, "tally", lambda *_: tally)
    monkeypatch.setattr(stats.tallies, "counts", lambda *_: counts)
    answer = client.get(target)
    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("The database cannot be reached")


@pytest.mark.parametrize("count", ["/hits/", "/api/a"])
def test_a_database_that_can_only_be_read_is_503_to_what_counts(tables, client, count):
    client.raise_request_exception = False
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    if count == "/hits/":
        answer = client.post(count, '[{"path": "/a"}]', content_type="application/json")
    else:
        answer = client.get(count)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json() == {"detail": "The database could not do it now; try again."}


def test_a_database_that_takes_too_long_is_503_and_is_not_said_to_be_away(tables, client, monkeypatch):
    client.raise_request_exception = False
    slow = sql.SQL("SELECT '' AS value, 1 AS hits, 1 AS visitors FROM (SELECT pg_sleep(10)) AS slow")
    monkeypatch.setattr(stats.tallies, "tally", lambda *_: slow)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '50ms'")
    answer = client.get("/stats/total/")
    assert answer.status_code == 503
    assert answer.json() == {"detail": "The database could not do it now; try again."}
