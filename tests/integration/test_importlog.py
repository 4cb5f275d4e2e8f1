"""`manage.py importlog`: each line of a log is counted once, whatever becomes of its file."""

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.db.models import Sum

from counters import bulk, importing, logfiles, maintenance, stats
from counters.models import Hit, ImportedLog, RolledDay, VisitorSalt
from counters.periods import Period
from counters.questions import ALWAYS, Question
from tests.logs import (
    FIRST,
    balance,
    counts,
    in_log,
    line,
    lines,
    refused,
    run,
    url,
)
from tests.oracle import DAY
from tests.service import PROJECT

pytestmark = pytest.mark.usefixtures("afresh")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


# What is counted


def test_a_line_is_a_hit_with_its_time_and_all_that_is_known_of_it(log):
    log.write_text(line(1, "POST /a%20b?c=d HTTP/1.1", 404))
    assert run(log) == [f"{log}: 1 new line, 1 hit."]
    hit = Hit.objects.select_related("counter", "dimensions").get()
    known = hit.dimensions
    assert (hit.counter.path, hit.at, hit.hits) == ("/a%20b", FIRST + timedelta(seconds=1), 1)
    assert (known.method, known.status, known.referrer) == ("POST", 404, "example.org")
    assert (known.referrer_url, known.browser, known.os, known.device, known.bot) == (
        "https://example.org/x",
        "Firefox",
        "Linux",
        "desktop",
        False,
    )
    assert hit.visitor is not None
    assert balance()


def test_the_real_log_gives_the_figures_that_were_counted_by_other_means(shared: Path):
    file = shared / "data" / "access-2015.log.gz"
    assert run(file) == [f"{file}: 10,000 new lines, 10,000 hits."]
    ranking = list(stats.ranking(Question()))
    assert (len(ranking), sum(count for _, count in ranking)) == (1368, 10_000)
    assert ranking[:5] == [
        ("/favicon.ico", 807),
        ("/", 575),
        ("/style2.css", 546),
        ("/reset.css", 538),
        ("/images/jordan-80.png", 533),
    ]
    methods = Hit.objects.values_list("dimensions__method").annotate(Sum("hits"))
    assert dict(methods) == {"GET": 9952, "HEAD": 42, "OPTIONS": 1, "POST": 5}
    cut_off = Hit.objects.get(counter__path="/scripts/grok-py-test/configlib.py", at="2015-05-20T12:05:17Z")
    assert (cut_off.dimensions.browser, cut_off.dimensions.bot, cut_off.dimensions.status) == ("Googlebot", True, 200)
    assert run(file) == [f"{file}: 0 new."]
    assert balance()


def test_what_real_logs_hold_stops_nothing_and_is_told(log):
    log.write_bytes(
        line(0).encode()
        + rb'192.0.2.1 - - [01/Mar/2026:08:00:00 +0000] "-" 408 0 "-" "-"'
        + b"\n"
        + rb'192.0.2.1 - - [01/Mar/2026:08:00:00 +0000] "\x16\x03\x01\x02" 400 0 "-" "-"'
        + b"\n"
        + b"\xff\xfe\x00 \x1b[31mno line at all\n"
        + b"\n"
        + rb'192.0.2.1 - - [01/Mar/2026:08:00:00 +0000] "GET /sp ace/\xe9 HTTP/1.1" 200 5 "-" "-"'
        + b"\n"
        + line(1, "GET /" + "x" * 2048).encode()
        + line(2, at=datetime(2999, 1, 1, tzinfo=UTC)).encode()
        + line(3).encode()
    )
    assert run(log) == [
        f"{log}: 9 new lines, 3 hits, 2 without a request, 3 not read.",
        r"  line 4: The line has not the format of the log. '\xff\xfe\x00 \x1b[31mno line at all'",
        f"  line 7: The path is longer than 2,048 bytes. {line(1, 'GET /' + 'x' * 2048)[:120]!a}…",
        "  line 8: A hit's time has an offset from UTC, is not before 1970, and at most an hour ahead of now. '/a'",
    ]
    assert counts() == {"/a": 2, "/sp%20ace/%E9": 1}


def test_only_the_first_few_lines_that_cannot_be_read_are_shown(log):
    log.write_text(line() + "nonsense\n" * 40)
    told = run(log)
    assert told[0] == f"{log}: 41 new lines, 1 hit, 40 not read."
    assert len(told) == 12 and told[-1] == "  and 30 more"


