"""What is read from wrk."""

import re

import pytest

from benchmarks.wrk import REQUESTS, WrkError, parse
from tests.service import PROJECT

PRINTED = """\
Running 2s test @ http://127.0.0.1:10240
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.92ms    1.52ms  31.10ms   88.01%
  32410 requests in 2.00s, 6.05MB read
  Non-2xx or 3xx responses: 10
Requests/sec:  16205.00
"""
TOLD = (
    '{"requests": 32410, "duration": 2000000, "p50": 3200, "p95": 6125, "p99": 8700, '
    '"connect": 1, "read": 2, "write": 3, "status": 10, "timeout": 4}\n'
)


def test_the_last_line_has_the_figures():
    run = parse(PRINTED + TOLD, 0.5)
    assert (run.p50, run.p95, run.p99) == (3.2, 6.125, 8.7)
    assert (run.seconds, run.cores) == (2.0, 0.5)


def test_answers_that_are_errors_are_in_no_rate():
    run = parse(PRINTED + TOLD, 0.5)
    assert run.answered == 32_400
    assert run.rate == 16_200.0


def test_whatever_failed_is_counted_as_failed():
    assert parse(PRINTED + TOLD, 0.5).failed == 10 + 1 + 2 + 3 + 4


@pytest.mark.parametrize("printed", ["", PRINTED, PRINTED + '{"requests": 1}', PRINTED + "[]", PRINTED + "7"])
def test_without_figures_what_wrk_printed_is_told(printed):
    with pytest.raises(WrkError, match="wrk printed no figures"):
        parse(printed, 0.5)


@pytest.mark.parametrize("requests", REQUESTS)
def test_every_kind_of_requests_has_a_script_that_ends_with_the_figures(requests):
    script = (PROJECT / "benchmarks" / f"{requests}.lua").read_text()
    assert script.endswith('dofile("benchmarks/done.lua")\n')


def test_the_script_writes_what_is_read():
    written = set(re.findall(r'"(\w+)": %', (PROJECT / "benchmarks/done.lua").read_text()))
    assert written == set(re.findall(r'"(\w+)":', TOLD))
