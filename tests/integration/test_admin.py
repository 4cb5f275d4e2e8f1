"""The admin: counters are browsed, searched and reset without counting the table, and no figure can be edited."""

import json
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from counters import bounds
from counters.admin import counts as counter_admin
from counters.books import Verdict, keep, verify
from counters.hits import counter_id, now
from counters.models import Counter, HourlyHits, ImportedLog, LoadTestRun
from counters.reset import ResetBusy

pytestmark = pytest.mark.django_db

COUNTERS = "/admin/counters/counter/"
IMPORTED_LOGS = "/admin/counters/importedlog/"
LOAD_TESTS = "/admin/counters/loadtestrun/"
REPORT = {
    "requested": 1000, "succeeded": 998, "failed": 2, "errors": {"503": 2}, "seconds": 0.5,
    "requests_per_second": 2000.5, "latency_ms": {"p50": 1.25, "p95": 2.5, "p99": 3.75, "max": 9.0},
    "unique_paths": 1, "paths": [{"path": "/api/<b>/", "count": 998}], "counted": 998,
}  # fmt: skip


def count(*paths, by=1, at=None):
    for path in paths:
        Counter.objects.increment(path, by=by, at=at)


def many(number, hits=1):
    """Counters alone, without history."""
    paths = [f"/api/{n:05}/" for n in range(number)]
    Counter.objects.bulk_create([Counter(id=counter_id(path), path=path, hits=hits, last_hit=now()) for path in paths])


@pytest.fixture
def staff(client):
    """Logs in a member of staff with some permissions."""

    def log_in(*permissions):
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return log_in


def listed(response):
    return [counter.path for counter in response.context["cl"].result_list]


def said(response):
    return [str(message) for message in response.context["messages"]]


def plan_of_list(client, parameters):
    """PostgreSQL's plan for the statement that reads the list's page, and that statement."""
    with CaptureQueriesContext(
        connection,
    ) as queries:
        client.get(COUNTERS, parameters)
    [statement] = [
        query["sql"] for query in queries if 'FROM "counters_counter"' in query["sql"] and "LIMIT" in query["sql"]
    ]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + statement)
        return "\n".join(line for (line,) in cursor.fetchall())


def post_action(client, *ids, **more):
    return client.post(COUNTERS, {"action": "reset_selected", "_selected_action": list(ids), **more}, follow=True)


def test_the_most_requested_come_first_ties_by_path(admin_client):
    count("/api/few/", by=2)
    count("/api/most/", by=1000)
    count("/api/b/", "/api/a/", by=30)
    assert listed(admin_client.get(COUNTERS)) == ["/api/most/", "/api/a/", "/api/b/", "/api/few/"]


@pytest.mark.parametrize(
    ("order", "paths"), [("-2", ["/c", "/b", "/a"]), ("2", ["/a", "/b", "/c"]), ("-1", ["/c", "/b", "/a"])]
)
def test_columns_sort(admin_client, order, paths):
    for by, path in enumerate("abc", 1):
        count(f"/{path}", by=by)
    assert listed(admin_client.get(COUNTERS, {"o": order})) == paths


@pytest.mark.parametrize(
    ("parameters", "index"),
    [
        ({}, "counter_magnitude"),
        ({"o": "-2"}, "counter_magnitude"),
        ({"o": "2"}, "counter_magnitude"),
        ({"o": "1"}, "counter_path"),
        ({"p": "3"}, "counter_magnitude"),
        ({"q": "/api/001"}, "counter_path"),
    ],
)
def test_pages_are_read_from_an_index(admin_client, parameters, index):
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE counters_counter")  # of the room that other tests' rows took, too: plans depend on it
        cursor.execute(
            "INSERT INTO counters_counter (id, path, hits) "
            "SELECT md5(n::text)::uuid, '/api/' || lpad(n::text, 6, '0'), 1 + n % 1000 FROM generate_series(1, 20000) n"
        )
        cursor.execute("ANALYZE counters_counter")
    plan = plan_of_list(admin_client, parameters)
    assert f"using {index}" in plan or f"on {index}" in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    "parameters", [{}, {"p": 2}, {"q": "/api/"}, {"q": "api"}, {"last": "today"}, {"_facets": "1"}]
)
def test_nothing_is_counted_for_a_page(admin_client, parameters):
    many(150)
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(COUNTERS, parameters)
    statements = [query["sql"] for query in queries if "counters_counter" in query["sql"]]
    assert len([sql for sql in statements if "LIMIT 101" in sql]) == 1
    # The totals of the first, unfiltered page add up the table once.
    assert len([sql for sql in statements if "COUNT(" in sql]) == (0 if parameters else 1)


