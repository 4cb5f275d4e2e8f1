"""`manage.py forget`: what goes, what stays, while other hits keep arriving and the books keep balancing."""

import asyncio
import io
import threading
from collections import Counter as Tally
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from counters import forget, hits, maintenance, reset, stats
from counters.dimensions import Dimensions, Origin
from counters.forget import folded_into_unknown
from counters.hits import counter_id
from counters.models import Counter, DailyHits, DimensionSet, Hit, HourlyHits, LateDay, RolledDay, Rollup
from counters.periods import Period
from counters.questions import ALWAYS, Question
from tests.integration.test_resetcounts import PATHS as BUSY
from tests.integration.test_resetcounts import (
    WAIT_SECONDS,
    InThread,
    _deadlocks,
    _send,
    assert_books_balance,
    wait_until,
    waiting_for_a_lock,
)
from tests.oracle import DAY, Made, through_the_orm, through_the_writer

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
SECOND, THIRD, FOURTH = FIRST + DAY, FIRST + 2 * DAY, FIRST + 3 * DAY
HOUR = timedelta(hours=1)
ANN = Origin(Dimensions("GET", 200, country="DE"), b"ann")
BEN = Origin(Dimensions("GET", 404, country="FR", consumer="acme"), b"ben")
HITS = [
    Made(FIRST + HOUR, "/shop/a", ANN, 2),
    Made(FIRST + 2 * HOUR, "/shop/a", BEN, 3),
    Made(FIRST + 9 * HOUR, "/blog", BEN),
    Made(SECOND + HOUR + timedelta(minutes=7), "/shop/a", ANN),
    Made(SECOND + 5 * HOUR, "/shop/b", ANN, 4),
    Made(THIRD + HOUR, "/shop/a", BEN, 6),
    Made(THIRD + HOUR, "/blog", ANN, 2),
]

pytestmark = pytest.mark.usefixtures("afresh")


def run(*arguments: str) -> str:
    """What the command prints."""
    out = io.StringIO()
    call_command("forget", *arguments, "--yes", stdout=out)
    return out.getvalue().strip()


def maintain(keep_hits_days: int = 30, keep_hours_days: int = 400) -> None:
    list(
        maintenance.maintain(FOURTH + HOUR, keep_hits_days=keep_hits_days, keep_hours_days=keep_hours_days),
    )


def counters() -> dict[str, int]:
    return dict(Counter.objects.values_list("path", "hits"))


