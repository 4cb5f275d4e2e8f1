"""From the spool to the service: when hits are sent, when again, and when not any more."""

import itertools
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from counters.middleware import sender as module
from counters.middleware.sender import LONGEST_PAUSE_SECONDS, LONGEST_RETRY_AFTER_SECONDS, Sender
from counters.middleware.service import Refused, Service, Unavailable
from counters.middleware.spool import Spool, SpoolFull
from tests.hits_stub import HitsStub
from tests.host.running import wait_until
from tests.service import PROJECT


class Clock:
    time = 1000.0

    def __call__(self) -> float:
        return self.time


class Greatest(random.Random):
    """Draws the longest pauses, and leaves everything in order."""

    def uniform(self, a, b):
        return b

    def shuffle(self, x):
        pass


class FakeService:
    """Counts lines under keys that are new; `errors` are raised by the next deliveries, `lost` after counting."""

    def __init__(self) -> None:
        self.counted: dict[str, bytes] = {}
        self.deliveries: list[str] = []
        self.errors: list[Exception | None] = []
        self.lost: list[Exception] = []

    def deliver(self, key: str, lines: bytes, patience: float) -> None:
        self.deliveries.append(key)
        if self.errors and (error := self.errors.pop(0)):
            raise error
        assert self.counted.setdefault(key, lines) == lines
        if self.lost:
            raise self.lost.pop(0)

    @property
    def lines(self) -> list[bytes]:
        return sorted(line for lines in self.counted.values() for line in lines.splitlines())


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path, 10_000)


@pytest.fixture
def sender(spool, service, clock) -> Sender:
    return Sender(spool, service.deliver, clock=clock, draw=Greatest())


def left(spool: Spool, *lines: bytes) -> None:
    """As if each line had been left in a segment of its own."""
    for line in lines:
        spool.append(line)
        spool.seal()


def test_what_waits_is_sent_once(sender, spool, service):
    left(spool, b"1\n", b"2\n")
    spool.append(b"3\n")
    sender.send_due()
    sender.send_due()
    assert service.lines == [b"1", b"2", b"3"]
    assert len(service.deliveries) == 3
    assert spool.waiting() == []


def test_what_was_counted_without_an_answer_is_sent_again_under_its_key(sender, spool, service, clock):
    service.lost = [Unavailable("no answer")]
    left(spool, b"1\n")
    sender.send_due()
    spool.append(b"2\n")
    clock.time += 60
    sender.send_due()
    first, *others = service.deliveries
    assert first in others
    assert service.lines == [b"1", b"2"]
    assert spool.waiting() == []


def pauses(sender: Sender, service: FakeService, clock: Clock) -> list[float]:
    """How long the sender waited before each of the next deliveries, to half a second."""
    found = []
    for _ in range(len(service.errors)):
        before, start = len(service.deliveries), clock.time
        while len(service.deliveries) == before:
            sender.send_due()
            clock.time += 0.5
        found.append(clock.time - start - 0.5)
    return found


def test_pauses_grow_up_to_a_limit(sender, spool, service, clock):
    left(spool, b"1\n")
    service.errors = [Unavailable("away")] * 8
    assert pauses(sender, service, clock) == [0, 1.5, 3.5, 7.5, 15.5, 29.5, 29.5, 29.5]
    assert LONGEST_PAUSE_SECONDS == 30


def test_pauses_are_short_again_after_a_success(sender, spool, service, clock):
    service.errors = [Unavailable("away")] * 5
    left(spool, b"1\n")
    pauses(sender, service, clock)
    clock.time += LONGEST_PAUSE_SECONDS
    sender.send_due()
    left(spool, b"2\n")
    service.errors = [Unavailable("away")] * 2
    assert pauses(sender, service, clock) == [0, 1.5]


@pytest.mark.parametrize(
    ("retry_after", "pause"), [(0.0, 2), (100.0, 100), (1e9, LONGEST_RETRY_AFTER_SECONDS), (None, 2)]
)
def test_the_service_says_when_to_try_again(sender, spool, service, clock, retry_after, pause):
    left(spool, b"1\n")
    service.errors = [Unavailable("busy", retry_after)]
    sender.send_due()
    clock.time += pause - 1
    sender.send_due()
    assert len(service.deliveries) == 1
    clock.time += 1
    sender.send_due()
    assert service.lines == [b"1"]


def test_a_service_that_is_away_is_asked_once_and_not_for_each_segment(sender, spool, service):
    left(spool, b"1\n", b"2\n", b"3\n")
    service.errors = [Unavailable("away")]
    sender.send_due()
    assert len(service.deliveries) == 1


