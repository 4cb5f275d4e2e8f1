"""`manage.py importlog` beside others: other imports, maintenance, who writes to its log, who stops it."""

import io
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection

from counters import accesslog, bulk, importing, maintenance
from counters.clients import origins
from counters.logfiles import LogFile
from counters.models import ImportedLog
from hitcounter.asgi import conninfo
from tests.logs import WAIT_SECONDS, Import, balance, counts, in_log, lines, refused, run, until, wait_for

OVERTAKEN = "another import has read on in it meanwhile; run this again."
pytestmark = [pytest.mark.usefixtures("afresh"), pytest.mark.long]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


# Others that import the same


@contextmanager
def held_up(path: str) -> Iterator[None]:
    """Have whoever counts a path wait until the end."""
    with psycopg.connect(conninfo()) as session:
        session.execute("SELECT FROM counters_counter WHERE path = %s FOR UPDATE", [path])
        yield


def waiting_sessions() -> int:
    with psycopg.connect(conninfo(), autocommit=True) as session:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return session.execute(query).fetchone()[0]


@pytest.mark.parametrize("known", [False, True], ids=["a new log", "a log that has grown"])
def test_an_import_that_is_still_committing_when_the_next_begins_counts_once(log, monkeypatch, known: bool):
    """As one does whose process was killed, or that lost the lock with its session."""
    log.write_text(lines(*range(7)))
    run(log)
    if known:
        with log.open("a") as more:
            more.write(lines(*range(7, 21)))
    else:
        ImportedLog.objects.all().delete()
    monkeypatch.setattr(maintenance, "kept_out", nullcontext)
    with ThreadPoolExecutor(2) as threads:
        with held_up("/0"):
            first = threads.submit(_read, log)
            until(lambda: waiting_sessions() == 1)
            second = threads.submit(_read, log)
            until(lambda: waiting_sessions() == 2)
        assert sorted([first.result(), second.result()])[0] == f"{log}: {OVERTAKEN}"
    assert sum(counts().values()) == (21 if known else 14)
    monkeypatch.undo()
    assert run(log) == [f"{log}: 0 new."]


def _read(log: Path) -> str:
    """What comes of an import in a thread."""
    try:
        with closing(LogFile.open(str(log))) as file, an_importer() as importer:
            return f"~ {importer.read(file).lines} lines"
    except importing.ImportFailed as error:
        return str(error)
    finally:
        connection.close()


def an_importer() -> importing.Importer:
    return importing.Importer(
        recognise=accesslog.recognised,
        origin_of=origins().of,
        salt=bulk.kept_salt_of,
        choice=importing.Choice(),
        strict=False,
        tell_misfit=pytest.fail,
        tell_progress=Mock(),
        tell=pytest.fail,
    )


def test_an_import_waits_for_maintenance_and_says_so(log, tmp_path):
    log.write_text(lines(0))
    with psycopg.connect(conninfo(), autocommit=True) as session:
        session.execute(maintenance._LOCK)
        importing = Import(log)
        assert importing.process.stderr
        assert importing.process.stderr.readline() == "Waiting for maintenance, or another import, to end.\n"
    assert importing.end()[:2] == (0, [f"{log}: 1 new line, 1 hit."])


def test_an_import_that_waits_can_be_stopped(log):
    log.write_text(lines(0))
    with psycopg.connect(conninfo(), autocommit=True) as session:
        session.execute(maintenance._LOCK)
        importing = Import(log)
        assert importing.process.stderr and importing.process.stderr.readline()
        assert importing.end(signal.SIGTERM)[0] == 130
    assert counts() == {}


def test_maintenance_does_not_wait_for_who_writes_to_a_pipe():
    importing = Import("-", stdin=subprocess.PIPE)
    assert importing.process.stdin
    importing.process.stdin.write(lines(0, 1))
    importing.process.stdin.flush()
    until(lambda: "importlog" in Path(f"/proc/{importing.process.pid}/cmdline").read_text())
    assert "All is done that is due." in list_of_maintain()
    importing.process.stdin.close()
    importing.process.stdin = None
    assert importing.end() == (0, ["standard input: 2 new lines, 2 hits."], "")


def list_of_maintain() -> str:
    out = io.StringIO()
    call_command("maintain", stdout=out)
    return out.getvalue()


# Standard input, signals, following


def test_standard_input_is_read_and_known_again(log):
    text = lines(*range(300))
    for expected in ("300 new lines, 300 hits", "0 new"):
        with log.open("w") as file:
            file.write(text)
        with subprocess.Popen(["gzip", "-c", str(log)], stdout=subprocess.PIPE) as piped:
            assert Import("-", stdin=piped.stdout).end() == (0, [f"standard input: {expected}."], "")
    assert counts() == in_log(0, 300)


