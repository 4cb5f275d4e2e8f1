"""The most requested paths of a period, found without adding up all; and what an overview is made of."""

from collections import Counter as Tally
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from random import Random
from threading import Thread
from typing import Any

import pytest
from django.db import connection
from psycopg import sql

from counters import bounds, leaders, stats
from counters.hits import counter_id
from counters.models import Counter, DailyHits, RolledDay
from counters.periods import Period
from counters.questions import ALWAYS, Question
from counters.reset import reset
from tests.integration.test_statistics_plans import scans

pytestmark = pytest.mark.usefixtures("afresh")
FIRST = date(2026, 3, 1)
DAY = timedelta(days=1)
AT = datetime(2026, 3, 1, tzinfo=UTC)
MONTH = Question(Period(AT, AT + 30 * DAY, ALWAYS.tz))
PEOPLE, BOTS = ({"bot": bot} for bot in ("false", "true"))

Days = Mapping[tuple[int, int], Mapping[str, tuple[int, int]]]  # day and part -> path -> hits, of these by bots


def rolled_up(days: Days) -> None:
    """Days that are rolled up, without hit rows."""
    rows = [(n, part, path, *figures) for (n, part), paths in days.items() for path, figures in paths.items()]
    totals: Tally[str] = Tally()
    for _, _, path, hits, _ in rows:
        totals[path] += hits
    Counter.objects.bulk_create(
        Counter(id=counter_id(path), path=path, hits=hits, first_hit=AT, last_hit=AT) for path, hits in totals.items()
    )
    DailyHits.objects.bulk_create(
        DailyHits(
            counter_id=counter_id(path), day=FIRST + n * DAY, part=part, hits=hits, visitors=0,
            bot_hits=bots, bot_visitors=0, dimensions="{}",
        )
        for n, part, path, hits, bots in rows
    )  # fmt: skip
    RolledDay.objects.bulk_create(RolledDay(day=FIRST + n * DAY, rolled=AT) for n in {n for n, _ in days})
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE counters_dailyhits, counters_counter")


def ranked(days: Days, filters: Mapping[str, str], limit: int) -> list[tuple[str, int]]:
    """The same by brute force."""
    totals: Tally[str] = Tally()
    for paths in days.values():
        for path, (hits, bots) in paths.items():
            totals[path] += {None: hits, "true": bots, "false": hits - bots}[filters.get("bot")]
    rows = [(path, hits) for path, hits in totals.items() if hits]
    return sorted(rows, key=lambda row: (-row[1], row[0].encode()))[:limit]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], list[str]]:
    """What a read executes, by what it is for."""
    execute, said = stats._rows, []

    def rows(statement: sql.Composable) -> list[Any]:
        text = statement.as_string()
        said.append("head" if "WITH lists" in text else "index" if "last_read" in text else "all")
        return execute(statement)

    def do(ask: Callable[[], Any]) -> list[str]:
        said.clear()
        monkeypatch.setattr(stats, "_rows", rows)
        ask()
        return said

    return do


@pytest.fixture
def only_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be added up."""

    def refused(*_: Any) -> sql.Composable:
        raise AssertionError("all is added up")

    monkeypatch.setattr(stats, "_ranked", refused)


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has most hits of all times is not looked up first."""
    monkeypatch.setattr(leaders, "MOST_KNOWN", 0)


