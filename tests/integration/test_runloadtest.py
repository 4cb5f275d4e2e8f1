"""manage.py runloadtest, and what a load test keeps: against Django's own live server on the test database."""

import json
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections

from counters import models
from counters.access import SERVICE_HEADER, service_token
from counters.loadtest import generator, runs
from counters.loadtest.plan import Plan
from counters.loadtest.runs import LoadTestBusy, LoadTestError
from counters.management.commands import runloadtest
from counters.models import LoadTestRun
from tests.service import free_port

FIELDS = {
    "requested", "succeeded", "failed", "errors", "seconds", "requests_per_second", "latency_ms", "histogram",
    "unique_paths", "paths", "counted",
}  # fmt: skip


@pytest.fixture
def url(live_server, transactional_db) -> str:
    """A service that counts in the test database, through the ORM."""
    return live_server.url


@contextmanager
def another_running() -> Iterator[None]:
    """Another session of the database that holds the lock of load tests."""
    other = connections.create_connection("default")
    with other.cursor() as cursor:
        cursor.execute(runs._LOCK)
        assert cursor.fetchone()[0], "left locked by another test"
        try:
            yield
        finally:
            cursor.execute(runs._UNLOCK)
            other.close()


def assert_another_may_run() -> None:
    with another_running():
        pass


def headers() -> dict[str, str]:
    return {SERVICE_HEADER: service_token()}


def run(capsys, url, *arguments) -> tuple[str, str]:
    call_command("runloadtest", f"--url={url}", "--requests=20", "--concurrency=2", *arguments)
    return capsys.readouterr()


def refusal(url, *arguments) -> str:
    """The one sentence with which the command fails, with exit status 1."""
    with pytest.raises(CommandError) as failure:
        call_command("runloadtest", f"--url={url}", "--requests=20", "--concurrency=2", *arguments)
    assert failure.value.returncode == 1
    assert "\n" not in str(failure.value) and str(failure.value).endswith(".")
    return str(failure.value)


# What it prints


def test_json_is_the_report_and_nothing_else(url, capsys):
    out, err = run(capsys, url, "--json")
    report = json.loads(out)
    assert report.keys() == FIELDS
    assert (report["requested"], report["succeeded"], report["failed"], report["counted"]) == (20, 20, 0, 20)
    assert sum(row["count"] for row in report["paths"]) == 20
    assert report["latency_ms"].keys() == {"p50", "p95", "p99", "max"}
    assert err == ""


def test_without_json_it_prints_a_summary_for_people(url, capsys):
    out, err = run(capsys, url, "--seed=a")
    assert out.startswith("20 requests in ")
    assert "(seed a)" in out and "acknowledged  20" in out and "counted       20" in out and "p99" in out
    assert err == "", "no progress bar where there is no terminal"


def test_failures_are_summed_up_by_their_names():
    report = {
        "requested": 1500, "succeeded": 0, "failed": 1500, "errors": {"503": 1499, "timeout": 1}, "seconds": 2.5,
        "requests_per_second": 0.0, "latency_ms": {"p50": None, "max": None}, "unique_paths": 0, "counted": 0,
    }  # fmt: skip
    summary = runloadtest._summary(report, "a")
    assert "failed        1,500: 1,499 503, 1 timeout" in summary
    assert "latency       none was answered" in summary


def test_what_it_reports_is_what_the_database_holds(url, capsys):
    report = json.loads(run(capsys, url, "--json", "--seed=a")[0])
    reported = {row["path"]: row["count"] for row in report["paths"]}
    assert reported == dict(models.Counter.objects.values_list("path", "hits"))
    assert reported == Tally(Plan(url, requests=20, seed="a").paths())


def test_a_second_run_with_the_same_seed_counts_its_own_hits(url, capsys):
    first, second = (json.loads(run(capsys, url, "--json", "--seed=a")[0]) for _ in range(2))
    assert first["paths"] == second["paths"]
    assert first["counted"] == second["counted"] == 20