def test_a_named_pipe_is_read_whole(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    importing = Import(pipe)
    with pipe.open("w") as writer:
        writer.write(lines(*range(2000)))
    assert importing.end() == (0, [f"{pipe}: 2,000 new lines, 2,000 hits."], "")
    assert counts() == in_log(0, 2000)


def test_what_a_pipe_that_broke_off_left_is_counted_when_it_comes_whole(log):
    whole = lines(*range(100))
    log.write_text(whole[:-40])
    with log.open() as cut_off, subprocess.Popen(["cat"], stdin=cut_off, stdout=subprocess.PIPE) as piped:
        _, told, _ = Import("-", stdin=piped.stdout).end()
    assert told == [
        "standard input: 99 new lines, 99 hits.",
        "  The last line has no end; it is read when it has one.",
    ]
    log.write_text(whole)
    assert run(log) == [f"{log}: 1 new line, 1 hit."]
    assert counts() == in_log(0, 100)


def test_standard_input_cannot_be_followed():
    assert refused("--follow", "-") == "Standard input cannot be followed: give the file's name."


def test_a_log_is_followed_through_its_rotation(log, tmp_path):
    old = tmp_path / "access.log.1"
    old.write_text(lines(0, 1))
    log.write_text(lines(2))
    following = Import("--follow", old, log)
    wait_for(in_log(0, 3))
    with log.open("a") as server:
        server.write(lines(3))
        server.flush()
        wait_for(in_log(0, 4))
        log.rename(tmp_path / "access.log.2")
        server.write(lines(4))  # which still has the renamed one open
        server.flush()
        log.write_text(lines(5))
        wait_for(in_log(0, 6))
    with log.open("a") as server:
        server.write(lines(6))
    wait_for(in_log(0, 7))
    status, told, error = following.end(signal.SIGTERM)
    assert (status, told, error) == (
        0,
        [f"{old}: 2 new lines, 2 hits.", f"{log}: 5 new lines, 5 hits."],
        "",
    )
    assert run(tmp_path / "access.log.2", log)[0].endswith(": 0 new.")
    assert balance()


def test_a_log_that_is_rotated_twice_before_it_is_quiet_is_followed(log, tmp_path):
    log.write_text(lines(0))
    following = Import("--follow", log)
    wait_for(in_log(0, 1))
    for number in (1, 2):
        log.rename(tmp_path / f"access.log.{number}")
        log.write_text(lines(number))
        until(partial(opened, following, files=number + 1))
    wait_for(in_log(0, 3))
    assert following.end(signal.SIGTERM)[:2] == (0, [f"{log}: 3 new lines, 3 hits."])


def opened(following: "Import", files: int) -> bool:
    """Whether the process has so many of the logs open."""
    links = Path(f"/proc/{following.process.pid}/fd")
    return sum("access.log" in os.readlink(link) for link in links.iterdir() if link.is_symlink()) == files


def test_a_follower_outlives_a_missing_file_a_strange_first_line_and_a_lost_session(log, tmp_path):
    following = Import("--follow", tmp_path / "access.log.1", log)
    assert following.process.stderr
    assert "access.log.1 cannot be read" in following.process.stderr.readline()
    assert "access.log cannot be read" in following.process.stderr.readline()
    log.write_text("a line that a server writes when it starts\n")
    while "No line has the common" not in following.process.stderr.readline():
        pass
    with log.open("a") as server:
        server.write(lines(0))
    wait_for(in_log(0, 1))
    with psycopg.connect(conninfo(), autocommit=True) as session:
        others = "datname = current_database() AND pid <> ALL (%s)"
        mine = [session.info.backend_pid, own_session()]
        session.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}", [mine])  # noqa: S608
    with log.open("a") as server:
        server.write(lines(1))
    wait_for(in_log(0, 2))
    status, _, told = following.end(signal.SIGTERM)
    assert status == 0
    assert "No line has the common" not in told, "what lasts is told once"
    assert 1 <= len([line for line in told.splitlines() if "terminating connection" in line]) <= 2


def own_session() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def test_a_log_that_is_emptied_and_written_anew_is_followed(log):
    log.write_text(lines(*range(20)))
    following = Import("--follow", log)
    wait_for(in_log(0, 20))
    log.write_text(lines(20))
    wait_for(in_log(0, 21))
    assert following.end(signal.SIGINT)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_import_after_a_whole_transaction(log, number: int):
    log.write_text(lines(*range(60_000)) * 5)
    importing = Import(log)
    wait_until_it_has_begun()
    status, _, error = importing.end(number)
    assert (status, error) == (130, "CommandError: The import was stopped. Run it again: it goes on where it ended.")
    stopped_at = ImportedLog.objects.get()
    assert 0 < stopped_at.hits == sum(counts().values()) < 300_000
    run(log)
    assert sum(counts().values()) == 300_000


def wait_until_it_has_begun() -> None:
    stop = threading.Event()
    for _ in range(WAIT_SECONDS * 100):
        if ImportedLog.objects.exists():
            return
        stop.wait(0.01)
    raise AssertionError("nothing was imported")


def test_no_lock_is_left_behind(log):
    log.write_text(lines(0))
    run(log)
    until(lambda: not advisory_locks())  # those of another test's session go when the server hears of its end


def advisory_locks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        return cursor.fetchone()[0]