def test_a_page_takes_few_statements_however_long_it_is(admin_client, django_assert_max_num_queries):
    many(150)
    with django_assert_max_num_queries(16):
        admin_client.get(COUNTERS)


def test_pages_link_to_the_one_before_and_the_one_after(admin_client):
    many(250)
    first, second, third = (admin_client.get(COUNTERS, {"p": page, "q": "/api/"}) for page in (1, 2, 3))
    links = [(page.context["cl"].previous_link, page.context["cl"].next_link) for page in (first, second, third)]
    assert links == [("", "?p=2&q=%2Fapi%2F"), ("?p=1&q=%2Fapi%2F", "?p=3&q=%2Fapi%2F"), ("?p=2&q=%2Fapi%2F", "")]
    assert len({*listed(first), *listed(second), *listed(third)}) == 250
    assert "101 to 200<" in second.content.decode() and "201 to 250 of 250" in third.content.decode()


@pytest.mark.parametrize(("page", "shown"), [("0", 1), ("-5", 1), ("x", 1), ("2", 2), ("99999999999999999999", 3)])
def test_no_page_is_too_deep(admin_client, monkeypatch, page, shown):
    monkeypatch.setattr(counter_admin, "MOST_PAGES", 3)
    many(350)
    response = admin_client.get(COUNTERS, {"p": page})
    assert response.status_code == 200 and response.context["cl"].page_num == shown


def test_the_last_page_says_that_more_follow(admin_client, monkeypatch):
    monkeypatch.setattr(counter_admin, "MOST_PAGES", 1)
    many(101)
    page = admin_client.get(COUNTERS).content.decode()
    assert "More follow than are listed here" in page and 'rel="next"' not in page


def test_a_page_past_the_end_says_so(admin_client):
    assert "There is no page 7." in admin_client.get(COUNTERS, {"p": 7}).content.decode()


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("/api/shop", {"/api/shop/", "/api/shopping/"}),
        (" /api/shop/ ", {"/api/shop/"}),
        ("/API", set()),
        ("shop", {"/api/shop/", "/api/shopping/", "/api/x/shop/"}),
        ("%2F", {"/api/a%2Fb/"}),
        ("_", set()),
        ("/api/é", set()),
        ("", {"/api/shop/", "/api/shopping/", "/api/x/shop/", "/api/a%2Fb/"}),
    ],
)
def test_a_search_finds_paths_by_their_beginning_or_what_they_contain(admin_client, term, found):
    count("/api/shop/", "/api/shopping/", "/api/x/shop/", "/api/a%2Fb/")
    assert set(listed(admin_client.get(COUNTERS, {"q": term}))) == found


