"""The recorder against a writer without a database: what each hit is answered, and when."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from counters import metrics
from counters.dimensions import PLAIN
from counters.hits import DatabaseRefused
from counters.ingest import recorder as recorder_module
from counters.ingest.recorder import (
    BATCH_HITS,
    LOSSES,
    BatchConflict,
    BatchFailed,
    BatchRefused,
    Closing,
    ConnectionLost,
    DatabaseFailed,
    DatabaseGone,
    InDoubt,
    QueueFull,
    Recorder,
    Unknown,
)
from counters.newpaths import NewPaths


class FakeWriter:
    """Keeps counts in memory; `gate` holds commits back, `faults` are raised before one, `poison` is always refused."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.batches: list[tuple[int, dict[str, int]]] = []
        self.committed: dict[int, dict[str, int]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()
        self.faults: list[Exception] = []
        self.lost_after_commit = 0
        self.faults_after_loss: list[Exception] = []
        self.poison: set[str] = set()
        self.reachable = asyncio.Event()
        self.reachable.set()
        self.connections = 0
        self.looked_up: list[list[str]] = []
        self.closed = False

    async def connect(self) -> None:
        if not self.reachable.is_set():
            raise ConnectionLost("no database")
        self.connections += 1

    async def write(self, number, hits):
        hits = {path: len(origins) for path, origins in hits.items()}
        self.batches.append((number, hits))
        self.begun.set()
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        if self.poison & set(hits):
            raise BatchRefused("poison")
        if number not in self.committed:
            self.totals.update(hits)
            self.committed[number] = {path: self.totals[path] for path in hits}
        if self.lost_after_commit:
            self.lost_after_commit -= 1
            self.faults = self.faults_after_loss
            raise ConnectionLost("cut after COMMIT")
        return self.committed[number]

    async def known(self, paths, prefixes):
        self.looked_up.append(list(paths))
        if self.faults:
            raise self.faults.pop(0)
        settled = {prefix for prefix in prefixes if any(path.startswith(prefix) for path in self.totals)}
        return set(self.totals) & set(paths), settled

    async def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def recording(writer: FakeWriter, **options) -> AsyncIterator[Recorder]:
    recorder = Recorder(writer, **options)
    await recorder.start()
    yield recorder
    writer.gate.set()
    writer.reachable.set()
    await recorder.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def outcomes(futures) -> list:
    """The place of each hit, or why it has none."""
    answers = await asyncio.gather(*futures, return_exceptions=True)
    return [answer if isinstance(answer, Exception) else answer[1] for answer in answers]


async def test_who_is_answered_and_comes_again_at_once_joins_those_who_wait():
    async def come_twice(path: str) -> None:
        for _ in range(2):
            await recorder.record(path, PLAIN)

    writer = FakeWriter()
    writer.gate.clear()
    async with recording(writer) as recorder, asyncio.TaskGroup() as clients:
        clients.create_task(come_twice("/first"))
        await writer.begun.wait()
        clients.create_task(come_twice("/second"))
        await until(lambda: recorder.waiting == 1)
        writer.gate.set()
    assert [hits for _, hits in writer.batches] == [{"/first": 1}, {"/first": 1, "/second": 1}, {"/second": 1}]


async def test_each_hit_gets_its_own_place_in_the_order_of_coming():
    async with recording(FakeWriter()) as recorder:
        futures = [recorder.record(path, PLAIN) for path in ("/a", "/b", "/a", "/a")]
        assert await outcomes(futures) == [1, 1, 2, 3]


async def test_hits_that_come_during_a_transaction_go_out_together_as_the_next():
    writer = FakeWriter()
    async with recording(writer) as recorder:
        writer.gate.clear()
        first = recorder.record("/a", PLAIN)
        await writer.begun.wait()
        rest = [recorder.record(path, PLAIN) for path in ("/a", "/b", "/a")]
        writer.gate.set()
        assert await outcomes([first, *rest]) == [1, 2, 1, 3]
    assert [hits for _, hits in writer.batches] == [{"/a": 1}, {"/a": 2, "/b": 1}]


async def test_no_hit_is_answered_before_the_commit():
    writer = FakeWriter()
    async with recording(writer) as recorder:
        writer.gate.clear()
        future = recorder.record("/a", PLAIN)
        await writer.begun.wait()
        assert not future.done()
        writer.gate.set()
        assert await future == ("/a", 1)


async def test_a_full_queue_refuses_at_once_and_takes_in_again_when_it_has_room():
    writer = FakeWriter()
    async with recording(writer, capacity=2) as recorder:
        writer.gate.clear()
        under_way = recorder.record("/a", PLAIN)
        await writer.begun.wait()
        waiting = [recorder.record("/a", PLAIN), recorder.record("/b", PLAIN)]
        assert not recorder.accepting
        with pytest.raises(QueueFull):
            recorder.record("/c", PLAIN)
        writer.gate.set()
        assert await outcomes([under_way, *waiting]) == [1, 2, 1]
        assert await recorder.record("/c", PLAIN) == ("/c", 1)


async def test_a_client_that_leaves_does_not_unpick_its_batch():
    writer = FakeWriter()
    async with recording(writer) as recorder:
        writer.gate.clear()
        stays, leaves, stays_too = (recorder.record("/a", PLAIN) for _ in range(3))
        await writer.begun.wait()
        leaves.cancel()
        writer.gate.set()
        assert (await stays, await stays_too) == (("/a", 1), ("/a", 3))
    assert writer.totals == {"/a": 3}


async def test_only_the_hit_that_the_database_refuses_is_refused():
    writer = FakeWriter()
    writer.poison = {"/7"}
    async with recording(writer) as recorder:
        answers = await outcomes([recorder.record(f"/{n}", PLAIN) for n in range(20)])
    assert isinstance(answers.pop(7), DatabaseRefused)
    assert answers == [1] * 19
    assert writer.totals == {f"/{n}": 1 for n in range(20) if n != 7}


async def test_a_batch_whose_answer_was_lost_is_sent_again_under_its_number_and_counts_once():
    writer = FakeWriter()
    writer.lost_after_commit = 3
    async with recording(writer) as recorder:
        assert await outcomes([recorder.record("/a", PLAIN), recorder.record("/a", PLAIN)]) == [1, 2]
    assert [number for number, _ in writer.batches] == [1, 1, 1, 1]
    assert writer.totals == {"/a": 2}


async def test_a_batch_that_loses_its_connection_each_time_is_given_up_and_the_next_one_is_counted(monkeypatch):
    monkeypatch.setattr(recorder_module, "RECONNECT_SECONDS", (0,))
    writer = FakeWriter()
    writer.faults = [ConnectionLost("it ends the session") for _ in range(LOSSES)]
    async with recording(writer) as recorder:
        with pytest.raises(Unknown):
            await recorder.record("/a", PLAIN)
        assert [number for number, _ in writer.batches] == [1] * LOSSES
        assert await recorder.record("/b", PLAIN) == ("/b", 1)


async def test_each_half_of_a_refused_batch_has_a_time_of_its_own():
    writer = FakeWriter()
    writer.poison = {"/bad"}
    slow = writer.write

    async def write(number, hits):
        await asyncio.sleep(0.15)
        return await slow(number, hits)

    writer.write = write
    async with recording(writer, patience=0.4) as recorder:
        futures = [recorder.record(path, PLAIN) for path in ("/a", "/b", "/c", "/bad")]
        assert list(map(type, await outcomes(futures))) == [int, int, int, DatabaseRefused]


async def test_a_batch_in_conflict_is_sent_again():
    writer = FakeWriter()
    writer.faults = [BatchConflict("deadlock")] * 2
    async with recording(writer) as recorder:
        assert await recorder.record("/a", PLAIN) == ("/a", 1)


async def test_a_batch_that_stays_in_conflict_is_given_up():
    writer = FakeWriter()
    writer.faults = [BatchConflict("deadlock")] * 5
    async with recording(writer) as recorder:
        with pytest.raises(DatabaseFailed):
            await recorder.record("/a", PLAIN)
        assert await recorder.record("/a", PLAIN) == ("/a", 1)


async def test_what_the_database_could_not_commit_fails_and_the_next_batch_is_tried():
    writer = FakeWriter()
    writer.faults = [BatchFailed("disk full")]
    async with recording(writer) as recorder:
        with pytest.raises(DatabaseFailed):
            await recorder.record("/a", PLAIN)
        assert await recorder.record("/a", PLAIN) == ("/a", 1)


@pytest.mark.parametrize("error", [BatchFailed("disk full"), BatchRefused("refused now")])
async def test_a_batch_that_fails_after_its_answer_was_lost_is_not_said_to_be_uncounted_nor_split(error):
    writer = FakeWriter()
    async with recording(writer) as recorder:
        writer.lost_after_commit, writer.faults_after_loss = 1, [error]
        futures = [recorder.record("/a", PLAIN), recorder.record("/b", PLAIN)]
        assert list(map(type, await outcomes(futures))) == [Unknown, Unknown]
        assert await recorder.record("/a", PLAIN) == ("/a", 2)
    assert writer.totals == {"/a": 2, "/b": 1}


async def test_an_unexpected_error_fails_its_batch_and_not_the_recorder():
    writer = FakeWriter()
    writer.faults = [RuntimeError("a bug")]
    async with recording(writer) as recorder:
        with pytest.raises(Unknown):
            await recorder.record("/a", PLAIN)
        assert await recorder.record("/a", PLAIN) == ("/a", 1)


async def test_without_a_database_hits_are_refused_until_it_is_there():
    writer = FakeWriter()
    writer.reachable.clear()
    async with recording(writer) as recorder:
        with pytest.raises(DatabaseGone):
            recorder.record("/a", PLAIN)
        writer.reachable.set()
        await until(lambda: recorder.accepting)
        assert await recorder.record("/a", PLAIN) == ("/a", 1)


async def test_a_database_that_goes_leaves_nobody_waiting_and_settles_the_batch_when_it_returns():
    writer = FakeWriter()
    async with recording(writer) as recorder:
        writer.gate.clear()
        in_doubt = recorder.record("/a", PLAIN)
        await writer.begun.wait()
        queued = recorder.record("/b", PLAIN)
        writer.faults = [ConnectionLost("gone")]
        writer.reachable.clear()
        writer.gate.set()
        assert list(map(type, await outcomes([in_doubt, queued]))) == [InDoubt, DatabaseGone]
        with pytest.raises(DatabaseGone):
            recorder.record("/c", PLAIN)
        writer.reachable.set()
        await until(lambda: recorder.accepting)
        assert await recorder.record("/a", PLAIN) == ("/a", 2)
    assert writer.totals == {"/a": 2}


async def test_a_database_that_hangs_is_not_waited_for_beyond_patience():
    writer = FakeWriter()
    async with recording(writer, patience=0.01) as recorder:
        writer.gate.clear()
        hanging = recorder.record("/a", PLAIN)
        await writer.begun.wait()
        queued = recorder.record("/b", PLAIN)
        assert list(map(type, await outcomes([hanging, queued]))) == [InDoubt, DatabaseGone]
        assert not recorder.accepting
        writer.gate.set()
        await until(lambda: recorder.accepting)
        assert await recorder.record("/a", PLAIN) == ("/a", 2)


async def test_closing_writes_what_waits_and_refuses_what_comes():
    writer = FakeWriter()
    recorder = Recorder(writer)
    await recorder.start()
    writer.gate.clear()
    futures = [recorder.record("/a", PLAIN)]
    await writer.begun.wait()
    futures.append(recorder.record("/a", PLAIN))
    closing = asyncio.create_task(recorder.close())
    await asyncio.sleep(0)
    with pytest.raises(Closing):
        recorder.record("/a", PLAIN)
    writer.gate.set()
    await closing
    assert await outcomes(futures) == [1, 2]
    assert writer.closed


async def test_closing_does_not_wait_for_a_database_that_was_never_there():
    writer = FakeWriter()
    writer.reachable.clear()
    recorder = Recorder(writer)
    await recorder.start()
    async with asyncio.timeout(5):
        await recorder.close()


async def test_a_long_queue_goes_out_in_batches_of_bounded_size_first_come_first_served():
    writer = FakeWriter()
    async with recording(writer, capacity=3 * BATCH_HITS) as recorder:
        writer.gate.clear()
        first = recorder.record("/first", PLAIN)
        await writer.begun.wait()
        futures = [recorder.record(f"/{n}", PLAIN) for n in range(2 * BATCH_HITS + 10)]
        writer.gate.set()
        await outcomes([first, *futures])
    sizes = [sum(hits.values()) for _, hits in writer.batches]
    assert sizes == [1, BATCH_HITS, BATCH_HITS, 10]
    assert "/0" in writer.batches[1][1]


async def test_random_faults_never_lose_or_double_an_answered_hit():
    import random

    draw = random.Random(7)
    writer = FakeWriter()
    places = defaultdict(list)
    async with recording(writer) as recorder:
        for _ in range(300):
            writer.lost_after_commit = draw.choice([0, 0, 0, 1, 2])
            writer.faults = draw.choice([[], [], [ConnectionLost("x")], [BatchConflict("x"), ConnectionLost("y")]])
            paths = draw.choices(["/a", "/b", "/c"], k=draw.randint(1, 9))
            for path, place in zip(
                paths, await outcomes([recorder.record(path, PLAIN) for path in paths]), strict=True
            ):
                places[path].append(place)
    assert {path: sorted(seen) for path, seen in places.items()} == {
        path: list(range(1, total + 1)) for path, total in writer.totals.items()
    }


async def test_hits_of_new_paths_beyond_the_bound_are_counted_as_others_and_told_so(grown):
    writer = FakeWriter()
    async with recording(writer, new_paths=NewPaths(per_minute=2)) as recorder:
        assert await recorder.record("/api/a", PLAIN) == ("/api/a", 1)
        assert await recorder.record("/api/b", PLAIN) == ("/api/b", 1)
        writer.gate.clear()
        writer.begun.clear()
        under_way = recorder.record("/api/a", PLAIN)
        await writer.begun.wait()
        paths = ("/api/c", "/api/a", "/api/d", "/api/c", "/elsewhere/")
        waiting = [recorder.record(path, PLAIN) for path in paths]
        writer.gate.set()
        assert await under_way == ("/api/a", 2)
        others = "/api/(other)"
        assert await asyncio.gather(*waiting) == [
            (others, 1),
            ("/api/a", 3),
            (others, 3),
            (others, 2),
            ("/elsewhere/", 1),
        ]
    assert writer.totals == {"/api/a": 3, "/api/b": 1, others: 3, "/elsewhere/": 1}
    assert grown("hits_other_total") == 3


async def test_within_the_bound_nobody_is_asked_which_paths_are_new():
    writer = FakeWriter()
    async with recording(writer, new_paths=NewPaths(per_minute=20)) as recorder:
        await asyncio.gather(*[recorder.record(f"/api/{n}", PLAIN) for n in range(20)])
        assert writer.looked_up == []
        assert await recorder.record("/api/0", PLAIN) == ("/api/0", 2)
        assert writer.looked_up == []  # it is remembered
        assert await recorder.record("/api/x", PLAIN) == ("/api/(other)", 1)
        assert writer.looked_up == [["/api/x"]]


@pytest.mark.parametrize("fault", [ConnectionLost("gone"), BatchFailed("slow")])
async def test_where_it_cannot_be_looked_up_which_paths_are_new_all_are_counted_as_they_are(fault):
    writer = FakeWriter()
    async with recording(writer, new_paths=NewPaths(per_minute=1)) as recorder:
        await recorder.record("/api/a", PLAIN)
        writer.faults = [fault]
        assert await recorder.record("/api/b", PLAIN) == ("/api/b", 1)
        assert await recorder.record("/api/c", PLAIN) == ("/api/(other)", 1)


@pytest.fixture
def grown() -> Callable[..., float]:
    """By how much a metric has grown since the test began."""
    before = {(s.name, *s.labels.values()): s.value for m in metrics.REGISTRY.collect() for s in m.samples}

    def read(name: str, **labels: str) -> float:
        value = metrics.REGISTRY.get_sample_value(f"hitcounter_{name}", labels)
        assert value is not None
        return value - before[f"hitcounter_{name}", *labels.values()]

    return read


async def test_a_batch_is_measured_as_a_whole_before_its_hits_are_answered(grown):
    writer = FakeWriter()
    async with recording(writer) as recorder:
        writer.gate.clear()
        first = recorder.record("/a", PLAIN)
        await writer.begun.wait()
        rest = [recorder.record(path, PLAIN) for path in ("/a", "/b", "/a")]
        seen: list[float] = []
        rest[-1].add_done_callback(lambda _: seen.append(grown("hits_total", via="request")))
        assert recorder.waiting == 3
        writer.gate.set()
        await outcomes([first, *rest])
        await asyncio.sleep(0)
    assert seen == [4]
    assert grown("batch_hits_sum") == 4
    assert grown("batch_hits_bucket", le="1.0") == 1
    assert grown("batch_hits_count") == grown("commit_seconds_count") == 2


async def test_what_goes_wrong_is_measured_by_its_kind_and_only_what_is_committed_as_hits(grown):
    writer = FakeWriter()
    async with recording(writer) as recorder:
        writer.faults = [BatchConflict("deadlock"), BatchFailed("disk full")]
        await outcomes([recorder.record("/a", PLAIN)])
        writer.poison = {"/bad"}
        await outcomes([recorder.record(path, PLAIN) for path in ("/a", "/bad")])
        assert grown("hits_total", via="request") == 1
        writer.lost_after_commit = 1
        assert await recorder.record("/a", PLAIN) == ("/a", 2)
    assert grown("hits_total", via="request") == 2
    kinds = {"conflict": 1, "failed": 1, "refused": 2, "lost": 1, "unreachable": 0}
    assert {kind: grown("database_errors_total", kind=kind) for kind in kinds} == kinds
    assert grown("database_reconnects_total") == 1
