"""A reset of a path whose days are rolled up: its own figures go; what is told of all paths goes as far as it can."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import transaction

from counters import maintenance, stats
from counters.books import verify
from counters.dimensions import Dimensions, Origin
from counters.hits import counter_id
from counters.models import Counter, DailyHits, DailyPaths, Hit, LateDay, RolledDay
from counters.periods import Period
from counters.questions import ALWAYS, Question
from counters.reset import reset
from tests.oracle import DAY, Made, through_the_orm, through_the_writer

pytestmark = pytest.mark.usefixtures("afresh")

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
SECOND, THIRD, FOURTH = FIRST + DAY, FIRST + 2 * DAY, FIRST + 3 * DAY
DAYS = FIRST, SECOND, THIRD
ONE_HOUR = timedelta(hours=1)
LATER = FOURTH + ONE_HOUR
ANN = Origin(Dimensions("GET", 200, country="DE", browser="Firefox"), b"ann")
BEN = Origin(Dimensions("GET", 404, country="FR", consumer="acme"), b"ben")
BOT = Origin(Dimensions("GET", 200, browser="Googlebot", bot=True), b"bot")

#: /shop/a is what is reset: it shares days, hours and visitors with the others, and has hours and visitors of its own.
RESET = "/shop/a"
HITS = [
    Made(FIRST + ONE_HOUR, "/shop/a", ANN, 2),
    Made(FIRST + ONE_HOUR, "/shop/b", ANN),
    Made(FIRST + 2 * ONE_HOUR, "/shop/a", BOT, 3),
    Made(FIRST + 9 * ONE_HOUR, "/blog", BEN),
    Made(SECOND + ONE_HOUR, "/shop/a", BEN),
    Made(SECOND + 5 * ONE_HOUR, "/shop/b", BOT, 4),
    Made(THIRD + ONE_HOUR, "/shop/a", ANN, 6),
    Made(THIRD + ONE_HOUR, "/blog", BEN, 2),
]
OTHERS = [made for made in HITS if made.path != RESET]


@pytest.fixture
def others(afresh: Callable[[], None]) -> dict[str, dict[str, Any]]:
    """What is answered when the path was never hit."""
    through_the_writer(OTHERS)
    told = answers()
    afresh()
    return told


class Kept(NamedTuple):
    """For how many days maintenance is told to keep what."""

    hits: int = 30
    hours: int = 400


ALL_KEPT = Kept()
#: FIRST and SECOND have no hit rows any more; without hours, FIRST has no hourly figures either.
HITS_DROPPED, HOURS_DROPPED = Kept(hits=1), Kept(hits=1, hours=2)


def maintain(kept: Kept) -> list[str]:
    return list(maintenance.maintain(LATER, keep_hits_days=kept.hits, keep_hours_days=kept.hours))


def of(start: datetime, end: datetime | None = None, **more: Any) -> Question:
    """What is asked of one day, or more."""
    return Question(Period(start, end or start + DAY, ALWAYS.tz), **more)


def answers() -> dict[str, dict[str, Any]]:
    """What is told of the paths, and of all of them together: of each day, and of all of them."""
    periods = [*((day, day + DAY) for day in DAYS), (FIRST, FOURTH)]
    return {"paths": {str(p): of_paths(*p) for p in periods}, "all": {str(p): of_all(*p) for p in periods}}


def of_paths(start: datetime, end: datetime) -> list[Any]:
    asked = of(start, end)
    return [
        list(stats.ranking(asked)),
        stats.page(asked, 2),
        list(stats.ranking(of(start, end, filters={"bot": "true"}))),
        list(stats.tree(asked, 1)),
        list(stats.tree(of(start, end, prefix="/shop/"), 1)),
        stats.total(asked).paths,
        stats.total(of(start, end, filters={"bot": "true"})).paths,
        stats.path_report(of(start, end, path=RESET), "day"),
    ]


def of_all(start: datetime, end: datetime) -> list[Any]:
    asked = of(start, end)
    return [
        stats.total(asked)[:2],
        stats.series(asked, "day"),
        {name: list(stats.by(asked, name)) for name in ("country", "browser", "bot")},
    ]


def reset_path() -> int:
    """The hits that went."""
    [gone] = reset([counter_id(RESET)])
    return gone.hits


def assert_books_balance() -> None:
    differences: list[Any] = []
    verify(differences.append)
    assert differences == []


def removed() -> dict[datetime, int]:
    """How many hits too many each day tells of all paths."""
    return dict(RolledDay.objects.filter(removed__gt=0).values_list("day", "removed"))


# Days whose hit rows are kept


def test_of_days_whose_hit_rows_are_kept_all_is_told_as_if_the_path_had_never_been_hit(others):
    through_the_writer(HITS)
    maintain(ALL_KEPT)
    assert_books_balance()
    assert reset_path() == 12
    assert set(LateDay.objects.values_list("day", flat=True)) == {day.date() for day in DAYS}
    assert answers() == others
    assert_books_balance()
    assert [f"Rolled up {day:%F}." for day in DAYS] == maintain(ALL_KEPT)[:3]
    assert answers() == others
    assert_books_balance()
    assert maintain(ALL_KEPT) == []
    assert not LateDay.objects.exists() and removed() == {}


def test_days_that_the_path_was_not_hit_on_are_not_rolled_up_again():
    through_the_writer([*OTHERS, Made(SECOND, RESET, ANN)])
    maintain(ALL_KEPT)
    reset_path()
    assert [str(day) for day in LateDay.objects.values_list("day", flat=True)] == ["2026-03-02"]
    assert [one for one in maintain(ALL_KEPT) if "Rolled" in one] == ["Rolled up 2026-03-02."]


def test_a_reset_that_is_undone_changes_nothing():
    through_the_writer(HITS)
    maintain(HITS_DROPPED)
    before = answers()
    with transaction.atomic():
        reset_path()
        transaction.set_rollback(True)
    assert answers() == before and removed() == {}
    assert maintain(HITS_DROPPED) == []


# Days whose hit rows are gone


@pytest.mark.parametrize("kept", [HITS_DROPPED, HOURS_DROPPED], ids=["hits dropped", "hours dropped too"])
def test_of_days_whose_hit_rows_are_gone_the_paths_own_figures_go_and_those_of_all_paths_stay(others, kept):
    through_the_writer(HITS)
    maintain(kept)
    assert not Hit.objects.filter(at__lt=THIRD).exists()
    assert_books_balance()
    before = answers()

    def told_rightly() -> None:
        told = answers()
        assert told["paths"] == others["paths"]
        for day in (FIRST, SECOND):
            assert told["all"][str((day, day + DAY))] == before["all"][str((day, day + DAY))]
        assert told["all"][str((THIRD, FOURTH))] == others["all"][str((THIRD, FOURTH))]
        assert stats.total(of(FIRST, FOURTH)).hits == stats.total(Question()).hits == 7 + 5 + 2
        assert removed() == {FIRST.date(): 5, SECOND.date(): 1}
        assert_books_balance()

    assert [reset_path(), reset_path()] == [12, 0]
    assert dict(Counter.objects.values_list("path", "hits")) == {"/shop/a": 0, "/shop/b": 5, "/blog": 3}
    told_rightly()
    for _ in range(2):
        maintain(kept)
        told_rightly()


def test_hours_of_days_whose_hit_rows_are_gone_have_no_hits_of_the_path_but_all_paths_together_still_do():
    through_the_writer(HITS)
    maintain(HITS_DROPPED)
    morning = of(FIRST, FIRST + 3 * ONE_HOUR)
    assert list(stats.ranking(morning)) == [("/shop/a", 5), ("/shop/b", 1)]
    reset_path()
    for _ in range(2):
        assert list(stats.ranking(morning)) == [("/shop/b", 1)]
        assert stats.total(morning) == (6, 2, 1)
        maintain(HITS_DROPPED)


def test_the_paths_of_the_days_are_counted_anew_by_the_next_maintenance():
    through_the_writer(HITS)
    maintain(HITS_DROPPED)
    assert paths_of_days() == {FIRST.date(): 3, SECOND.date(): 2, THIRD.date(): 2}
    reset_path()
    assert set(RolledDay.objects.filter(chained=False).values_list("day", flat=True)) == {FIRST.date(), SECOND.date()}
    assert "Counted the paths of 2026-03-01." in maintain(HITS_DROPPED)
    assert paths_of_days() == {FIRST.date(): 2, SECOND.date(): 1, THIRD.date(): 1}
    assert not RolledDay.objects.filter(chained=False).exists()
    assert stats.total(of(FIRST, THIRD)).paths == 2


def paths_of_days() -> dict[datetime, int]:
    rows = DailyPaths.objects.filter(audience="all").values_list("day", "paths")
    return {day: sum(paths for other, paths in rows if other == day) for day, _ in rows}


def test_resets_of_all_paths_leave_what_is_told_of_days_gone_by_and_balance():
    through_the_writer(HITS)
    maintain(HITS_DROPPED)
    before = of_all(FIRST, THIRD)
    reset([counter_id(path) for path in ("/blog", "/shop/a", "/shop/b")])
    for _ in range(2):
        assert of_all(FIRST, THIRD) == before
        assert removed() == {FIRST.date(): 7, SECOND.date(): 5}
        assert not DailyHits.objects.filter(day__lt=THIRD.date()).exists()
        assert stats.total(of(FIRST, FOURTH)) == (12, 5, 0)
        assert_books_balance()
        maintain(HITS_DROPPED)


# Late hits


@pytest.mark.parametrize(
    ("write", "kept"),
    [(through_the_writer, HITS_DROPPED), (through_the_orm, HOURS_DROPPED)],
    ids=["hits dropped", "hours dropped too"],
)
def test_late_hits_after_a_reset_count_wherever_they_belong(write, kept):
    through_the_writer(HITS)
    maintain(kept)
    reset_path()
    maintain(kept)
    write(
        [
            Made(FIRST + 4 * ONE_HOUR, "/shop/a", BEN, 7),
            Made(FIRST + 4 * ONE_HOUR, "/shop/c", ANN),
            Made(THIRD + 4 * ONE_HOUR, "/shop/a", BEN),
        ]
    )
    for _ in range(3):
        assert list(stats.ranking(of(FIRST))) == [("/shop/a", 7), ("/blog", 1), ("/shop/b", 1), ("/shop/c", 1)]
        assert list(stats.ranking(of(THIRD))) == [("/blog", 2), ("/shop/a", 1)]
        assert stats.total(of(FIRST)) == (7 + 7 + 1, 3 + 2, 4)
        report = stats.path_report(of(FIRST, FOURTH, path=RESET), "day")
        assert (report.count, report.hits, [point.hits for point in report.series]) == (8, 8, [7, 0, 1])
        assert removed() == {FIRST.date(): 5, SECOND.date(): 1}
        assert_books_balance()
        maintain(kept)


def test_late_hits_that_wait_to_be_added_go_with_a_reset_and_are_not_too_many():
    through_the_writer(HITS)
    maintain(HITS_DROPPED)
    through_the_writer([Made(FIRST + 4 * ONE_HOUR, RESET, BEN, 7), Made(FIRST + 4 * ONE_HOUR, "/shop/b", BEN)])
    assert_books_balance()
    assert reset_path() == 12 + 7
    for _ in range(3):
        assert stats.total(of(FIRST)).hits == 7 + 1
        assert list(stats.ranking(of(FIRST))) == [("/shop/b", 2), ("/blog", 1)]
        assert removed() == {FIRST.date(): 5, SECOND.date(): 1}
        assert_books_balance()
        maintain(HITS_DROPPED)


def test_late_hits_that_have_been_added_are_too_many_after_a_reset():
    through_the_writer(HITS)
    maintain(HITS_DROPPED)
    reset_path()
    through_the_writer([Made(FIRST + 4 * ONE_HOUR, RESET, BEN, 7)])
    maintain(HITS_DROPPED)
    assert reset_path() == 7
    for _ in range(2):
        assert stats.total(of(FIRST)).hits == 7 + 7
        assert removed() == {FIRST.date(): 5 + 7, SECOND.date(): 1}
        assert_books_balance()
        maintain(HITS_DROPPED)


# What has been kept by who asked


def test_whoever_kept_an_answer_about_days_whose_hit_rows_are_gone_is_told_that_it_changed(client, settings):
    settings.HITCOUNTER_OPEN = True
    through_the_writer([made for made in HITS if made.at < THIRD])
    maintain(HITS_DROPPED)
    addresses = [f"/stats/{what}?from=2026-03-01&to=2026-03-03" for what in ("", "total/", "tree/", "by/country/")]
    etags = {address: client.get(address)["ETag"] for address in addresses}
    for address, etag in etags.items():
        assert client.get(address, headers={"If-None-Match": etag}).status_code == 304
    reset_path()
    for address, etag in etags.items():
        answer = client.get(address, headers={"If-None-Match": etag})
        assert (answer.status_code, answer["ETag"] == etag) == (200, False), address


def test_the_version_of_an_answer_changes_with_a_reset_and_only_of_the_days_that_it_took_from():
    through_the_writer([*OTHERS, Made(FIRST, RESET, ANN), Made(THIRD, RESET, ANN)])
    maintain(HITS_DROPPED)
    before = {day: stats.version(of(day)) for day in DAYS}
    assert None not in before.values()
    reset_path()
    after = {day: stats.version(of(day)) for day in DAYS}
    assert after[FIRST] not in (None, before[FIRST])
    assert after[SECOND] == before[SECOND]
    assert after[THIRD] is None  # told from hit rows, to which others may come
    maintain(HITS_DROPPED)
    assert stats.version(of(THIRD)) not in (None, before[THIRD])


def test_each_reset_makes_a_version_of_its_own():
    through_the_writer(HITS)
    maintain(HITS_DROPPED)
    versions = [stats.version(of(FIRST))]
    for path in ("/shop/a", "/shop/b", "/blog"):
        reset([counter_id(path)])
        versions.append(stats.version(of(FIRST)))
    assert None not in versions and len(set(versions)) == 4
