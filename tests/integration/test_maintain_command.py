"""`manage.py maintain`: does what is due, says what it did, and gives way to another that does it."""

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from django.core.management import CommandError, call_command

from counters import maintenance
from counters.models import Counter, Hit, HourlyHits, RolledDay
from hitcounter.asgi import conninfo
from tests.oracle import drop_days
from tests.service import PROJECT

NOW = datetime(2026, 3, 11, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)
DONE = "All is done that is due."
BUSY = "Maintenance, or an import, is running already. Try again later."


@pytest.fixture(autouse=True)
def _three_days(tables: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hit today, one yesterday and one the day before."""
    drop_days()
    monkeypatch.setattr("counters.hits.now", lambda: NOW)
    for days_ago in range(3):
        Counter.objects.increment("/api/a/", at=NOW - days_ago * DAY)
    yield
    drop_days()


def run() -> list[str]:
    """The lines that the command prints."""
    out = io.StringIO()
    call_command("maintain", stdout=out)
    return out.getvalue().splitlines()


def test_it_says_what_it_did_and_that_all_is_done():
    assert run() == [
        "Rolled up 2026-03-09.",
        "Rolled up 2026-03-10.",
        "Counted the paths of 2026-03-09.",
        "Counted the paths of 2026-03-10.",
        DONE,
    ]
    assert {str(day) for day in RolledDay.objects.values_list("day", flat=True)} == {"2026-03-09", "2026-03-10"}


def test_when_nothing_is_due_it_says_only_that():
    run()
    assert run() == [DONE]


def test_what_is_kept_is_what_the_settings_say(settings):
    run()
    settings.HITCOUNTER_KEEP_HITS_DAYS = 1
    assert run() == ["Dropped the hit rows of 2026-03-09.", DONE]
    assert not Hit.objects.filter(at__lt=NOW - 1.5 * DAY).exists()
    assert HourlyHits.objects.count() == 3
    settings.HITCOUNTER_KEEP_HOURS_DAYS = 1
    assert run() == ["Dropped the hourly figures of 2026-03-09.", DONE]
    assert HourlyHits.objects.count() == 2


def test_while_another_session_is_at_it_nothing_is_done_and_that_is_said():
    with psycopg.connect(conninfo()) as other:
        other.execute(maintenance._LOCK)
        with pytest.raises(CommandError) as refused:
            run()
    assert str(refused.value) == BUSY
    assert not RolledDay.objects.exists()
    assert run()[-1] == DONE


def test_in_a_shell_that_is_one_line_and_a_status_that_is_not_zero():
    environment = {**os.environ, "DATABASE_URL": conninfo()}
    command = [sys.executable, "manage.py", "maintain"]
    with psycopg.connect(conninfo()) as other:
        other.execute(maintenance._LOCK)
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"CommandError: {BUSY}\n")
