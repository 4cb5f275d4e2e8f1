"""GET /live/events/ of the real service: every hit is told once, and nobody's stream holds up the end."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from hitcounter.postgres import PrivatePostgres
from tests.service import Service

pytestmark = pytest.mark.long

WAIT_SECONDS = 30


@contextmanager
def listening(service: Service) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a stream, from the first on."""
    with requests.get(f"{service.url}/live/events/", stream=True, timeout=WAIT_SECONDS) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Accel-Buffering"] == "no"
        yield told(answer)


def told(answer: requests.Response) -> Iterator[dict[str, Any]]:
    for line in answer.iter_lines(chunk_size=1):
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))


def count(service: Service, prefix: str, number: int) -> None:
    with requests.Session() as session:
        for n in range(number):
            session.get(f"{service.url}{prefix}{n % 3}", timeout=WAIT_SECONDS).raise_for_status()


def quiet(events: Iterator[dict[str, Any]], seconds: int = 3) -> list[dict[str, Any]]:
    """The events up to so many seconds after the last hit."""
    seen, silent = [], 0
    for event in events:
        seen.append(event)
        silent = 0 if event["hits"] else silent + 1
        if silent == seconds and any(one["hits"] for one in seen):
            return seen
    raise AssertionError("the stream ended")


def seconds_of(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


def test_every_hit_is_told_once(service: Service):
    with listening(service) as events:
        first = next(events)
        with ThreadPoolExecutor(4) as threads:
            sent = [threads.submit(count, service, f"/api/live/{n}/", 300) for n in range(4)]
            seen = quiet(events)
            assert [one.result() for one in sent] == [None] * 4
    times = [seconds_of(event) for event in [first, *seen]]
    assert times == [times[0] + n for n in range(len(times))], "each second once"
    assert sum(event["hits"] for event in seen) == 1200
    by_path: dict[str, int] = {}
    for event in seen:
        assert len(event["paths"]) <= 10
        by_path |= {row["path"]: by_path.get(row["path"], 0) + row["count"] for row in event["paths"]}
    assert sum(by_path.values()) <= 1200 and all(path.startswith("/api/live/") for path in by_path)


def test_the_first_event_has_the_last_minute(service: Service):
    with listening(service) as events:
        next(events)
        count(service, "/api/live/history/", 20)
        told = quiet(events)
    with listening(service) as events:
        first, second = next(events), next(events)
    assert len(first["history"]) == 60 and first["history"][-1] == first["hits"]
    assert "history" not in second
    hits = {seconds_of(event): event["hits"] for event in told}
    at = seconds_of(first)
    history = {at - 59 + n: number for n, number in enumerate(first["history"])}
    assert {second: history[second] for second in hits} == hits


def test_a_load_test_is_told_while_it_runs(service: Service):
    with listening(service) as events, ThreadPoolExecutor(1) as threads:
        assert next(events)["loadtest"] is None
        answer = threads.submit(requests.post, f"{service.url}/test/12000/", timeout=WAIT_SECONDS)
        running = [event["loadtest"] for event in quiet(events)]
        assert answer.result().status_code == 200
    ended = [run["ended"] for run in running if run]
    assert ended == sorted(ended) and 0 < ended[-1] <= 12_000
    assert {run["requested"] for run in running if run} == {12_000}
    assert running[-1] is None


def test_a_stranger_is_refused_by_a_closed_service_and_who_is_logged_in_is_not(tmp_path: Path):
    with Service(tmp_path, DATABASE_URL="", HITCOUNTER_OPEN="off", HITCOUNTER_WORKERS="1") as closed:
        answer = closed.get("/live/events/")
        assert answer.status_code == 401 and "Log in" in answer.json()["detail"]
        with requests.Session() as session:
            page = f"{closed.url}/login/"
            session.get(page, timeout=WAIT_SECONDS)
            form = {
                "username": "admin",
                "password": (tmp_path / "admin-password").read_text().strip(),
                "csrfmiddlewaretoken": session.cookies["hitcounter_csrf"],
            }
            session.post(page, form, headers={"Referer": page}, timeout=WAIT_SECONDS)
            opened = [session.get(f"{closed.url}/live/events/", stream=True, timeout=WAIT_SECONDS) for _ in range(15)]
            assert all(next(told(answer)) for answer in opened)
            # They keep none of the ten connections that there are.
            assert closed.ready() and session.get(f"{closed.url}/stats/", timeout=WAIT_SECONDS).status_code == 200
            for answer in opened:
                answer.close()


def test_other_methods_are_refused(service: Service):
    for method in ("HEAD", "OPTIONS"):
        answer = requests.request(method, f"{service.url}/live/events/", timeout=WAIT_SECONDS)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("streams", [1, 20])
def test_a_stop_ends_the_streams_and_is_not_held_up_by_them(tmp_path: Path, streams: int):
    with Service(tmp_path, DATABASE_URL="") as stopped:
        opened = [requests.get(f"{stopped.url}/live/events/", stream=True, timeout=30) for _ in range(streams)]
        rests = [told(answer) for answer in opened]
        assert all(next(rest) for rest in rests)
        ended: list[float] = []

        def read(rest: Iterator[dict[str, Any]]) -> None:
            for _ in rest:
                pass
            ended.append(time.monotonic())

        threads = [threading.Thread(target=read, args=[rest]) for rest in rests]
        for thread in threads:
            thread.start()
        asked = time.monotonic()
        stopped.process.terminate()
        for thread in threads:
            thread.join(WAIT_SECONDS)
        assert len(ended) == streams and max(ended) - asked < 1.5
        ends_within = 5  # its private PostgreSQL stops meanwhile
        assert stopped.process.wait(ends_within) == 0
    assert "ERROR" not in stopped.output() and "Forcing close" not in stopped.output()


def test_it_looks_while_somebody_listens_and_no_longer(service: Service):
    url = PrivatePostgres(service.data_dir / "postgres").url
    with psycopg.connect(url, autocommit=True) as session:
        with listening(service) as events:
            assert all("hits" in next(events) for _ in range(3))
            assert looked(session) < 2
        time.sleep(3)
        before = looked(session)
        time.sleep(1)
        assert looked(session) >= before + 1


def looked(session: psycopg.Connection[Any]) -> float:
    """How many seconds ago the live page has looked last, as far as the sessions that are open know."""
    [[ago]] = session.execute(
        "SELECT extract(epoch FROM clock_timestamp() - max(query_start)) FROM pg_stat_activity"
        " WHERE query LIKE '%counters_loadtestrun%' AND pid <> pg_backend_pid()"
    ).fetchall()
    return float("inf") if ago is None else float(ago)
