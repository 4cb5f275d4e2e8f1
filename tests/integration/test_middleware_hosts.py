"""A host project of its own under gunicorn: what it answered is counted once, whatever breaks in between."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.hits_stub import HitsStub
from tests.host.running import ASGI, THREADS, WSGI, Host, wait_until
from tests.service import PROJECT, free_port

pytestmark = pytest.mark.long

SERVERS = pytest.mark.parametrize("server", [WSGI, THREADS, ASGI], ids=["sync", "threads", "asgi"])


@pytest.fixture
def stub() -> Iterator[HitsStub]:
    with HitsStub() as running:
        yield running


def counted(stub: HitsStub, host: Host, hits: int) -> None:
    """Return once so many hits are counted and the spool is empty; fail if there are ever more."""
    wait_until(lambda: stub.counts.total() >= hits and not host.waiting(), f"{hits} hits, at {stub.counts.total()}")
    assert stub.counts.total() == hits


@SERVERS
def test_every_request_reaches_the_service_soon(server, stub, tmp_path):
    with Host(server, tmp_path, stub.url) as host:
        for n in range(20):
            assert host.get(f"/page/{n}?q=1").status_code == 200
        assert host.get("/nothing").status_code == 404
        assert host.get("/broken").status_code == 500
        assert host.get("/stream").text == "one two"
        counted(stub, host, 23)
    assert stub.counts["/page/7"] == 1
    told = {hit["path"]: (hit["method"], hit["status"], hit.get("route")) for hit in stub.hits}
    assert told["/page/7"] == ("GET", 200, "/page/<str:name>")
    assert told["/nothing"] == ("GET", 404, None)
    assert told["/broken"] == ("GET", 500, "/broken")
    assert told["/stream"] == ("GET", 200, "/stream")


@SERVERS
def test_hits_wait_on_disk_for_a_service_that_is_away(server, tmp_path):
    port = free_port()
    with Host(server, tmp_path, f"http://127.0.0.1:{port}") as host:
        for n in range(10):
            assert host.get(f"/page/{n}").status_code == 200
        wait_until(lambda: "Hits cannot be sent" in host.log.read_text(), "a word in the log")
        with HitsStub(port) as stub:
            counted(stub, host, 10)
    assert set(stub.counts.values()) == {1}


def test_hits_whose_answer_was_lost_are_not_counted_twice(stub, tmp_path):
    with Host(WSGI, tmp_path, stub.url) as host:
        stub.faults += ["drop", 503, "drop"]
        for n in range(10):
            host.get(f"/page/{n}")
        wait_until(lambda: not stub.faults, "all faults")
        counted(stub, host, 10)
    keys = [key for key, _, _ in stub.requests]
    assert len(keys) > len(set(keys))
    assert set(stub.counts.values()) == {1}


@SERVERS
def test_what_is_left_at_the_end_is_sent_at_the_end(server, stub, tmp_path):
    with Host(server, tmp_path, stub.url) as host:
        for n in range(10):
            host.get(f"/page/{n}")
    assert host.waiting() == []
    assert stub.counts.total() == 10


@SERVERS
def test_the_end_does_not_wait_for_a_service_that_hangs_and_the_next_start_sends_what_is_left(server, stub, tmp_path):
    stub.faults += ["hang"] * 20
    with Host(server, tmp_path, stub.url) as host:
        for n in range(10):
            host.get(f"/page/{n}")
        wait_until(lambda: stub.requests, "a request that hangs")
    assert host.waiting()
    stub.faults.clear()
    with Host(server, tmp_path, stub.url) as host:
        host.get("/page/10")
        counted(stub, host, 11)
    assert set(stub.counts.values()) == {1}


def test_hits_of_a_child_process_are_its_own(stub, tmp_path):
    with Host(WSGI, tmp_path, stub.url) as host:
        host.get("/page/before")
        child = host.get("/forking/inside").text
        assert int(child) not in {worker.pid for worker in host.workers()}
        counted(stub, host, 3)
    assert stub.counts == {"/page/before": 1, "/page/inside": 1, "/forking/inside": 1}


# A process whose parent ends after the fork, as a worker's may that was forked by a first request.
FORK_AFTER_A_REQUEST = """
import os, sys
import django
from django.test import Client

