"""The load generator, against small servers of the tests' own; no database."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate, count, islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters.loadtest import generator, runs
from counters.loadtest.generator import send
from counters.loadtest.plan import ANSWER_SECONDS, Plan, Report
from counters.loadtest.runs import LoadTestError, send_apart
from tests.service import PROJECT, free_port

plans = st.builds(Plan, url=st.just("http://unused"), requests=st.integers(1, 200), seed=st.text())


class Asked(BaseHTTPRequestHandler):
    """One connection of a client; what is answered is the server's `respond`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.server.respond(self)  # type: ignore[attr-defined]

    def answer(self, status: int = 200, body: bytes = b"{}", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    url: str


@contextmanager
def serving(respond: Callable[[Asked], None]) -> Iterator[Server]:
    """A server on loopback that hands every GET to `respond`."""
    server = Server(("127.0.0.1", 0), Asked)
    server.respond = respond  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def acknowledge(asked: Asked) -> None:
    asked.answer()


def acknowledged(report: Report) -> dict[str, int]:
    return {row["path"]: row["count"] for row in report["paths"]}


# What is sent


@given(plans)
def test_a_path_is_1_to_6_segments_from_a_pool_of_3_words(plan):
    assert len(plan.words) == 3
    for path in plan.paths():
        assert path.startswith("/api/") and path.endswith("/")
        segments = path.removeprefix("/api/").removesuffix("/").split("/")
        assert 1 <= len(segments) <= 6 and set(segments) <= set(plan.words)


@given(plans)
def test_as_many_paths_are_drawn_as_requests_are_asked_for(plan):
    assert len(list(plan.paths())) == plan.requests


def test_every_number_of_segments_and_every_word_is_drawn():
    plan = Plan("http://unused", requests=1000, seed="a")
    drawn = [path.strip("/").split("/")[1:] for path in plan.paths()]
    assert {len(segments) for segments in drawn} == {1, 2, 3, 4, 5, 6}
    assert {word for segments in drawn for word in segments} == set(plan.words)


@given(plans)
def test_the_same_seed_draws_the_same_paths(plan):
    again = Plan(plan.url, plan.requests, seed=plan.seed)
    assert list(again.paths()) == list(plan.paths())


def test_a_longer_test_with_the_same_seed_begins_as_the_shorter_one():
    short, long = (Plan("http://unused", requests=number, seed="a") for number in (10, 1000))
    assert list(short.paths()) == list(islice(long.paths(), 10))


def test_without_a_seed_every_plan_draws_words_of_its_own():
    assert Plan("http://unused", 1).words != Plan("http://unused", 1).words


# What is reported


@given(st.lists(st.floats(0, 60), min_size=1, max_size=300))
def test_a_percentile_is_the_least_latency_that_so_many_do_not_exceed(latencies):
    reported = generator._percentiles(latencies)
    ordered = sorted(latencies)
    for name, percent in (("p50", 50), ("p95", 95), ("p99", 99), ("max", 100)):
        least = next(one for rank, one in enumerate(ordered, 1) if rank * 100 >= percent * len(ordered))
        assert reported[name] == round(least * 1000, 3)


@given(st.lists(st.floats(0, 60), max_size=300))
def test_percentiles_rise(latencies):
    values = list(generator._percentiles(latencies).values())
    assert all(low <= high for low, high in pairwise(values) if low is not None)


def test_of_100_latencies_the_99th_percentile_is_the_last_but_one():
    assert generator._percentiles([n / 1000 for n in range(1, 101)]) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}


@given(st.lists(st.floats(0, 61), min_size=1, max_size=300))
def test_every_latency_is_in_the_first_class_whose_bound_it_does_not_exceed(latencies):
    classes = generator._histogram(latencies)
    assert sum(one["count"] for one in classes) == len(latencies)
    for bound, up_to_it in zip(*accumulated(classes), strict=True):
        longest = 61 if bound == 60_000 else bound / 1000
        assert up_to_it == sum(latency * 1000 <= longest * 1000 for latency in latencies)


def accumulated(classes: list[dict[str, float]]) -> tuple[list[float], list[float]]:
    return [one["ms"] for one in classes], list(accumulate(one["count"] for one in classes))


@given(st.lists(st.floats(0, 61), min_size=1, max_size=5))
def test_classes_begin_and_end_with_one_that_is_not_empty_and_leave_none_out_between(latencies):
    classes = generator._histogram(latencies)
    assert classes[0]["count"] and classes[-1]["count"]
    bounds = [one["ms"] for one in classes]
    first = generator.BOUNDS_MS.index(bounds[0])
    assert bounds == list(generator.BOUNDS_MS[first : first + len(bounds)])


def test_the_bounds_of_the_classes_go_1_2_5_from_half_a_millisecond_to_a_minute():
    bounds = generator.BOUNDS_MS
    assert bounds[:6] == (0.5, 1, 2, 5, 10, 20) and bounds[-3:] == (20_000, 50_000, 60_000)
    assert bounds[-1] == ANSWER_SECONDS * 1000