def test_hits_during_a_pause_gather_in_one_segment(sender, spool, service, clock):
    left(spool, b"1\n")
    service.errors = [Unavailable("away", 20)]
    sender.send_due()
    for line in (b"2\n", b"3\n", b"4\n"):
        spool.append(line)
        clock.time += 1
        sender.send_due()
    clock.time += 20
    sender.send_due()
    assert sorted(service.counted.values()) == [b"1\n", b"2\n3\n4\n"]


def test_hits_that_the_service_fails_at_hold_up_no_others(spool, clock):
    left(spool, *[b"%d\n" % n for n in range(20)])
    counted = []

    def deliver(key, lines, patience):
        if lines == b"0\n":
            raise Unavailable("500")
        counted.append(lines)

    sender = Sender(spool, deliver, clock=clock, draw=random.Random(1))
    for _ in range(50):
        sender.send_due()
        clock.time += LONGEST_PAUSE_SECONDS
    assert len(counted) == 19
    assert len(spool.waiting()) == 1


def test_hits_that_are_refused_are_set_aside_with_a_word_and_hold_up_no_others(
    sender, spool, service, caplog, tmp_path
):
    left(spool, b"1\n2\n", b"1\n2\n")
    service.errors = [Refused("422: no")]
    sender.send_due()
    assert service.lines == [b"1", b"2"]
    assert spool.waiting() == []
    assert (tmp_path / f"{service.deliveries[0]}.refused").read_bytes() == b"1\n2\n"
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "2 hits" in record.getMessage()
    assert "422: no" in record.getMessage()


def test_a_line_that_is_refused_is_set_aside_with_a_word_and_its_neighbours_are_counted(
    sender, spool, service, caplog, tmp_path
):
    left(spool, b"1\nx\n2\n")
    service.errors = [Refused("Hit 1: no such method", 1)]
    sender.send_due()
    sender.send_due()
    assert service.lines == [b"1", b"2"]
    assert spool.waiting() == []
    [kept] = tmp_path.iterdir()
    assert (kept.suffix, kept.read_bytes()) == (".refused", b"x\n")
    [record] = caplog.records
    assert f"1 hits will not be counted, and stay in {kept}: Hit 1: no such method" in record.getMessage()


def test_lines_that_the_service_itself_refuses_are_set_aside_and_counted_once_it_takes_them(spool, tmp_path):
    hits = [b'{"path":"/%d","at":"2026-03-01T12:00:00+00:00"}\n' % n for n in range(5)]
    bad = [hit.replace(b"}", b',"status":999}') for hit in hits]
    left(spool, b"".join([hits[0], bad[1], bad[1], hits[2], bad[3], hits[4]]))
    with HitsStub() as stub:
        sender = Sender(spool, Service(stub.url).count)
        for _ in range(4):
            sender.send_due()
        assert stub.counts == {"/0": 1, "/2": 1, "/4": 1}
        refused = list(tmp_path.iterdir())
        assert b"".join(sorted(path.read_bytes() for path in refused)) == bad[1] + bad[1] + bad[3]
        for path in refused:
            path.write_bytes(path.read_bytes().replace(b"999", b"200"))
            path.rename(path.with_suffix(".ndjson"))
        sender.send_due()
        assert stub.counts == {"/0": 1, "/1": 2, "/2": 1, "/3": 1, "/4": 1}
    assert list(tmp_path.iterdir()) == []


def test_an_outage_leaves_few_segments_and_everything_is_sent_after_it(sender, spool, service, clock):
    hours = 5
    service.errors = [Unavailable("away")] * (hours * 120)
    for minute in range(hours * 60):
        spool.append(b"%d\n" % minute)
        for _ in range(2):
            sender.send_due()
            clock.time += LONGEST_PAUSE_SECONDS
    assert len(spool.waiting()) < 15
    service.errors = []
    sender.send_due()
    sender.send_due()
    assert len(service.lines) == hours * 60


def test_what_another_process_sends_after_an_outage_keeps_nothing_here_from_being_sent(
    sender, spool, service, clock, tmp_path
):
    left(spool, b"1\n")
    service.errors = [Unavailable("away")] * 3
    for _ in range(3):
        sender.send_due()
        clock.time += LONGEST_PAUSE_SECONDS
    spool.append(b"2\n")
    Sender(Spool(tmp_path, 10_000), service.deliver, clock=clock).send_due()
    for _ in range(2):
        sender.send_due()
        clock.time += LONGEST_PAUSE_SECONDS
    assert service.lines == [b"1", b"2"]