django.setup()
client = Client()
client.get("/page/parent")
if os.fork():
    os._exit(0)
client.get("/page/child")
sys.stdin.read()
"""


def test_a_child_that_outlives_its_parent_sends_the_hits_of_both(stub, tmp_path):
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.host.settings",
        "HOST_HITCOUNTER_URL": stub.url,
        "HOST_HITCOUNTER_SPOOL": str(tmp_path / "spool"),
    }
    command = [sys.executable, "-c", FORK_AFTER_A_REQUEST]
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE) as parent:
        wait_until(lambda: stub.counts.total() == 2, "the hits of parent and child")
        parent.stdin.close()
    assert stub.counts == {"/page/parent": 1, "/page/child": 1}


def test_a_full_spool_touches_no_request_and_is_logged(tmp_path):
    away = f"http://127.0.0.1:{free_port()}"
    with Host(WSGI, tmp_path, away, HOST_HITCOUNTER_SPOOL_MB="0.0005") as host:
        for n in range(20):
            assert host.get(f"/page/{n}").status_code == 200
        assert 0 < sum(path.stat().st_size for path in host.waiting()) <= 1000
        assert "The spool is full (HITCOUNTER_SPOOL_MB)." in host.log.read_text()


def test_a_directory_that_cannot_be_written_touches_no_request_and_is_logged(stub, tmp_path):
    (tmp_path / "file").touch()
    with Host(WSGI, tmp_path, stub.url, spool=tmp_path / "file/spool") as host:
        for n in range(20):
            assert host.get(f"/page/{n}").status_code == 200
        assert "Not a directory" in host.log.read_text()
        assert host.log.read_text().count("hits were not counted") <= 2  # once a minute in each worker


def test_a_host_that_is_not_told_where_to_count_does_not_start(tmp_path):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.host.settings", "HOST_HITCOUNTER_URL": ""}
    done = subprocess.run(
        [sys.executable, "-c", "import tests.host.wsgi"], cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "ImproperlyConfigured: HITCOUNTER_URL must be set" in done.stderr


class Load:
    """Requests from threads, each for a path of its own, and which of them were answered."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stop = threading.Event()
        self.sent: list[str] = []
        self.answered: list[str] = []

    def _send(self, thread: int) -> None:
        n = 0
        while not self._stop.is_set():
            path = f"/page/{thread}-{n}"
            n += 1
            self.sent.append(path)
            try:
                if self._host.get(path).status_code == 200:
                    self.answered.append(path)
            except requests.RequestException:
                continue

    def during(self, action: Callable[[], None]) -> None:
        with ThreadPoolExecutor(4) as pool:
            sending = [pool.submit(self._send, thread) for thread in range(4)]
            try:
                action()
            finally:
                self._stop.set()
        for one in sending:
            one.result()


@SERVERS
def test_killed_workers_neither_lose_what_was_answered_nor_double_anything(server, stub, tmp_path):
    draw = random.Random(1)
    with Host(server, tmp_path, stub.url) as host:
        load = Load(host)

        def kill_workers() -> None:
            for fault in ("drop", 503, "drop", 409, "drop"):
                answered = len(load.answered)
                stub.faults.append(fault)
                wait_until(lambda so_far=answered: not stub.faults and len(load.answered) > so_far + 100, "some load")
                draw.choice(host.workers()).send_signal(signal.SIGKILL)
                wait_until(lambda: len(host.workers()) == 2, "a new worker")

        load.during(kill_workers)
        wait_until(lambda: not host.waiting(), "an empty spool")
    assert set(stub.counts.values()) == {1}
    assert set(load.answered) <= set(stub.counts) <= set(load.sent)
    assert len(load.answered) >= 500
