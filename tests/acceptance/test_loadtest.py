"""POST /test/<n>/ and manage.py runloadtest against the real service."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg
import pytest
import requests
from psycopg.rows import namedtuple_row

from counters.loadtest.plan import Plan
from counters.loadtest.runs import GENERATOR
from hitcounter.postgres import PrivatePostgres
from tests.service import PROJECT, Service

WAIT_SECONDS = 60
ENDLESS = 100_000  # far more than is sent before the test ends it


def post(service: Service, number: object) -> requests.Response:
    return requests.post(f"{service.url}/test/{number}/", timeout=WAIT_SECONDS)


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def generators(service: Service) -> list[psutil.Process]:
    """The sending processes that the service's workers have started."""
    found = []
    for process in psutil.Process(service.process.pid).children(recursive=True):
        try:
            if GENERATOR in process.cmdline():
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found


@contextmanager
def running(service: Service, number: int) -> Iterator[Future[requests.Response]]:
    """A load test that is under way: its future answer."""
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(post, service, number)
        wait_until(lambda: generators(service) or answer.done())
        yield answer


def kept(service: Service) -> list[Any]:
    """The load tests that the service keeps, oldest first."""
    with psycopg.connect(PrivatePostgres(service.data_dir / "postgres").url, row_factory=namedtuple_row) as connection:
        return connection.execute("SELECT * FROM counters_loadtestrun ORDER BY started").fetchall()