def skewed(number: int, days: int) -> Days:
    return {(n, 0): {f"/{rank:04}": (1000 // rank + 1, 100 // rank) for rank in range(1, number)} for n in range(days)}


@pytest.mark.parametrize("known", [0, 100])
@pytest.mark.parametrize("seed", range(24))
def test_the_first_of_a_ranking_are_those_of_brute_force(seed, known, monkeypatch):
    monkeypatch.setattr(leaders, "MOST_KNOWN", known)
    draw = Random(seed)
    number = draw.choice([3, 40, 300])

    def figures(rank: int) -> tuple[int, int]:
        hits = draw.choice([draw.randint(1, 3), 1, 200 // rank + 1] if seed % 2 else [1])
        return hits, draw.randint(0, hits)

    lists = [(n, part) for n in range(draw.randint(1, 6)) for part in range(draw.choice([1, 1, 3]))]
    days = {
        one: {f"/{rank}": figures(rank) for rank in draw.sample(range(1, number + 1), draw.randint(0, number))}
        for one in lists
    }
    rolled_up(days)
    for filters in ({}, PEOPLE, BOTS):
        for limit in (1, 2, 5, 10, 200):
            question = Question(MONTH.period, filters=filters)
            assert stats.page(question, limit) == ranked(days, filters, limit), (filters, limit)
            assert stats.page(question, limit) == list(stats.ranking(question))[:limit]


def test_what_is_most_of_all_history_is_settled_by_what_has_most_hits_of_all_times(read):
    rolled_up(days := skewed(400, 5))
    assert read(lambda: stats.page(MONTH, 10)) == ["all"]  # that has been looked up
    assert stats.page(MONTH, 10) == ranked(days, {}, 10)


def test_what_has_most_hits_of_all_times_settles_nothing_where_those_came_before(read, only_lists):
    days = skewed(400, 5)
    rolled_up(days)
    Counter.objects.filter(path__lt="/0200").update(hits=10**6)
    assert read(lambda: stats.page(MONTH, 10)) == ["all", "head"]
    assert stats.page(MONTH, 10) == ranked(days, {}, 10)


def test_a_clear_head_is_found_at_once(read, only_lists, unknown):
    rolled_up(days := skewed(400, 5))
    assert read(lambda: stats.page(MONTH, 10)) == ["head"]
    assert stats.page(MONTH, 10) == ranked(days, {}, 10)


def test_a_path_that_is_first_on_no_day_is_found(only_lists, unknown):
    rare = {f"/rare/{k}": (1, 0) for k in range(50)}
    days = {(n, 0): {**{f"/{n}/{k}": (100, 0) for k in range(2)}, "/steady": (90, 0), **rare} for n in range(5)}
    rolled_up(days)
    assert stats.page(MONTH, 1) == [("/steady", 450)]


def test_lists_are_read_just_as_deep_as_the_index_says(read, only_lists, unknown):
    flat = {**{f"/flat/{k}": (9, 0) for k in range(12)}, **{f"/rare/{k}": (1, 0) for k in range(50)}}
    days = {(n, 0): {**{f"/{n}{path}": figures for path, figures in flat.items()}, "/b": (8, 0)} for n in range(5)}
    rolled_up(days)
    assert read(lambda: stats.page(MONTH, 1)) == ["head", "index", "head"]
    assert stats.page(MONTH, 1) == [("/b", 40)]


def test_what_is_even_is_added_up_and_no_list_read_in_vain(read, unknown):
    rolled_up(days := {(n, 0): {f"/{k:03}": (1, 0) for k in range(700)} for n in range(3)})
    said = read(lambda: stats.page(MONTH, 5))
    assert (said[0], said[-1]) == ("head", "all")
    assert {*said[1:-1]} == {"index"}
    assert stats.page(MONTH, 5) == ranked(days, {}, 5)


def test_of_equal_paths_the_first_by_name_is_found_though_it_was_not_seen(unknown):
    rolled_up({(0, 0): {**{f"/z{k}": (5, 0) for k in range(50)}, "/a": (5, 0)}})
    assert stats.page(MONTH, 1) == [("/a", 5)]


def test_bots_that_few_lists_begin_with_are_found():
    people = {f"/p{k}": (1000 - k, 0) for k in range(30)}
    rolled_up({(n, 0): {**people, "/bots": (20, 20), "/some": (10, 5)} for n in range(3)})
    assert stats.page(Question(MONTH.period, filters=BOTS), 2) == [("/bots", 60), ("/some", 15)]


def test_a_path_that_was_reset_is_not_among_the_first():
    rolled_up(skewed(50, 3))
    list(reset([counter_id("/0001")]))
    assert stats.page(MONTH, 1)[0][0] == "/0002"


def test_no_day_is_an_empty_list():
    assert stats.page(MONTH, 3) == []


def test_the_heads_are_read_by_index_and_nothing_is_read_whole():
    rolled_up(skewed(2000, 5))
    with stats._snapshot():
        scope = stats._scope(MONTH)
        lists = leaders.lists(scope)
        assert lists
        for statement in (leaders.best(scope, lists, 10, 20), leaders.unread(lists, 160)):
            [([explained],)] = stats._rows(sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) {}").format(statement))
            found = list(scans(explained["Plan"]))
            assert "dailyhits_leaders" in {scan.get("Index Name") for scan in found}
            assert not [scan for scan in found if scan["Node Type"] == "Seq Scan"]
            rows = sum(
                scan["Actual Rows"] * scan["Actual Loops"] for scan in found if scan["Node Type"] == "Index Scan"
            )
            assert rows <= 5 * 20 + 25 * 5 + 25


def test_an_overview_is_of_one_moment(monkeypatch):
    Counter.objects.increment("/a", at=AT)
    read_series = stats._points

    def after_another_hit(*arguments: Any) -> list[stats.Point]:
        def hit() -> None:
            Counter.objects.increment("/a", 5, at=AT)
            connection.close()

        other = Thread(target=hit)
        other.start()
        other.join()
        return read_series(*arguments)

    monkeypatch.setattr(stats, "_points", after_another_hit)
    overview = stats.overview(Question(), "day", ["method"], 3)
    assert (overview.hits, overview.series[0].hits, overview.paths) == (1, 1, [("/a", 1)])
    assert overview.dimensions == {"method": [("GET", 1)]}
    assert stats.count("/a") == 6


def test_an_overview_has_no_period_before_of_what_is_not_kept():
    rolled_up(skewed(3, 2))
    hourly = Period(AT - DAY / 48, AT, ALWAYS.tz)
    Counter.objects.increment("/late", at=AT - DAY)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO counters_rolledday (day, rolled, chained, removed) VALUES (%s, now(), true, 0)",
                       [FIRST - DAY])  # fmt: skip
        cursor.execute("INSERT INTO counters_retention VALUES ('hits', %s), ('hours', %s)", [FIRST, FIRST])
    assert stats.overview(MONTH, "day", [], 1, Question(hourly)).previous is None
    with pytest.raises(stats.NotKept):
        stats.overview(Question(hourly), "day", [], 1)


def test_a_path_is_looked_for_as_it_is_written():
    rolled_up({(0, 0): {path: (n, 0) for n, path in enumerate(["/a%b", "/a_b", "/a\\b", "/axb", "/A%B"], start=1)}})
    assert stats.search("a%b", 9) == [("/a%b", 1)]
    assert stats.search("_", 9) == [("/a_b", 2)]
    assert stats.search("\\", 9) == [("/a\\b", 3)]
    assert stats.search("/a", 2) == [("/axb", 4), ("/a\\b", 3)]
    assert stats.search("ä", 9) == stats.search("\0", 9) == []


def test_a_search_gives_up(monkeypatch):
    rolled_up({(0, 0): {f"/{k}": (1, 0) for k in range(30_000)}})
    monkeypatch.setattr(bounds, "LONGEST_READ_SECONDS", 0.001)
    with pytest.raises(stats.TookTooLong):
        stats.search("nothing", 9)


def test_places_are_those_of_the_ranking():
    rolled_up({(0, 0): {"/a": (5, 0), "/b": (7, 0), "/c": (5, 0), "/d": (6, 0), "/e": (1, 0)}})
    Counter.objects.create(id=counter_id("/reset"), path="/reset", hits=0)
    assert [stats.place(path) for path, _ in stats.counters_ranked()] == [(n, 5) for n in range(1, 6)]
    assert stats.place("/reset") is stats.place("/never") is None