def test_strict_stops_at_the_first_line_that_cannot_be_read_and_keeps_what_precedes(log):
    log.write_text(lines(0, 1, 2) + "nonsense\n" + lines(3, 4))
    sentence = f"{log}, line 4: The line has not the format of the log."
    assert refused("--strict", log) == f"{sentence} Imported before it: 3 new lines, 3 hits."
    assert counts() == in_log(0, 3)
    assert refused("--strict", log) == f"{sentence} Imported before it: 0 new."
    assert counts() == in_log(0, 3)
    assert run(log)[0] == f"{log}: 3 new lines, 2 hits, 1 not read."
    assert counts() == in_log(0, 5)


def test_strict_does_not_mind_what_is_no_request(log):
    log.write_text(line(0) + line(1, "-", 408))
    assert run("--strict", log) == [f"{log}: 2 new lines, 1 hit, 1 without a request."]


# Options


def test_prefix_is_put_before_each_path(log):
    log.write_text(line(0) + line(1, "GET / HTTP/1.1"))
    run("--prefix", "/example.org", log)
    assert counts() == {"/example.org/a": 1, "/example.org/": 1}


def test_only_and_skip_choose_by_the_path_as_the_log_has_it(log):
    paths = ["/blog/a", "/blog/b.png", "/shop/a", "/shop/b.png", "/c"]
    log.write_text("".join(line(n, f"GET {path} HTTP/1.1") for n, path in enumerate(paths)))
    arguments = ["--only", "/blog/*", "--only", "/shop/*", "--skip", "*.png", "--prefix", "/x"]
    assert run(*arguments, log) == [f"{log}: 5 new lines, 2 hits, 3 left out."]
    assert counts() == {"/x/blog/a": 1, "/x/shop/a": 1}


@pytest.mark.parametrize(("wanted", "statuses"), [("404", {404}), ("2xx,304", {200, 206, 304}), ("4XX", {404})])
def test_status_chooses_by_status(log, wanted: str, statuses: set[int]):
    log.write_text("".join(line(n, f"GET /{status}", status) for n, status in enumerate([200, 206, 304, 404, 500])))
    run("--status", wanted, log)
    assert counts() == {f"/{status}": 1 for status in statuses}


def test_what_was_left_out_once_is_left_out_for_good(log):
    log.write_text(line(0, "GET /a") + line(1, "GET /b"))
    assert run("--only", "/c", log) == [
        f"{log}: 2 new lines, 0 hits, 2 left out.",
        "  No line was chosen. To have them looked at again, delete the log among the imported logs in the admin.",
    ]
    assert run(log) == [f"{log}: 0 new."]


def test_a_format_of_nginx_can_be_given(log):
    log.write_text("1772352000.250|/a?b|GET|200|192.0.2.1|acme\n")
    run("--format", "$msec|$request_uri|$request_method|$status|$remote_addr|$http_x_consumer", log)
    hit = Hit.objects.select_related("dimensions").get()
    assert (hit.at, hit.dimensions.consumer) == (FIRST + timedelta(milliseconds=250), "acme")
    assert counts() == {"/a": 1}