def test_trouble_and_its_end_are_logged_without_a_line_for_each_try(sender, spool, service, caplog, clock):
    left(spool, b"1\n")
    service.errors = [Unavailable("away")] * 10
    for _ in range(12):
        sender.send_due()
        clock.time += LONGEST_PAUSE_SECONDS
    assert [record.getMessage() for record in caplog.records] == [
        "Hits cannot be sent and wait on disk (failures: 1): away",
        "Hits are sent again.",
    ]


def test_a_disk_that_fails_is_tried_again(sender, spool, service, clock, monkeypatch):
    left(spool, b"1\n")
    with monkeypatch.context() as broken:
        broken.setattr(module.Spool, "waiting", None)
        sender.send_due()
    sender.send_due()
    assert service.lines == []
    clock.time += 2
    sender.send_due()
    assert service.lines == [b"1"]


def test_a_hit_is_a_line_of_json(sender, spool, service, tmp_path):
    sender.count({"path": "/ü\n", "at": "2026-03-01T12:00:00+00:00"})
    sender.close()
    assert service.lines == ['{"path":"/ü\\n","at":"2026-03-01T12:00:00+00:00"}'.encode()]


def test_closing_tries_once_more_even_amid_a_pause(sender, spool, service):
    left(spool, b"1\n")
    service.errors = [Unavailable("away", 3000)]
    sender.send_due()
    sender.count({"path": "/", "at": ""})
    sender.close()
    assert len(service.lines) == 2


def test_closing_what_has_counted_nothing_does_nothing(sender, service):
    sender.close()
    assert service.deliveries == []


def test_a_full_spool_is_emptied_by_whoever_finds_it_full(spool, service, tmp_path):
    left(spool, b"1\n")
    full = Sender(Spool(tmp_path, 1), service.deliver)
    with pytest.raises(SpoolFull):
        full.count({"path": "/", "at": ""})
    full.close()
    assert service.lines == [b"1"]


@pytest.fixture
def hanging(tmp_path, monkeypatch):
    """A sender whose service hangs with what is sent to it until the test is over."""
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    asked, over = Event(), Event()

    def deliver(key, lines, patience):
        asked.set()
        over.wait()

    sender = Sender(Spool(tmp_path, 1000), deliver)
    sender.count({"path": "/", "at": ""})
    assert asked.wait(10)
    yield sender
    over.set()
    sender.close()


def counts(sender: Sender) -> bool:
    """Whether there is room for a hit."""
    try:
        sender.count({"path": "/", "at": ""})
    except SpoolFull:
        return False
    return True


def test_a_spool_that_others_fill_is_full_and_one_that_they_empty_is_not_while_the_service_hangs(hanging, tmp_path):
    others = tmp_path / "others.ndjson"
    others.write_bytes(b"x" * 1000)
    wait_until(lambda: not counts(hanging), "a full spool")
    others.unlink()
    wait_until(lambda: counts(hanging), "room in the spool")


def test_hits_are_on_disk_soon_while_the_service_hangs(hanging, monkeypatch, tmp_path):
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda file: synced.add(Path(f"/proc/self/fd/{file}").readlink()))
    before = set(tmp_path.iterdir())
    hanging.count({"path": "/", "at": ""})
    [written] = set(tmp_path.iterdir()) - before
    wait_until(lambda: written in synced, "a hit on disk")


@pytest.mark.parametrize("refused", [1, 2])
def test_a_thread_that_the_system_does_not_give_is_asked_for_again(
    sender, service, spool, monkeypatch, caplog, refused
):
    start, starts = Thread.start, itertools.count(1)

    def start_some(thread):
        if next(starts) == refused:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(Thread, "start", start_some)
    sender.count({"path": "/", "at": ""})
    assert "can't start new thread" in caplog.text
    sender.count({"path": "/", "at": ""})
    sender.close()
    assert len(service.lines) == 2
    assert next(starts) == 4


# A process of its own, since what is registered at forks stays registered.
FORK_AMID_COUNTING = """
import os, sys
from pathlib import Path
from counters.middleware.sender import Sender
from counters.middleware.spool import Spool

def deliver(key, lines, patience):
    print(lines.decode(), end="", flush=True)

sender = Sender(Spool(Path(sys.argv[1]), 10_000), deliver)
sender.attend_forks()
sender.count({"path": "/parent", "at": ""})
if os.fork():
    os._exit(0)
sender.count({"path": "/child", "at": ""})
sys.stdin.read()
"""


def test_a_child_sends_its_own_hits_and_what_its_parent_left(tmp_path):
    command = [sys.executable, "-c", FORK_AMID_COUNTING, tmp_path]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        sent = [json.loads(parent.stdout.readline())["path"] for _ in range(2)]
        parent.stdin.close()
    assert sorted(sent) == ["/child", "/parent"]