def test_hits_of_others_are_not_counted_as_its_own(url, capsys, monkeypatch):
    real = generator.send

    def send_beside_others(plan, progress):
        models.Counter.objects.increment("/api/other/", by=7)
        return real(plan, progress)

    monkeypatch.setattr(generator, "send", send_beside_others)
    assert json.loads(run(capsys, url, "--json")[0])["counted"] == 20


# What is kept


def test_a_run_is_kept_with_its_report(url, capsys):
    report = json.loads(run(capsys, url, "--json", "--seed=a")[0])
    kept = LoadTestRun.objects.get()
    assert kept.report == report
    assert (kept.url, kept.requested, kept.concurrency, kept.seed) == (url, 20, 2, "a")


def test_a_run_that_is_cut_short_is_kept_without_a_report(url):
    def cut_short(plan, progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.perform(Plan(url, requests=20), send=cut_short, headers=headers)
    assert LoadTestRun.objects.get().report is None
    assert_another_may_run()


def test_a_run_that_is_cut_short_keeps_how_far_it_came(url):
    def cut_short(plan, progress):
        progress(3)
        progress(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.perform(Plan(url, requests=20), send=cut_short, headers=headers)
    kept = LoadTestRun.objects.get()
    assert (kept.report, kept.ended, kept.failure) == (None, 7, "")


def test_how_far_a_run_is_can_be_seen_while_it_runs(url, monkeypatch):
    monkeypatch.setattr(runs, "KEPT_SECONDS", 0.01)
    seen = []

    def send(plan, progress):
        for _ in range(2):
            progress(10)
            seen.append(until(lambda: LoadTestRun.objects.get().ended, 10 * (len(seen) + 1)))
        return generator.send(plan)

    runs.perform(Plan(url, requests=20), send=send, headers=headers)
    assert seen == [10, 20] and LoadTestRun.objects.get().ended == 20


def test_the_command_keeps_how_many_have_ended(url, capsys):
    run(capsys, url)
    assert LoadTestRun.objects.get().ended == 20


def test_progress_that_cannot_be_kept_ends_no_test(url, monkeypatch, caplog):
    real, failures = runs._Kept._keep, []

    def failing(kept, number):
        if len(failures) < 2:
            with monkeypatch.context() as gone:
                gone.setattr(LoadTestRun.objects, "filter", unavailable)
                failures.append(real(kept, number))
                return failures[-1]
        return real(kept, number)

    def send(plan, progress):
        progress(20)
        until(lambda: len(failures), 2)
        return generator.send(plan)

    monkeypatch.setattr(runs, "KEPT_SECONDS", 0.01)
    monkeypatch.setattr(runs._Kept, "_keep", failing)
    runs.perform(Plan(url, requests=20), send=send, headers=headers)
    assert failures == [0, 0] and LoadTestRun.objects.get().ended == 20
    assert "cannot be kept: the server is gone" in caplog.text


def unavailable(**conditions):
    raise OperationalError("the server is gone")


def until(look, wanted):
    """What is looked at, once it is as wanted."""
    deadline = time.monotonic() + 30
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def test_what_went_wrong_is_kept_with_the_run(url):
    def failing(plan, progress):
        raise LoadTestError("The load generator failed.")

    with pytest.raises(LoadTestError):
        runs.perform(Plan(url, requests=20), send=failing, headers=headers)
    kept = LoadTestRun.objects.get()
    assert (kept.report, kept.failure) == (None, "The load generator failed.")


def test_a_run_that_cannot_begin_is_not_kept(url):
    with pytest.raises(LoadTestError):
        runs.perform(Plan(f"{url}/nowhere", requests=20), send=generator.send, headers=headers)
    assert not LoadTestRun.objects.exists()
    assert_another_may_run()


def test_a_run_after_which_the_statistics_cannot_be_read_is_kept_with_what_was_seen(url, settings):
    settings.HITCOUNTER_OPEN = False
    opening = iter([headers(), {SERVICE_HEADER: "expired"}])
    with pytest.raises(LoadTestError, match="status 401"):
        runs.perform(Plan(url, requests=20), send=generator.send, headers=lambda: next(opening))
    kept = LoadTestRun.objects.get()
    assert (kept.report["succeeded"], kept.report["counted"]) == (20, None)
    assert "status 401" in kept.failure
    assert_another_may_run()


# One at a time


def test_another_load_test_that_runs_is_a_refusal(url):
    with another_running():
        assert refusal(url) == "Another load test is running; one at a time."
        assert not models.Counter.objects.exists(), "nothing was sent"
    assert not LoadTestRun.objects.exists()


def test_while_one_runs_no_other_can(url):
    refused = []

    def another(plan, progress):
        def attempt():
            with pytest.raises(LoadTestBusy):
                runs.perform(plan, send=generator.send, headers=headers)
            refused.append(True)
            connections.close_all()

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return {}

    runs.perform(Plan(url, requests=1), send=another, headers=headers)
    assert refused == [True]
    assert_another_may_run()


# Which runs now


def test_none_runs_before_and_after_one(url):
    assert runs.running() is None
    runs.perform(Plan(url, requests=1), send=generator.send, headers=headers)
    assert runs.running() is None


def test_the_one_that_runs_is_seen_by_others(url):
    def send(plan, progress):
        with ThreadPoolExecutor(1) as threads:
            seen.append(threads.submit(running_elsewhere).result())
        return generator.send(plan)

    seen: list[LoadTestRun | None] = []
    performed = runs.perform(Plan(url, requests=1), send=send, headers=headers)
    assert seen == [performed]


def test_it_runs_until_it_is_known_what_was_counted(url):
    def headers_of_each_read():
        with ThreadPoolExecutor(1) as threads:
            seen.append(threads.submit(running_elsewhere).result())
        return headers()

    seen: list[LoadTestRun | None] = []
    performed = runs.perform(Plan(url, requests=1), send=generator.send, headers=headers_of_each_read)
    assert seen == [None, performed]


def running_elsewhere() -> LoadTestRun | None:
    """As another session sees it."""
    try:
        return runs.running()
    finally:
        connections.close_all()


def test_one_that_was_cut_short_does_not_run_though_another_is_about_to_begin(url):
    LoadTestRun.objects.create(url=url, requested=1, concurrency=1)
    with another_running():
        assert runs.running() is None


def test_one_that_was_cut_short_does_not_run_though_another_does(url):
    def send(plan, progress):
        LoadTestRun.objects.create(url=url, requested=2, concurrency=1)
        seen.append(runs.running())
        return generator.send(plan)

    seen: list[LoadTestRun | None] = []
    performed = runs.perform(Plan(url, requests=1), send=send, headers=headers)
    assert seen == [performed]


# In a thread


def test_a_test_that_is_begun_goes_on_by_itself(url):
    begun = runs.begin(Plan(url, requests=20, concurrency=2), headers=headers)
    assert LoadTestRun.objects.get() == begun
    until(lambda: (LoadTestRun.objects.get().report or {}).get("counted"), 20)
    assert LoadTestRun.objects.get().ended == 20
    until(lambda: lock_is_free(), True)


def lock_is_free() -> bool:
    try:
        assert_another_may_run()
    except AssertionError:
        return False
    return True


def test_a_test_is_not_begun_while_another_runs(url):
    with another_running(), pytest.raises(LoadTestBusy):
        runs.begin(Plan(url, requests=20), headers=headers)
    assert not LoadTestRun.objects.exists()


def test_a_test_that_cannot_begin_says_why(url):
    with pytest.raises(LoadTestError, match="status 404"):
        runs.begin(Plan(f"{url}/nowhere", requests=20), headers=headers)
    assert not LoadTestRun.objects.exists()
    assert_another_may_run()


def test_what_goes_wrong_with_a_begun_test_is_logged_in_a_sentence_and_kept(url, monkeypatch, caplog):
    def failing(plan, progress):
        raise LoadTestError("The load generator failed.")

    monkeypatch.setattr(runs, "_send_from_thread", failing)
    runs.begin(Plan(url, requests=20), headers=headers)
    until(lambda: LoadTestRun.objects.get().failure, "The load generator failed.")
    until(lambda: lock_is_free(), True)
    assert "The load test came to no good end: The load generator failed." in caplog.messages


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_before_it_begins_leaves_nobody_waiting(url, monkeypatch):
    def broken(*args, **options):
        raise AssertionError("a bug")

    monkeypatch.setattr(runs, "perform", broken)
    with pytest.raises(CancelledError):
        runs.begin(Plan(url, requests=20), headers=headers)
    for thread in threading.enumerate():  # else the bug may be told after this test, and be another's
        if thread.name == "load test":
            thread.join()


# What it refuses


@pytest.mark.parametrize("number", [0, -1, 100_001, 10**30])
def test_a_number_of_requests_out_of_range_is_a_refusal(number):
    assert refusal("http://unused", f"--requests={number}") == "--requests must be a whole number from 1 to 100000."


@pytest.mark.parametrize("number", [0, -1, 1001])
def test_a_concurrency_out_of_range_is_a_refusal(number):
    reason = refusal("http://unused", f"--concurrency={number}")
    assert reason == "--concurrency must be a whole number from 1 to 1000."


@pytest.mark.parametrize("argument", ["--requests=x", "--requests=1.5", "--concurrency="])
def test_a_number_that_is_none_is_a_refusal(argument):
    with pytest.raises(CommandError, match="invalid int value"):
        call_command("runloadtest", argument)


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "127.0.0.1:5000", "ftp://host", "http://", "http://host:x", "http://host:0", "http://host:99999",
     "http://[::1", "http://user:secret@host", "http://host/?a=1", "http://host/#a", "http://ho st", "http://host\n"],
)  # fmt: skip
def test_a_malformed_address_is_a_refusal(url):
    assert refusal(url).startswith("--url must be an address like http://")