def test_a_search_that_takes_too_long_is_given_up_with_advice(admin_client, monkeypatch):
    monkeypatch.setattr(bounds, "LONGEST_READ_SECONDS", 0.001)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO counters_counter (id, path, hits) "
            "SELECT md5(n::text)::uuid, '/api/' || repeat('x', 1000) || n, 1 FROM generate_series(1, 20000) n"
        )
    response = admin_client.get(COUNTERS, {"q": "none"})
    assert response.status_code == 200 and listed(response) == []
    assert "Search for the beginning of a path" in said(response)[0]


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ("today", {"/now"}),
        ("week", {"/now", "/6"}),
        ("month", {"/now", "/6", "/29"}),
        ("older", {"/31"}),
        ("never", {"/reset"}),
        ("nonsense", {"/now", "/6", "/29", "/31", "/reset"}),
    ],
)
def test_the_filter_goes_by_the_last_hit(admin_client, last, found):
    count("/now")
    for days in (6, 29, 31):
        count(f"/{days}", at=now() - timedelta(days=days))
    Counter.objects.create(id=counter_id("/reset"), path="/reset", hits=0)
    assert set(listed(admin_client.get(COUNTERS, {"last": last}))) == found


@pytest.mark.parametrize("parameter", ["path__regex", "hits__gt", "nonsense", "last_hit"])
def test_other_conditions_are_refused(admin_client, parameter):
    assert admin_client.get(COUNTERS, {parameter: "(((1"}).status_code == 400


def test_a_nul_in_the_search_is_refused_with_a_message(admin_client):
    assert admin_client.get(COUNTERS, {"q": "\x00"}).status_code == 200


def test_totals_stand_on_the_unfiltered_page_only(admin_client):
    count("/api/a/", by=1234)
    count("/api/b/")
    assert "2 paths, 1,235 hits in total." in admin_client.get(COUNTERS).content.decode()
    assert "in total" not in admin_client.get(COUNTERS, {"q": "/"}).content.decode()


def test_totals_that_take_too_long_are_an_estimate_and_say_so(monkeypatch):
    monkeypatch.setattr(bounds, "LONGEST_READ_SECONDS", 0.001)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO counters_counter (id, path, hits) "
            "SELECT md5(n::text)::uuid, '/api/' || repeat('x', 500) || n, 1 FROM generate_series(1, 20000) n"
        )
        cursor.execute("ANALYZE counters_counter")
    totals = counter_admin.totals()
    assert totals.hits is None and 19_000 < totals.paths < 21_000 and str(totals).startswith("About ")


@pytest.mark.parametrize("path", ["/api/<script>alert(1)</script>", "/api/a%2Fb%20%C3%A9/", "/api/'\"&amp;"])
def test_paths_are_shown_as_they_are_stored_and_escaped(admin_client, path):
    count(path)
    key = counter_id(path)
    pages = [admin_client.get(COUNTERS), admin_client.get(f"{COUNTERS}{key}/change/"), post_action(admin_client, key)]
    for page in (page.content.decode() for page in pages):
        assert path in unescape(page) and "<script>alert" not in page


def test_a_counter_is_shown_without_anything_to_edit(admin_client):
    count("/api/a/", by=1234)
    page = admin_client.get(f"{COUNTERS}{counter_id('/api/a/')}/change/").content.decode()
    assert "1,234" in page and 'name="_save"' not in page and 'name="hits"' not in page


@pytest.mark.parametrize("model", ["counter", "loadtestrun"])
def test_nobody_adds_changes_or_deletes(admin_client, model):
    count("/api/a/", by=5)
    run = LoadTestRun.objects.create(url="http://x", requested=1, concurrency=1)
    key = {"counter": counter_id("/api/a/"), "loadtestrun": run.pk}[model]
    base = f"/admin/counters/{model}/"
    assert [admin_client.post(base + end).status_code for end in ("add/", f"{key}/change/", f"{key}/delete/")] == [
        403
    ] * 3
    admin_client.post(base, {"action": "delete_selected", "_selected_action": [key], "post": "yes"})
    assert Counter.objects.get().hits == 5 and LoadTestRun.objects.exists()


# Resetting


def test_a_reset_asks_first_and_says_what_goes(admin_client):
    count("/api/a/", by=1200)
    count("/api/b/", by=34)
    page = post_action(admin_client, counter_id("/api/a/"), counter_id("/api/b/"), index="0").content.decode()
    assert "<strong>2 counters</strong> with <strong>1,234 hits</strong>" in page
    assert set(Counter.objects.values_list("hits", flat=True)) == {1200, 34}