def test_the_classes_are_those_of_what_was_answered():
    statuses = iter([200, 503] * 10)
    with serving(lambda asked: asked.answer(next(statuses))) as server:
        report = send(Plan(server.url, requests=20, concurrency=1))
    assert sum(one["count"] for one in report["histogram"]) == report["succeeded"] == 10


def test_the_report_says_what_was_sent_and_what_was_acknowledged():
    with serving(acknowledge) as server:
        plan = Plan(server.url, requests=50, concurrency=5, seed="a")
        report = send(plan)
    assert (report["requested"], report["succeeded"], report["failed"], report["errors"]) == (50, 50, 0, {})
    assert acknowledged(report) == Counter(plan.paths())
    assert report["unique_paths"] == len(report["paths"])
    assert report["paths"] == sorted(report["paths"], key=lambda row: (-row["count"], row["path"]))
    assert report["seconds"] > 0 and report["requests_per_second"] > 0
    assert all(value > 0 for value in report["latency_ms"].values())


def test_the_rate_is_that_of_the_acknowledged_requests():
    statuses = iter([200, 503] * 10)
    with serving(lambda asked: asked.answer(next(statuses))) as server:
        report = send(Plan(server.url, requests=20, concurrency=1))
    assert report["requests_per_second"] == pytest.approx(10 / report["seconds"], rel=0.2)


def test_progress_is_told_for_every_request_answered_or_not():
    statuses, told = iter([200, 503] * 10), []
    with serving(lambda asked: asked.answer(next(statuses))) as server:
        send(Plan(server.url, requests=20, concurrency=1), progress=told.append)
    assert told == [1] * 20


# How it is sent


def test_no_more_connections_are_opened_than_requests_may_be_under_way():
    clients = set()

    def respond(asked: Asked) -> None:
        clients.add(asked.client_address)
        asked.answer()

    with serving(respond) as server:
        report = send(Plan(server.url, requests=200, concurrency=4))
    assert report["succeeded"] == 200
    assert len(clients) == 4


def test_as_many_requests_are_under_way_as_are_allowed():
    together = threading.Barrier(8, timeout=30)

    def respond(asked: Asked) -> None:
        together.wait()
        asked.answer()

    with serving(respond) as server:
        assert send(Plan(server.url, requests=16, concurrency=8))["succeeded"] == 16


def test_a_broken_connection_is_not_tried_again_since_the_hit_may_be_counted():
    asked_for = []

    def respond(asked: Asked) -> None:
        asked_for.append(asked.path)
        acknowledge(asked) if len(asked_for) == 1 else asked.hang_up()

    with serving(respond) as server:
        report = send(Plan(server.url, requests=2, concurrency=1))
    assert len(asked_for) == 2
    assert report["errors"] == {"ServerDisconnectedError": 1}


def test_a_redirect_is_an_error_and_not_followed():
    asked_for = []

    def respond(asked: Asked) -> None:
        asked_for.append(asked.path)
        asked.answer(302, Location="/elsewhere/")

    with serving(respond) as server:
        report = send(Plan(server.url, requests=3, concurrency=1))
    assert report["errors"] == {"302": 3}
    assert "/elsewhere/" not in asked_for


# What fails


def test_an_answer_that_is_not_200_is_an_error_under_its_status():
    statuses = iter([200, 503, 500, 503])
    with serving(lambda asked: asked.answer(next(statuses))) as server:
        report = send(Plan(server.url, requests=4, concurrency=1))
    assert (report["succeeded"], report["failed"], report["errors"]) == (1, 3, {"503": 2, "500": 1})
    assert sum(acknowledged(report).values()) == 1


def test_a_refused_connection_is_an_error_under_its_name():
    report = send(Plan(f"http://127.0.0.1:{free_port()}", requests=5, concurrency=2))
    assert (report["succeeded"], report["failed"]) == (0, 5)
    assert report["errors"] == {"ClientConnectorError": 5}


def test_where_nothing_was_answered_there_is_no_latency():
    report = send(Plan(f"http://127.0.0.1:{free_port()}", requests=1))
    assert report["latency_ms"] == {"p50": None, "p95": None, "p99": None, "max": None}
    assert report["histogram"] == []
    assert (report["requests_per_second"], report["paths"], report["unique_paths"]) == (0, [], 0)


def test_an_answer_that_takes_too_long_is_a_timeout(monkeypatch):
    monkeypatch.setattr(generator, "ANSWER_SECONDS", 0.05)
    over = threading.Event()
    with serving(lambda _: over.wait(30) and None) as server:
        report = send(Plan(server.url, requests=2, concurrency=2))
        over.set()
    assert report["errors"] == {"timeout": 2}