def command(service: Service, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """`manage.py runloadtest` where the service runs, with its settings."""
    line = [sys.executable, "manage.py", "runloadtest", *arguments]
    return subprocess.Popen(line, cwd=PROJECT, env=service.environment, text=True, preexec_fn=heed_ctrl_c, **options)


def heed_ctrl_c() -> None:
    """As a terminal starts programs: a shell that ran these tests in the background would have them ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def printed(service: Service, *arguments: str) -> tuple[int, str, str]:
    process = command(service, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=WAIT_SECONDS)
    return process.returncode, out, err


# The endpoint


def test_it_reports_what_it_sent_and_what_was_counted(service):
    answer = post(service, 300)
    assert answer.status_code == 200
    report = answer.json()
    assert (report["requested"], report["succeeded"], report["failed"], report["errors"]) == (300, 300, 0, {})
    assert report["counted"] == 300
    assert report["seconds"] > 0
    assert report["requests_per_second"] == pytest.approx(300 / report["seconds"], rel=0.01)
    latency = report["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"] <= report["seconds"] * 1000
    assert report["unique_paths"] == len(report["paths"])


def test_the_paths_it_reports_are_those_in_the_statistics(service):
    reported = {row["path"]: row["count"] for row in post(service, 300).json()["paths"]}
    words = {word for path in reported for word in path.strip("/").split("/")[1:]}
    assert sum(reported.values()) == 300 and len(words) == 3
    in_statistics: dict[str, int] = {}
    for word in words:
        in_statistics |= service.counts(f"/api/{word}/")
    assert in_statistics == reported


def test_every_run_is_kept_with_its_report(service):
    report = post(service, 7).json()
    last = kept(service)[-1]
    assert (last.report, last.requested, last.url) == (report, 7, service.url)


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "1e3", "+1", "%20", "١", "100001", "9" * 5000])
def test_a_number_that_makes_no_sense_is_refused_by_name(service, number):
    answer = post(service, number)
    assert answer.status_code == 400
    assert answer.json() == {"requests": ["Must be a whole number from 1 to 100000."]}


def test_a_parameter_that_it_does_not_have_is_refused_by_name(service):
    answer = requests.post(f"{service.url}/test/5/?concurrency=2", timeout=WAIT_SECONDS)
    assert answer.status_code == 400
    assert answer.json() == {"concurrency": ["There is no such parameter."]}


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused_with_allow(service, method):
    answer = requests.request(method, f"{service.url}/test/5/", timeout=WAIT_SECONDS)
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert answer.json()["detail"]


def test_of_two_at_once_one_is_told_to_come_back(service):
    with running(service, 20_000) as first:
        second = post(service, 5)
        assert (second.status_code, second.headers["Retry-After"]) == (409, "1")
        assert second.json() == {"detail": "Another load test is running; one at a time."}
        assert first.result().json()["succeeded"] == 20_000


def test_of_many_at_once_one_runs_and_none_waits(service):
    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(answer.status_code for answer in threads.map(post, [service] * 8, [3000] * 8))
    assert statuses == [200] + [409] * 7


def test_while_it_runs_others_are_answered(service):
    asked = 0
    with running(service, 5000) as test:
        while not test.done():
            for target in ("/api/beside/", "/stats/?limit=10", "/healthz/live", "/healthz/ready"):
                assert service.get(target).status_code == 200
                asked += 1
        assert test.result().json()["succeeded"] == 5000
    assert asked >= 20
    assert service.counts("/api/beside/") == {"/api/beside/": asked // 4}


def test_a_client_that_leaves_ends_its_test(service):
    with pytest.raises(requests.Timeout):
        requests.post(f"{service.url}/test/{ENDLESS}/", timeout=1)
    wait_until(lambda: not generators(service))
    wait_until(lambda: post(service, 1).status_code == 200)
    assert kept(service)[-2].report is None


def test_a_generator_that_is_killed_harms_nobody(service):
    with running(service, ENDLESS) as test:
        for process in generators(service):
            process.kill()
        answer = test.result()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json() == {"detail": "The load generator failed with exit status -9; the log may say why."}
    assert post(service, 1).status_code == 200


def test_a_worker_that_is_killed_leaves_no_generator_behind(service):
    with running(service, ENDLESS) as test:
        (generator,) = generators(service)
        generator.parent().kill()
        psutil.wait_procs([generator], timeout=WAIT_SECONDS)
        assert not generator.is_running() or generator.status() == psutil.STATUS_ZOMBIE
        with pytest.raises(requests.ConnectionError):
            test.result()
    wait_until(service.ready)
    wait_until(lambda: post(service, 1).status_code == 200)


# Begun, and left to itself

BEGIN = """
import sys, time
from counters.access import SERVICE_HEADER, service_token
from counters.loadtest import runs
from counters.loadtest.plan import Plan
plan = Plan(sys.argv[1], requests={requests})
runs.begin(plan, headers=lambda: {{SERVICE_HEADER: service_token()}})
print("begun", flush=True)
sys.stdin.readline()
"""
SETUP = "import django; django.setup()"


@contextmanager
def beginner(service: Service) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A process that has begun a load test and waits for a line to end, and the generator that it started."""
    environment = {
        **service.environment,
        "DATABASE_URL": PrivatePostgres(service.data_dir / "postgres").url,
        "DJANGO_SETTINGS_MODULE": "hitcounter.settings",
    }
    line = [sys.executable, "-c", SETUP + BEGIN.format(requests=ENDLESS), service.url]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, cwd=PROJECT, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as begun:
        assert begun.stdout and begun.stdout.readline() == "begun\n"
        wait_until(psutil.Process(begun.pid).children)
        [generator] = psutil.Process(begun.pid).children()
        wait_until(lambda: kept(service)[-1].ended > 0)
        yield begun, generator
        psutil.wait_procs([generator], timeout=WAIT_SECONDS)
        assert not generator.is_running() or generator.status() == psutil.STATUS_ZOMBIE
    wait_until(lambda: post(service, 1).status_code == 200)
    assert kept(service)[-2].report is None and kept(service)[-2].ended > 0


def test_a_process_that_ends_is_not_held_up_by_the_test_it_began_and_takes_the_generator_along(service):
    with beginner(service) as (process, _):
        asked = time.monotonic()
        _, err = process.communicate("\n", timeout=WAIT_SECONDS)
        assert (process.returncode, err) == (0, "")
        assert time.monotonic() - asked < 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_killed_takes_the_generator_of_the_test_it_began_along(service, number):
    with beginner(service) as (process, _):
        process.send_signal(number)
        assert process.wait(timeout=3) == -number


# The command


def test_the_command_prints_its_report_as_json(service):
    status, out, err = printed(service, "--requests=50", "--json")
    report = json.loads(out)
    assert (status, report["succeeded"], report["counted"], err) == (0, 50, 50, "")


def test_the_command_repeats_a_seed(service):
    first, second = (json.loads(printed(service, "--requests=50", "--seed=again", "--json")[1]) for _ in range(2))
    assert first["paths"] == second["paths"]
    assert first["counted"] == second["counted"] == 50


def test_the_command_and_the_endpoint_run_one_at_a_time(service):
    with running(service, 20_000) as test:
        status, out, err = printed(service, "--requests=50")
        assert (status, out) == (1, "")
        assert err == "CommandError: Another load test is running; one at a time.\n"
        assert test.result().status_code == 200


def test_the_command_refuses_in_one_sentence(service):
    status, out, err = printed(service, "--requests=0")
    assert (status, out, err) == (1, "", "CommandError: --requests must be a whole number from 1 to 100000.\n")


def test_on_a_terminal_the_command_shows_its_progress(service):
    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    process = command(service, "--requests=50", "--json", stdout=subprocess.PIPE, stderr=its_end)
    os.close(its_end)
    with os.fdopen(terminal, "rb") as screen:
        shown = screen.read(100).decode(errors="replace")  # it may end amid a letter
        out, _ = process.communicate(timeout=WAIT_SECONDS)
    assert "/50 [" in shown
    assert json.loads(out)["counted"] == 50


def test_ctrl_c_ends_the_command_with_one_sentence(service):
    seed = "interrupted"
    first_word = next(Plan(service.url, 1, seed=seed).paths()).split("/")[2]
    process = command(
        service, f"--requests={ENDLESS}", f"--seed={seed}", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: service.counts(f"/api/{first_word}/"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WAIT_SECONDS)
    assert (process.returncode, out) == (130, "")
    assert err == "CommandError: The load test was interrupted; what it sent is counted.\n"
    assert post(service, 1).status_code == 200, "the next may run"