def test_names_of_json_fields_can_be_given(log):
    log.write_text('{"ts": 1772352000.25, "request": {"uri": "/a?b", "method": "GET"}, "status": 201}\n')
    run("--format", "json:at=ts,path=request.uri,method=request.method,status=status", log)
    hit = Hit.objects.select_related("dimensions").get()
    assert (hit.at, hit.dimensions.method, hit.dimensions.status) == (
        FIRST + timedelta(milliseconds=250),
        "GET",
        201,
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--status", "2x"], "--status: '2x' is neither a status like 404 nor a class like 4xx."),
        (["--prefix", "blog"], "--prefix: A path starts with a slash"),
        (["--prefix", "/blog/"], "--prefix: '/blog/' ends with a slash"),
        (["--only", "blog/*"], "'blog/*' matches no path"),
        (["--skip", "/a", "--skip", "b"], "'b' matches no path"),
        (["--format", "$status"], "--format: The log_format has no time"),
        (["--format", "json:at"], "--format: 'at' is not like path=request.uri."),
        (["--format", "json:at=a,path=b,colour=c"], "--format: colour is none of"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_a_sentence(log, arguments: list[str], sentence: str):
    log.write_text(line())
    assert refused(*arguments, log).startswith(sentence)
    assert counts() == {}


def test_files_that_cannot_be_read_are_told_and_keep_none_of_the_others(log, tmp_path, capsys):
    error_log, none = tmp_path / "error.log", tmp_path / "none.log"
    log.write_text(line())
    error_log.write_text("2026/03/01 08:00:00 [error] 7#7: upstream timed out\n")
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="2 of 3 files failed"):
        call_command("importlog", str(none), str(error_log), str(log), stdout=out, stderr=err)
    assert out.getvalue() == f"{log}: 1 new line, 1 hit.\n"
    assert f"{none} cannot be read: No such file or directory." in err.getvalue()
    assert f"{error_log}: No line has the common" in err.getvalue()
    assert counts() == {"/a": 1}


def test_one_file_that_is_not_there_is_told_in_a_sentence(tmp_path):
    assert refused(tmp_path / "none.log") == f"{tmp_path / 'none.log'} cannot be read: No such file or directory."


def test_a_log_of_no_known_format_is_refused(log):
    log.write_text("nobody knows\n" * 3)
    assert "No line has the common" in refused(log)
    assert not ImportedLog.objects.exists()


def test_a_database_that_goes_away_is_told_in_a_sentence(log, monkeypatch):
    def fail(*_: Any) -> None:
        raise OperationalError("connection failed\n  Is it running?")

    log.write_text(line())
    monkeypatch.setattr(bulk, "record", fail)
    assert refused(log) == ("The database cannot be used: connection failed. Run it again: it goes on where it ended.")


# Once


def test_what_is_new_in_a_log_that_has_grown_is_counted(log):
    log.write_text(lines(*range(10)))
    run(log)
    with log.open("a") as more:
        more.write(lines(*range(10, 25)))
    assert run(log) == [f"{log}: 15 new lines, 15 hits."]
    assert counts() == in_log(0, 25)


def test_the_same_log_is_known_under_another_name_and_compressed(log, tmp_path):
    log.write_text(lines(*range(10)))
    run(log)
    with log.open("a") as more:
        more.write(lines(*range(10, 15)))
    log.rename(tmp_path / "access.log.1")
    log.write_text(lines(*range(15, 18)))
    assert run(tmp_path / "access.log.1", log) == [
        f"{tmp_path / 'access.log.1'}: 5 new lines, 5 hits.",
        f"{log}: 3 new lines, 3 hits.",
    ]
    compressed = tmp_path / "access.log.2.gz"
    compressed.write_bytes(gzip.compress((tmp_path / "access.log.1").read_bytes()))
    assert run(compressed) == [f"{compressed}: 0 new."]
    assert counts() == in_log(0, 18)
    assert set(ImportedLog.objects.values_list("name", "lines", "hits")) == {
        (str(tmp_path / "access.log.1"), 15, 15),
        (str(log), 3, 3),
    }


def test_two_logs_that_begin_with_the_same_line_are_two(log, tmp_path):
    """As those of two servers that a health check asks in the same second."""
    other = tmp_path / "other.log"
    log.write_text(lines(0, 1, 2, 3))
    other.write_text(lines(0, 4, 5))
    run(log, other)
    for more, number in ((log, 6), (other, 7)):
        with more.open("a") as file:
            file.write(lines(number))
    assert run(log, other) == [f"{log}: 1 new line, 1 hit.", f"{other}: 1 new line, 1 hit."]
    assert sum(counts().values()) == 9


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_earlier_copy_of_a_log_is_known(log, tmp_path, monkeypatch, compress: Callable[[bytes], bytes]):
    monkeypatch.setattr(logfiles, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(importing, "WINDOW_BYTES", 300)
    monkeypatch.setattr(logfiles, "WINDOW_BYTES", 300)
    log.write_text(lines(*range(100)))
    run(log)
    copy = tmp_path / "copy"
    for length in (1, 2, 3, 10, 50, 99):
        copy.write_bytes(compress(lines(*range(length)).encode()))
        assert run(copy) == [f"{copy}: 0 new; it is taken for an earlier copy of {log}."]
    assert counts() == in_log(0, 100)


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_shorter_log_that_begins_as_another_does_is_none_of_its_copies(
    log, tmp_path, compress: Callable[[bytes], bytes], number: int
):
    """As those of containers that all begin with the requests of a health check."""
    alike = [*range(7)]
    log.write_text(lines(*alike, *range(20, 100)))
    other = tmp_path / "other.log"
    other.write_bytes(compress(lines(*alike, *range(200, 200 + number)).encode()))
    run(log)
    assert run(other) == [f"{other}: {number + 7} new lines, {number + 7} hits."]


def test_marks_are_at_the_same_offsets_however_one_gets_there():
    whole = list(importing.marked(0, 100_000))
    for cut in (1, 7, 31, 32, 33, 1000, 4096, 65_537, 99_999):
        assert [*importing.marked(0, cut), *importing.marked(cut, 100_000)] == whole
    assert all(later - earlier <= max(1, earlier // 16) for earlier, later in pairwise(whole))


def test_what_tells_a_log_does_not_depend_on_where_transactions_ended(log, monkeypatch):
    log.write_text(lines(*range(100)))
    told = []
    for block in (301, 1000, 5000, 1_000_000):
        monkeypatch.setattr(logfiles, "BLOCK_BYTES", block)
        ImportedLog.objects.all().delete()
        run(log)
        told.append(ImportedLog.objects.values_list("offset", "head", "tail", "marks", "lines").get())
    assert [tuple(map(bytes, row[1:4])) for row in told] == [tuple(map(bytes, told[0][1:4]))] * 4
    assert len(bytes(told[0][3])) == 16 * len(list(importing.marked(0, log.stat().st_size)))


def test_a_last_line_without_its_end_is_counted_when_it_has_one(log):
    whole = lines(0, 1)
    log.write_text(whole[:-30])
    assert run(log) == [f"{log}: 1 new line, 1 hit.", "  The last line has no end; it is read when it has one."]
    log.write_text(whole)
    assert run(log) == [f"{log}: 1 new line, 1 hit."]
    assert counts() == in_log(0, 2)


def test_an_empty_log_is_no_error(log):
    log.write_text("")
    assert run(log) == [f"{log}: 0 new."]


def test_a_log_is_imported_again_when_it_is_forgotten(log):
    log.write_text(lines(0))
    run(log)
    ImportedLog.objects.all().delete()
    run(log)
    assert counts() == {"/0": 2}


def test_a_log_that_is_cut_off_in_its_compression_goes_on_where_it_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(logfiles, "BLOCK_BYTES", 4096)
    log, whole = tmp_path / "a.gz", gzip.compress(lines(*range(3000)).encode(), 1)
    log.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read to its end" in refused(log)
    counted = sum(counts().values())
    assert 0 < counted < 3000
    log.write_bytes(whole)
    assert run(log) == [f"{log}: {3000 - counted:,} new lines, {3000 - counted:,} hits."]
    assert counts() == in_log(0, 3000)


def test_many_transactions_come_to_the_same_as_one(log, monkeypatch):
    monkeypatch.setattr(logfiles, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(importing, "MOST_REMEMBERED", 3)
    log.write_text(lines(*range(200)))
    assert run(log) == [f"{log}: 200 new lines, 200 hits."]
    assert counts() == in_log(0, 200)
    assert ImportedLog.objects.get().offset == log.stat().st_size
    assert balance()


def test_a_transaction_has_no_more_days_than_there_are_locks_for(log, monkeypatch):
    monkeypatch.setattr(importing, "MOST_DAYS", 3)
    commits = []
    record = bulk.record
    monkeypatch.setattr(bulk, "record", lambda load, first: (commits.append(len(load.days)), record(load, first)))
    log.write_text("".join(line(n, at=FIRST + n * DAY) for n in range(8)))
    assert run(log) == [f"{log}: 8 new lines, 8 hits."]
    assert commits == [3, 3, 2] and counts() == {"/a": 8}


def test_what_a_failed_transaction_had_is_counted_the_next_time(log, monkeypatch):
    monkeypatch.setattr(logfiles, "BLOCK_BYTES", 1000)
    log.write_text(lines(*range(50)))
    record, left = bulk.record, [3]

    def fail_at_the_third(load: Any, first: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise importing.ImportFailed("the third fails")
        record(load, first)

    with monkeypatch.context() as patched:
        patched.setattr(bulk, "record", fail_at_the_third)
        assert refused(log) == "the third fails"
    assert 0 < sum(counts().values()) < 50
    run(log)
    assert counts() == in_log(0, 50)


# Days and visitors


def maintain(at: datetime) -> list[str]:
    return list(maintenance.maintain(at, keep_hits_days=1000, keep_hours_days=1000))


def test_days_that_were_rolled_up_are_rolled_up_again(log):
    log.write_text(lines(0))
    run(log)
    maintain(FIRST + 2 * DAY)
    assert RolledDay.objects.filter(day=FIRST.date()).exists()
    with log.open("a") as more:
        more.write(lines(1))
    run(log)
    assert "Rolled up 2026-03-01." in maintain(FIRST + 2 * DAY)
    day = Period(FIRST.replace(hour=0), FIRST.replace(hour=0) + DAY, ALWAYS.tz)
    assert tuple(stats.total(Question(day))) == (2, 2, 2)
    assert balance()


def test_the_two_parts_of_a_day_have_the_same_visitors_though_maintenance_comes_between(log):
    log.write_text(line(0))
    run(log)
    maintain(FIRST + 2 * DAY)
    with log.open("a") as more:
        more.write(line(250))
    run(log)
    assert len(set(Hit.objects.values_list("visitor", flat=True))) == 1
    assert VisitorSalt.objects.get(day=FIRST.date()).until is not None


def test_maintenance_gives_way_to_an_import(log):
    log.write_text(lines(0))
    with maintenance.kept_out(lambda: None):
        out = subprocess.run(
            [sys.executable, "manage.py", "maintain"],
            cwd=PROJECT,
            env={**os.environ, "DATABASE_URL": url()},
            capture_output=True,
            text=True,
            check=False,
        )
    assert "Maintenance, or an import, is running already." in out.stderr