def test_a_confirmed_reset_takes_the_hits_and_leaves_the_old_figures_in_the_log(admin_client):
    count("/api/a/", by=1200)
    count("/api/b/", "/api/c/", by=17)
    count("/api/other/")
    keys = [counter_id(f"/api/{name}/") for name in "abc"]
    response = post_action(admin_client, *keys, confirmed="yes")
    assert said(response) == ["Reset 3 counters; 1,234 hits went."]
    assert sorted(Counter.objects.values_list("path", "hits")) == [
        ("/api/a/", 0), ("/api/b/", 0), ("/api/c/", 0), ("/api/other/", 1),
    ]  # fmt: skip
    assert HourlyHits.objects.count() == 1 and verify(print).differing == 0
    entries = LogEntry.objects.order_by("object_repr").values_list("object_id", "object_repr", "change_message")
    messages = ["Reset: 1,200 hits went.", "Reset: 17 hits went.", "Reset: 17 hits went."]
    assert list(entries) == [
        (str(key), f"/api/{name}/", message) for key, name, message in zip(keys, "abc", messages, strict=True)
    ]
    assert "1,200 hits went" in admin_client.get(f"{COUNTERS}{keys[0]}/history/").content.decode()


def test_all_pages_can_be_selected_and_what_is_confirmed_are_the_counters_shown(admin_client):
    many(120)
    count("/other")
    page = admin_client.post(
        COUNTERS + "?q=/api/",
        {
            "action": "reset_selected",
            "index": "0",
            "select_across": "1",
            "_selected_action": [counter_id("/api/00000/")],
        },
    )
    assert "<strong>120 counters</strong>" in page.content.decode()
    assert page.content.decode().count('name="_selected_action"') == 120
    assert "select_across" not in page.content.decode()


def test_more_than_the_admin_can_reset_at_once_is_refused_with_the_way_to_do_it(admin_client):
    many(counter_admin.MOST_RESET_AT_ONCE + 1)
    response = post_action(admin_client, counter_id("/api/00000/"), select_across="1", confirmed="yes", index="0")
    assert "resetcounts --prefix" in said(response)[0]
    assert not Counter.objects.filter(hits=0).exists()


def test_as_many_as_can_be_reset_at_once_fit_into_the_form(admin_client, settings):
    many(counter_admin.MOST_RESET_AT_ONCE)
    keys = Counter.objects.values_list("id", flat=True)
    assert len(keys) + 10 < settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
    assert said(post_action(admin_client, *keys, confirmed="yes")) == ["Reset 500 counters; 500 hits went."]


@pytest.mark.parametrize(("selected", "reason"), [("nonsense", "is no counter"), ("", "is no counter")])
def test_a_selection_of_nonsense_is_refused(admin_client, selected, reason):
    count("/api/a/")
    response = post_action(admin_client, selected, confirmed="yes")
    assert response.status_code == 200 and reason in said(response)[0]


def test_a_reset_while_another_runs_is_refused(admin_client, monkeypatch):
    def busy(ids):
        raise ResetBusy

    monkeypatch.setattr(counter_admin, "reset", busy)
    count("/api/a/")
    assert "Another reset is running" in said(post_action(admin_client, counter_id("/api/a/"), confirmed="yes"))[0]


@pytest.mark.parametrize(
    ("permission", "status", "hits"),
    [("view_counter", 200, 1), ("change_counter", 200, 0), ("view_loadtestrun", 403, 1)],
)
def test_a_reset_takes_the_permission_to_change_counters(staff, permission, status, hits):
    client = staff(permission)
    count("/api/a/")
    assert client.get(COUNTERS).status_code == status
    post_action(client, counter_id("/api/a/"), confirmed="yes")
    assert Counter.objects.get().hits == hits


# Load tests