def test_a_slash_after_the_address_does_no_harm(url, capsys):
    assert json.loads(run(capsys, f"{url}/", "--json")[0])["counted"] == 20


def test_a_seed_that_is_no_text_is_a_refusal():
    assert refusal("http://unused", "--seed=\udcff") == "--seed must be text."


def test_a_service_that_does_not_answer_is_a_refusal(db):
    url = f"http://127.0.0.1:{free_port()}"
    assert refusal(url) == (
        f"The service at {url} does not answer: Connection refused. "
        "If it listens elsewhere, set HITCOUNTER_BIND as it has it, or give its --url."
    )


def test_statistics_that_may_not_be_read_are_a_refusal(url, settings, monkeypatch):
    settings.HITCOUNTER_OPEN = False
    monkeypatch.setattr(runloadtest, "service_token", lambda: "forged")
    assert refusal(url) == f"The statistics of {url} cannot be read: status 401 Unauthorized."


def test_statistics_that_are_closed_to_others_are_open_to_the_load_test(url, settings, capsys):
    settings.HITCOUNTER_OPEN = False
    assert json.loads(run(capsys, url, "--json")[0])["counted"] == 20


def test_an_address_of_something_else_is_a_refusal(url):
    assert refusal(f"{url}/nowhere") == f"The statistics of {url}/nowhere cannot be read: status 404 Not Found."


def test_a_count_that_is_not_what_was_acknowledged_is_exit_status_1_after_the_report(url, capsys, monkeypatch):
    real = generator.send
    monkeypatch.setattr(generator, "send", lambda plan, progress: {**real(plan, progress), "succeeded": 21})
    assert refusal(url, "--json") == "The statistics gained 20 hits where 21 were acknowledged."
    assert json.loads(capsys.readouterr().out)["counted"] == 20


def test_a_database_that_is_gone_is_a_refusal(monkeypatch):
    def gone(*args, **options):
        raise OperationalError("connection refused\n\tIs the server running?")

    monkeypatch.setattr(runs, "perform", gone)
    assert refusal("http://unused") == "The database cannot be used: connection refused."


def test_an_interruption_ends_it_with_one_sentence(url, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "send", interrupted)
    with pytest.raises(CommandError, match=r"^The load test was interrupted; what it sent is counted\.$") as failure:
        call_command("runloadtest", f"--url={url}")
    assert failure.value.returncode == 130
    assert_another_may_run()