def everything() -> str:
    """All rows of all tables, as text."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname LIKE 'counters\\_%' AND relkind IN ('r', 'p')")
        tables = [name for (name,) in cursor.fetchall()]
        texts = []
        for table in tables:
            cursor.execute(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} AS t")  # noqa: S608
            texts.append(cursor.fetchone()[0])
    return "\n".join(texts)


def hits_of(start: datetime, end: datetime, **more: Any) -> int:
    return stats.total(Question(Period(start, end, ALWAYS.tz), **more)).hits


# Paths


@pytest.mark.parametrize("kept", [30, 1], ids=["hit rows kept", "hit rows dropped"])
def test_a_path_goes_with_all_that_names_it(kept: int):
    through_the_writer(HITS)
    maintain(kept)
    assert "/shop/a" in everything() and str(counter_id("/shop/a")) in everything()
    assert run("--path", "/shop/a") == "Forgot 12 hits; 1 counter had none left and is gone."
    assert counters() == {"/shop/b": 4, "/blog": 3}
    assert "/shop/a" not in everything() and str(counter_id("/shop/a")) not in everything()
    assert_books_balance()
    maintain(kept)
    assert_books_balance()


def test_a_prefix_goes_and_what_is_beside_it_stays():
    through_the_writer(HITS)
    maintain()
    assert run("--prefix", "/shop/") == "Forgot 16 hits; 2 counters had none left and are gone."
    assert counters() == {"/blog": 3}
    assert hits_of(FIRST, FOURTH) == 3


def test_a_path_that_was_reset_goes_too():
    through_the_writer(HITS)
    reset.reset([counter_id("/blog")])
    assert run("--path", "/blog") == "Forgot 0 hits; 1 counter had none left and is gone."


def test_a_path_counts_from_one_again():
    through_the_writer(HITS)
    run("--path", "/shop/a")
    assert Counter.objects.increment("/shop/a", at=FOURTH) == 1
    assert_books_balance()


def test_of_a_path_only_what_was_before_a_day_goes():
    through_the_writer(HITS)
    maintain()
    assert run("--path", "/shop/a", "--before", "2026-03-02") == ("Forgot 5 hits.")
    assert counters() == {"/shop/a": 7, "/shop/b": 4, "/blog": 3}
    counter = Counter.objects.get(path="/shop/a")
    assert (counter.first_hit, counter.last_hit) == (HITS[3].at, THIRD + HOUR)
    assert hits_of(FIRST, SECOND) == 1
    assert_books_balance()


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("arguments", [["--path", "/shop/b"], ["--prefix", "/shop/", "--before", "2026-03-04"]])
def test_done_again_one_that_was_cut_short_after_the_hits_has_their_combinations_go_too(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
):
    through_the_writer([Made(THIRD, "/shop/b", Origin(Dimensions("GET", route="/shop/b")))])
    with monkeypatch.context() as patch:
        patch.setattr(forget, "_forget_unused_sets", _killed)
        with pytest.raises(KeyboardInterrupt):
            run(*arguments)
    assert DimensionSet.objects.filter(route="/shop/b").exists()
    with pytest.raises(CommandError, match="There is no counter"):
        run(*arguments)
    assert not DimensionSet.objects.filter(route="/shop/b").exists()


@pytest.mark.parametrize(
    "arguments", [["--path", "/shop/b"], ["--prefix", "/shop/b"], ["--consumer", "acme"], ["--before", "2026-03-02"]]
)
def test_a_combination_that_names_what_was_forgotten_goes_with_its_last_hit(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(forget, "SETS_AT_ONCE", 1)
    consumer = "acme" if "--consumer" in arguments else ""
    at = FIRST if "--before" in arguments else THIRD
    routes = [
        Origin(Dimensions("GET", route=route, referrer_url="https://example.org/shop/b", consumer=consumer))
        for route in ("/shop/b", "/shop/<id>")
    ]
    still = Origin(Dimensions("GET", route="/blog"))
    through_the_writer([Made(THIRD, "/blog", still), *(Made(at, "/shop/b", route) for route in routes)])
    DimensionSet.objects.create(id=1, seen=hits.now().date() - DAY, **Dimensions("GET")._asdict())  # a writer has it
    run(*arguments)
    assert set(DimensionSet.objects.values_list("id", flat=True)) == {still.id, 1}


# Before a day


def test_what_was_before_a_day_is_gone_and_earlier_periods_have_no_hits():
    through_the_writer(HITS)
    maintain(keep_hits_days=1, keep_hours_days=2)
    assert run("--before", "2026-03-03") == "Forgot 11 hits; 1 counter had none left and is gone."
    assert counters() == {"/shop/a": 6, "/blog": 2}
    minutes = Question(Period(FIRST + timedelta(minutes=3), FOURTH, ALWAYS.tz), prefix="/shop/")
    assert stats.total(minutes) == (6, 1, 1)  # of those days nothing is left that could not be told
    assert not any(table.objects.filter(day__lt=THIRD.date()).exists() for table in (DailyHits, RolledDay, LateDay))
    assert not Rollup.objects.filter(start__lt=THIRD).exists()
    assert min(maintenance.partitions()) == THIRD.date()
    assert dict(Counter.objects.values_list("path", "first_hit")) == {"/shop/a": THIRD + HOUR, "/blog": THIRD + HOUR}
    assert_books_balance()


def test_the_first_hit_of_days_without_hit_rows_is_that_of_the_hour_and_without_hours_of_the_day():
    through_the_writer(HITS)
    maintain(keep_hits_days=1)
    run("--before", "2026-03-02")
    assert Counter.objects.get(path="/shop/a").first_hit == SECOND + HOUR
    maintain(keep_hits_days=1, keep_hours_days=1)
    through_the_writer([Made(FIRST, "/shop/a", ANN)])
    run("--before", "2026-03-02")
    assert Counter.objects.get(path="/shop/a").first_hit == SECOND
    assert_books_balance()


def test_a_log_of_forgotten_days_counts_again():
    through_the_writer(HITS)
    maintain(keep_hits_days=1)
    run("--before", "2026-03-03")
    through_the_writer(HITS[:3])
    for _ in range(2):
        assert hits_of(FIRST, SECOND) == 6
        assert_books_balance()
        maintain(keep_hits_days=1)


# Consumers


def test_the_hits_and_the_name_of_a_consumer_go():
    through_the_writer(HITS)
    maintain()
    assert run("--consumer", "acme") == "Forgot 10 hits."
    assert counters() == {"/shop/a": 3, "/shop/b": 4, "/blog": 2}
    assert "acme" not in everything()
    assert dict(Counter.objects.values_list("path", "last_hit"))["/shop/a"] == HITS[3].at
    assert_books_balance()
    assert not LateDay.objects.exists()


def test_of_days_without_hit_rows_a_consumers_hits_stay_without_its_name():
    through_the_writer(HITS)
    maintain(keep_hits_days=1)
    assert run("--consumer", "acme") == "Forgot 6 hits."
    assert counters() == {"/shop/a": 6, "/shop/b": 4, "/blog": 3}
    assert "acme" not in everything()
    assert list(stats.by(Question(Period(FIRST, THIRD, ALWAYS.tz)), "consumer")) == [("", 11, 3)]
    assert_books_balance()


def test_a_consumers_late_hits_that_wait_for_days_without_hit_rows_go():
    through_the_writer(HITS)
    maintain(keep_hits_days=1, keep_hours_days=2)
    through_the_writer([Made(FIRST + 2 * HOUR, "/shop/b", BEN, 5), Made(FIRST + 2 * HOUR, "/shop/b", ANN, 1)])
    assert run("--consumer", "acme") == "Forgot 11 hits."
    for _ in range(2):
        assert counters()["/shop/b"] == 5
        assert hits_of(FIRST, SECOND) == 6 + 1
        assert_books_balance()
        maintain(keep_hits_days=1, keep_hours_days=2)


def test_a_consumer_that_comes_again_has_its_name_from_the_next_day_on():
    origin = Origin(Dimensions("GET", consumer="acme"), b"ann")
    today = hits.now()
    through_the_orm([Made(today, "/a", origin)])
    run("--consumer", "acme")
    assert list(DimensionSet.objects.values_list("id", "consumer")) == [(origin.id, "")]
    through_the_orm([Made(today, "/a", origin)])
    assert "acme" not in everything()
    through_the_writer([Made(today + DAY, "/a", origin)])
    assert DimensionSet.objects.get().consumer == "acme"
    assert_books_balance()


def test_combinations_that_no_writer_can_remember_are_deleted_and_others_kept():
    through_the_writer(HITS)
    run("--consumer", "acme", "--before", "2026-03-02")
    assert set(DimensionSet.objects.values_list("id", flat=True)) == {ANN.id, BEN.id}
    run("--consumer", "acme")
    assert set(DimensionSet.objects.values_list("id", flat=True)) == {ANN.id}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"consumer":{"acme":[3,1]}}', "{}"),
        ('{"consumer":{"acme":[3,1],"":[2,2,1,1]}}', "{}"),
        ('{"consumer":{"acme":[3,1,2,1],"b":[1,1],"":[2,2]}}', '{"consumer":{"b":[1,1],"":[5,3,2,1]}}'),
        ('{"consumer":{"acme":[3,1],"é":[1,1]}}', '{"consumer":{"é":[1,1],"":[3,1]}}'),
        ('{"consumer":{"b":[1,1]},"route":{"acme":[1,1]}}', '{"consumer":{"b":[1,1]},"route":{"acme":[1,1]}}'),
        ('{"country":{"DE":[1,1]}}', '{"country":{"DE":[1,1]}}'),
    ],
)
def test_a_consumer_among_the_values_of_a_day_is_folded_into_the_unknown_ones(before: str, after: str):
    assert folded_into_unknown(before, "acme") == after


# Meanwhile


@pytest.mark.parametrize(
    "arguments",
    [["--prefix", "/api/"], ["--path", "/api/7/"], ["--prefix", "/api/", "--before", ""], ["--consumer", "acme"]],
    ids=["prefix", "path", "before", "consumer"],
)
def test_under_load_nothing_is_lost_nothing_deadlocks_and_the_books_balance(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(forget, "COUNTERS_AT_ONCE", 15)
    today = hits.now().date()
    arguments = [one or str(today) for one in arguments]
    sent, conflicts, gone = [Tally(), Tally()], [], 0
    deadlocks = _deadlocks()
    writers = [InThread(lambda tally=tally: asyncio.run(_send(100, tally, conflicts))) for tally in sent]
    for writer in writers:
        writer.start()
    extra = 0
    while any(writer.is_alive() for writer in writers):
        # Each time another combination: one that is in use has no name any more.
        acme = Origin(Dimensions("GET", status=100 + extra // 40, consumer="acme"))
        made = [Made(hits.now() - DAY, path, acme, 2) for path in BUSY[:20]]
        through_the_orm(made)
        extra += sum(one.number for one in made)
        gone += int(run(*arguments).split()[1].replace(",", ""))
        assert_books_balance()
    for writer in writers:
        writer.__exit__()
    assert gone > 0 and conflicts == [] and _deadlocks() == deadlocks
    assert sum(counters().values()) + gone == sum(tally.total() for tally in sent) + extra
    assert not Hit.objects.exclude(dimensions_id__in=DimensionSet.objects.values("id")).exists()


def test_hits_that_are_committed_after_the_snapshot_stay():
    through_the_writer(HITS[:1])
    with transaction.atomic():
        Counter.objects.increment("/shop/a", 7, at=FIRST + HOUR)
        thread = InThread(lambda: run("--before", "2026-03-02"))
        thread.start()
        wait_until(lambda: waiting_for_a_lock("FOR UPDATE OF c"))
    thread.__exit__()
    assert thread.result == "Forgot 2 hits."
    assert counters() == {"/shop/a": 7}
    assert HourlyHits.objects.get().hits == 7
    assert Counter.objects.get().first_hit == FIRST + HOUR
    assert_books_balance()


def test_it_waits_for_maintenance(capsys: pytest.CaptureFixture[str]):
    through_the_writer(HITS)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with maintenance.kept_out(lambda: None):
            held.set()
            assert release.wait(WAIT_SECONDS)

    with InThread(hold):
        held.wait(WAIT_SECONDS)
        thread = InThread(lambda: run("--before", "2026-03-02"))
        thread.start()
        waited = threading.Event()
        wait_until(lambda: waited.wait(0.2) or "Waiting for maintenance" in capsys.readouterr().err)
        assert thread.is_alive() and Counter.objects.get(path="/blog").hits == 3
        release.set()
    thread.__exit__()
    assert thread.result.startswith("Forgot 6 hits")


@pytest.mark.parametrize("arguments", [["--path", "/blog"], ["--before", "2026-03-02"], ["--consumer", "acme"]])
def test_it_waits_for_a_reset(arguments: list[str], tables: Callable[[], None]):
    through_the_writer(HITS)
    with transaction.atomic():
        reset.reset([counter_id("/blog")])
        thread = InThread(lambda: run(*arguments))
        thread.start()
        wait_until(lambda: waiting_for_a_lock("counters reset"))
    thread.__exit__()
    assert thread.result.startswith("Forgot ")
    assert_books_balance()


@pytest.mark.parametrize("arguments", [["--before", "2026-03-03"], ["--prefix", "/"], ["--consumer", "acme"]])
def test_cut_short_and_done_again_it_comes_to_the_same(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tables: Callable[[], None]
):
    monkeypatch.setattr(forget, "COUNTERS_AT_ONCE", 1)

    def left() -> Any:
        maintain(keep_hits_days=2)
        return counters(), {day: hits_of(day, day + DAY) for day in (FIRST, SECOND, THIRD)}

    through_the_writer([*HITS, Made(THIRD + HOUR, "/blog", BEN, 8)])
    maintain(keep_hits_days=2)
    run(*arguments)
    whole = left()
    tables()
    through_the_writer([*HITS, Made(THIRD + HOUR, "/blog", BEN, 8)])
    maintain(keep_hits_days=2)
    take, taken = forget._take, []
    every = forget._forget_all

    def cut_short(*given: Any) -> Any:
        if taken:
            raise KeyboardInterrupt
        taken.append(given)
        return (every if len(given) == 1 else take)(*given)

    with monkeypatch.context() as patched:
        patched.setattr(forget, "_take", cut_short)
        patched.setattr(forget, "_forget_all", cut_short)
        with pytest.raises(KeyboardInterrupt):
            run(*arguments)
    assert_books_balance()
    run(*arguments)
    assert left() == whole


# The command


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        (["--path", "/blog"], "The hits of 1 counter are to be forgotten for good. Type yes to go on: "),
        (["--prefix", "/shop/"], "The hits of 2 counters are to be forgotten for good. Type yes to go on: "),
        (
            ["--prefix", "/", "--before", "2026-03-02"],
            "The hits of 2 counters before 2026-03-02 are to be forgotten for good. Type yes to go on: ",
        ),
        (["--consumer", "acme"], "The hits of the consumer acme are to be forgotten for good. Type yes to go on: "),
        (["--before", "2026-03-02"], "All hits before 2026-03-02 are to be forgotten for good. Type yes to go on: "),
    ],
)
@pytest.mark.parametrize("answer", ["yes", "", "y"])
def test_it_asks_and_says_what_goes(arguments: list[str], question: str, answer: str, monkeypatch: pytest.MonkeyPatch):
    through_the_writer(HITS)
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda said: asked.append(said) or answer)
    before = counters()
    if answer == "yes":
        call_command("forget", *arguments, stdout=io.StringIO())
        assert counters() != before
    else:
        with pytest.raises(CommandError, match="Nothing was forgotten"):
            call_command("forget", *arguments)
        assert counters() == before
    assert asked == [question]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "Say what to forget: --path, --prefix, --consumer or --before."),
        (["--path", "/none"], "There is no counter of /none"),
        (["--prefix", "/none"], "There is no counter whose path begins with /none"),
        (["--path", "none"], "--path 'none' is no counted path: A path starts with a slash"),
        (["--path", "/blog", "--before", "2026-03-01"], "There are no hits of it before 2026-03-01."),
        (["--consumer", "nobody"], "There is no consumer 'nobody'."),
        (["--consumer", ""], "There is no consumer ''."),
        (["--before", "2999-01-01"], "--before 2999-01-01 is in the future"),
        (["--before", "tomorrow"], "argument --before: 'tomorrow' is no day like 2026-01-31"),
        (["--path", "/blog", "--consumer", "acme"], "not allowed with argument"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments: list[str], reason: str):
    through_the_writer(HITS)
    before = everything()
    with pytest.raises(CommandError, match=reason.replace("(", r"\(")) as refusal:
        run(*arguments)
    assert refusal.type is CommandError, "its name is printed"
    assert everything() == before


def test_where_nothing_was_before_a_day_nothing_goes():
    through_the_writer(HITS)
    assert run("--before", "2026-03-01") == "Forgot 0 hits."


def test_a_day_that_cannot_be_rolled_up_again_is_told(monkeypatch: pytest.MonkeyPatch):
    through_the_orm(HITS)
    maintain()
    monkeypatch.setattr(maintenance, "roll_up_changed", lambda _: iter(["Rolled up.", maintenance.Failed("disk full")]))
    with pytest.raises(CommandError, match="could not be rolled up again") as error:
        run("--consumer", "acme")
    assert "disk full" in str(error.value) and "Forgot 10 hits" in str(error.value)


def test_a_day_that_others_were_in_the_way_of_is_told(monkeypatch: pytest.MonkeyPatch):
    through_the_writer(HITS)
    put_off = maintenance.PutOff("2026-03-01 is left to the next maintenance: canceling statement due to lock timeout")
    monkeypatch.setattr(maintenance, "roll_up_changed", lambda _: iter([put_off]))
    with pytest.raises(CommandError, match=r"until maintenance does.*2026-03-01 is left to the next"):
        run("--consumer", "acme")