def test_load_tests_are_listed_with_their_figures(admin_client):
    LoadTestRun.objects.create(url="http://x", requested=1000, concurrency=100, report=REPORT)
    LoadTestRun.objects.create(url="http://x", requested=7, concurrency=100)
    page = admin_client.get(LOAD_TESTS).content.decode()
    for figure in ("998", "2,000.5", "1.25", "3.75", "not finished"):
        assert f">{figure}</td>" in page


def test_the_list_of_load_tests_leaves_their_paths_in_the_database(admin_client):
    LoadTestRun.objects.create(url="http://x", requested=1000, concurrency=100, report=REPORT)
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(LOAD_TESTS)
    assert not [sql for query in queries if '"counters_loadtestrun"."report",' in (sql := query["sql"])]


def test_a_load_test_is_shown_readably_with_its_paths_escaped(admin_client):
    run = LoadTestRun.objects.create(url="http://x", requested=1000, concurrency=100, report=REPORT)
    page = admin_client.get(f"{LOAD_TESTS}{run.pk}/change/").content.decode()
    for row in ("<td>503</td><td>2</td>", "<td>p95</td><td>2.5</td>", "<td>/api/&lt;b&gt;/</td><td>998</td>"):
        assert row in page
    assert json.dumps(REPORT) not in page


def test_a_load_test_that_was_cut_short_is_shown_too(admin_client):
    run = LoadTestRun.objects.create(url="http://x", requested=1000, concurrency=100)
    page = admin_client.get(f"{LOAD_TESTS}{run.pk}/change/").content.decode()
    assert "not finished" in page and "None" not in page


def test_the_admin_is_called_hit_counter(admin_client):
    page = admin_client.get(reverse("admin:index")).content.decode()
    assert "Hit Counter" in page and "Django administration" not in page


# Imported logs


def imported_log(name: str = "access.log") -> ImportedLog:
    return ImportedLog.objects.create(name=name, head=b"head", tail=b"tail", marks=b"", offset=4321, lines=30, hits=28)


def test_imported_logs_are_listed_with_what_they_brought_and_cannot_be_edited(admin_client):
    log = imported_log("<b>access.log")
    page = admin_client.get(IMPORTED_LOGS).content.decode()
    assert "&lt;b&gt;access.log" in page and "4321" in page and "28" in page
    page = admin_client.get(f"{IMPORTED_LOGS}{log.pk}/change/").content.decode()
    assert 'name="_save"' not in page and 'name="offset"' not in page


def test_an_imported_log_can_be_forgotten_by_who_may_delete_it(admin_client, client, django_user_model):
    log = imported_log()
    viewer = django_user_model.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_importedlog"))
    client.force_login(viewer)
    assert client.post(f"{IMPORTED_LOGS}{log.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "count again" in admin_client.get(f"{IMPORTED_LOGS}{log.pk}/delete/").content.decode()
    assert admin_client.post(f"{IMPORTED_LOGS}{log.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not ImportedLog.objects.exists()


# Verifications


def test_verifications_are_listed_and_cannot_be_changed(admin_client):
    kept = keep(Verdict(1234, 5, 6), now())
    page = admin_client.get("/admin/counters/verification/").content.decode()
    assert "1234" in page
    page = admin_client.get(f"/admin/counters/verification/{kept.pk}/change/").content.decode()
    assert 'name="_save"' not in page
    assert admin_client.post(f"/admin/counters/verification/{kept.pk}/delete/", {"post": "yes"}).status_code == 403


def test_a_load_test_that_failed_says_why_and_shows_its_latencies(admin_client):
    report = {**REPORT, "histogram": [{"ms": 0.5, "count": 998}, {"ms": 1000, "count": 2}]}
    run = LoadTestRun.objects.create(
        url="http://x", requested=1000, concurrency=100, report=report, failure="It <fell>."
    )
    page = admin_client.get(f"{LOAD_TESTS}{run.pk}/change/").content.decode()
    for part in ("It &lt;fell&gt;.", "<td>0.5</td><td>998</td>", "<td>1,000</td><td>2</td>"):
        assert part in page