def test_an_answer_that_breaks_off_is_an_error():
    def respond(asked: Asked) -> None:
        asked.answer(body=b"{", **{"Content-Length": "100"})
        asked.hang_up()

    with serving(respond) as server:
        report = send(Plan(server.url, requests=1))
    assert report["errors"] == {"ClientPayloadError": 1}


# In a process of its own


def test_a_process_of_its_own_reports_the_same():
    with serving(acknowledge) as server:
        plan = Plan(server.url, requests=50, concurrency=5, seed="a")
        here, apart = send(plan), send_apart(plan)
    assert here.keys() == apart.keys()
    assert here["paths"] == apart["paths"]


def test_a_process_of_its_own_tells_how_far_it_is_while_it_sends():
    told, go_on = [], threading.Event()

    def respond(asked: Asked) -> None:
        if next(answered) >= 10:
            go_on.wait(30)
        acknowledge(asked)

    def progress(more: int) -> None:
        told.append(more)
        if sum(told) == 10:
            go_on.set()

    answered = count()
    with serving(respond) as server:
        begun = time.monotonic()
        send_apart(Plan(server.url, requests=20, concurrency=1), progress)
        assert time.monotonic() - begun < 25, "it was told at the end only"
    assert sum(told) == 20


def test_a_process_that_is_killed_while_it_tells_is_an_error_too():
    async def printed() -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        reader.feed_data(b'{"ended": 3}\n{"requested": 5, "succ')
        reader.feed_eof()
        return reader

    async def read() -> Report | None:
        return await runs._report(await printed(), told.append)

    told: list[int] = []
    assert asyncio.run(read()) is None
    assert told == [3]


def test_a_process_that_fails_is_an_error_with_its_status():
    with pytest.raises(LoadTestError, match="exit status 1"):
        send_apart(Plan("http://unused", requests="not a number"))  # type: ignore[arg-type]


def test_the_process_ends_with_the_one_that_started_it():
    asked, over = threading.Event(), threading.Event()

    def respond(_: Asked) -> None:
        asked.set()
        over.wait(30)

    with serving(respond) as server:
        command = [sys.executable, "-m", runs.GENERATOR]
        with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdin.write(json.dumps({"url": server.url, "requests": 1}).encode() + b"\n")
            process.stdin.flush()
            assert asked.wait(30)
            process.stdin.close()
            begun = time.monotonic()
            assert process.wait(timeout=30) == 1
            assert time.monotonic() - begun < 20, "it waited for the answer"
        over.set()


# The statistics before and after


def test_the_statistics_are_summed_over_the_paths_that_the_plan_can_draw():
    prefixes = []

    def respond(asked: Asked) -> None:
        prefixes.append(asked.path)
        asked.answer(body=json.dumps([{"path": "/api/x/", "count": 3}, {"path": "/api/x/y/", "count": 4}]).encode())

    with serving(respond) as server:
        plan = Plan(server.url, requests=1)
        assert runs._counted(plan, {}) == 21
    assert sorted(prefixes) == sorted(f"/stats/?prefix=%2Fapi%2F{word}%2F" for word in plan.words)


def test_the_headers_open_the_statistics():
    with serving(lambda asked: asked.answer(200 if asked.headers["X-Key"] == "a" else 403, b"[]")) as server:
        plan = Plan(server.url, requests=1)
        assert runs._counted(plan, {"X-Key": "a"}) == 0
        with pytest.raises(LoadTestError, match="status 403 Forbidden"):
            runs._counted(plan, {"X-Key": "b"})


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}x", b'{"detail": "no list"}', b"7", b"[1]", b'[{"path": "/"}]', b'[{"count": "x"}]']
)
def test_what_is_no_list_of_paths_and_counts_is_said_so(body):
    with (
        serving(lambda asked: asked.answer(body=body)) as server,
        pytest.raises(LoadTestError, match="no list of paths and counts"),
    ):
        runs._counted(Plan(server.url, requests=1), {})


def test_a_redirect_of_the_statistics_is_not_followed_with_the_headers():
    with (
        serving(lambda asked: asked.answer(302, b"", Location="/elsewhere/")) as server,
        pytest.raises(LoadTestError, match="status 302"),
    ):
        runs._counted(Plan(server.url, requests=1), {"X-Key": "secret"})


def test_a_service_that_does_not_answer_is_said_so_in_one_sentence():
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(LoadTestError) as failure:
        runs._counted(Plan(url, requests=1), {})
    assert str(failure.value) == f"The service at {url} does not answer: Connection refused."


@pytest.mark.parametrize(
    "url", ["http://", "http://a b", "http://.", "http://[::", "http://unknown.invalid", "nonsense"]
)
def test_an_address_that_is_none_is_a_sentence_too(url):
    with pytest.raises(LoadTestError, match=r"does not answer: .+"):
        runs._counted(Plan(url, requests=1), {})
