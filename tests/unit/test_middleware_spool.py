"""Hits on disk: kept line by line, given out once at a time, bounded, and nobody's when their process is gone."""

import contextlib
import itertools
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from counters.middleware import spool as module
from counters.middleware.spool import MOST_SET_ASIDE, SEGMENT_BYTES, SEGMENT_HITS, Spool, SpoolFull
from tests.service import PROJECT

ROOM = 10_000_000


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", ROOM)


def claimed(spool: Spool) -> list[bytes]:
    """What each segment that nobody holds has."""
    found = []
    for path in spool.waiting():
        with spool.claim(path) as segment:
            if segment:
                found.append(segment.lines)
    return found


def test_lines_are_given_out_as_they_came_once_their_segment_is_sealed(spool):
    spool.append(b"1\n")
    spool.append(b"2\n")
    assert claimed(spool) == []
    spool.seal()
    spool.append(b"3\n")
    assert claimed(spool) == [b"1\n2\n"]


def test_a_segment_stays_until_it_is_removed(spool):
    spool.append(b"1\n")
    spool.seal()
    assert claimed(spool) == claimed(spool) == [b"1\n"]
    with spool.claim(spool.waiting()[0]) as segment:
        segment.remove()
    assert spool.waiting() == []


def test_a_segment_keeps_its_key(spool, tmp_path):
    spool.append(b"1\n")
    spool.seal()
    [path] = spool.waiting()
    with spool.claim(path) as first:
        pass
    with Spool(tmp_path / "spool", ROOM).claim(path) as second:
        assert second == first
        assert second.key == first.key == path.stem


def test_segments_have_different_keys(spool):
    for _ in range(10):
        spool.append(b"1\n")
        spool.seal()
    assert len({path.stem for path in spool.waiting()}) == 10


def test_a_segment_is_held_by_one_at_a_time(spool, tmp_path):
    spool.append(b"1\n")
    spool.seal()
    [path] = spool.waiting()
    other = Spool(tmp_path / "spool", ROOM)
    with spool.claim(path):
        with other.claim(path) as segment:
            assert segment is None
        with spool.claim(path) as segment:
            assert segment is None
    with other.claim(path) as segment:
        assert segment


def test_what_another_has_sent_or_set_aside_is_not_given_out(spool):
    for _ in range(2):
        spool.append(b"1\n")
        spool.seal()
    sent, refused = spool.waiting()
    with spool.claim(sent) as segment:
        segment.remove()
    with spool.claim(refused) as segment:
        kept = segment.set_aside(None)
    assert kept.lines == kept.path.read_bytes() == b"1\n"
    assert kept.path.suffix == ".refused"
    for path in (sent, refused):
        with spool.claim(path) as segment:
            assert segment is None


def left(spool: Spool, *lines: bytes) -> Path:
    """The one segment, with these lines."""
    for line in lines:
        spool.append(line)
    spool.seal()
    [path] = spool.waiting()
    return path


def refused(path: Path) -> list[bytes]:
    """What lines have been set aside beside this segment."""
    return sorted(b"".join(file.read_bytes() for file in path.parent.glob("*.refused")).splitlines())


def set_aside(spool: Spool, path: Path, index: int) -> bytes:
    with spool.claim(path) as segment:
        return segment.set_aside(index).lines


def test_one_line_is_set_aside_and_the_rest_stays_under_its_key(spool):
    path = left(spool, b"1\n", b"2\n", b"3\n")
    assert set_aside(spool, path, 1) == b"2\n"
    assert claimed(spool) == [b"1\n3\n"]
    assert spool.waiting() == [path]
    assert refused(path) == [b"2"]
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_no_line_that_is_set_aside_takes_the_place_of_another(spool):
    path = left(spool, b"x\n", b"x\n", b"1\n", b"x\n")
    for index in (0, 0, 1):
        assert set_aside(spool, path, index) == b"x\n"
    assert claimed(spool) == [b"1\n"]
    assert refused(path) == [b"x", b"x", b"x"]


def test_a_segment_whose_only_line_is_refused_is_set_aside(spool):
    path = left(spool, b"x\n")
    assert set_aside(spool, path, 0) == b"x\n"
    assert spool.waiting() == []
    assert path.with_suffix(".refused").read_bytes() == b"x\n"


def test_when_many_lines_have_been_set_aside_the_rest_is_too(spool):
    lines = [b"%d\n" % n for n in range(MOST_SET_ASIDE + 3)]
    path = left(spool, *lines)
    for _ in range(MOST_SET_ASIDE):
        set_aside(spool, path, 0)
    assert set_aside(spool, path, 0) == b"".join(lines[MOST_SET_ASIDE:])
    assert spool.waiting() == []
    assert b"".join(lines).split() == sorted(refused(path), key=int)


def test_what_is_set_aside_is_sent_under_its_key_once_it_is_renamed_back(spool):
    path = left(spool, b"1\n", b"2\n")
    with spool.claim(path) as segment:
        segment.set_aside(None).path.rename(path)
    with spool.claim(path) as again:
        assert again == segment


@pytest.mark.parametrize("call", ["open", "fsync", "rename"])
def test_a_kill_while_a_line_is_set_aside_loses_and_doubles_nothing(spool, monkeypatch, call):
    """Whichever call to the system it comes at, the line is set aside, or is when it is refused again."""
    killed_at = 0
    while True:
        path = left(spool, b"1\n", b"x\n", b"2\n")
        with monkeypatch.context() as dying, contextlib.suppress(Killed), spool.claim(path) as segment:
            kill_at(dying, call, killed_at)
            segment.set_aside(1)
            break
        [lines] = claimed(spool)
        assert lines in (b"1\nx\n2\n", b"1\n2\n")
        assert b"x" in refused(path) or b"x" in lines
        if b"x" in lines:
            set_aside(spool, path, 1)
        assert claimed(spool) == [b"1\n2\n"]
        assert refused(path) == [b"x"]
        for file in path.parent.iterdir():
            file.unlink()
        killed_at += 1
    assert killed_at >= 1


class Killed(BaseException):
    pass


def kill_at(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Have this call to the system, after so many of its kind, be the last."""
    real, calls = getattr(os, call), itertools.count()

    def dying(*arguments, **options):
        if next(calls) == number:
            raise Killed
        return real(*arguments, **options)

    monkeypatch.setattr(module.os, call, dying)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.rename(path.with_suffix(".refused"))])
def test_what_changes_hands_between_opening_and_locking_is_not_given_out(spool, monkeypatch, change):
    spool.append(b"1\n")
    spool.seal()
    [path] = spool.waiting()
    flock = module.fcntl.flock

    def another_was_first(file, operation):
        change(path)
        flock(file, operation)

    monkeypatch.setattr(module.fcntl, "flock", another_was_first)
    with spool.claim(path) as segment:
        assert segment is None


def test_a_new_segment_that_is_taken_for_an_orphan_is_begun_again(spool, tmp_path, monkeypatch):
    other, flock = Spool(tmp_path / "spool", ROOM), module.fcntl.flock

    def adopt_first(file, operation):
        monkeypatch.setattr(module.fcntl, "flock", flock)
        assert claimed(other) == []  # which removes it, since it is empty
        flock(file, operation)

    monkeypatch.setattr(module.fcntl, "flock", adopt_first)
    spool.append(b"1\n")
    spool.seal()
    assert claimed(spool) == [b"1\n"]


@pytest.mark.parametrize(
    ("written", "kept"), [(b'1\n2\n{"pa', b"1\n2\n"), (b"1\n\0\0\0\n2\n", b"1\n"), (b"1\n2\n", b"1\n2\n")]
)
def test_half_a_line_is_cut_off_for_good(spool, tmp_path, written, kept):
    (tmp_path / "spool").mkdir()
    path = tmp_path / "spool/left.ndjson"
    path.write_bytes(written)
    assert claimed(spool) == [kept]
    assert path.read_bytes() == kept


def test_a_segment_without_a_whole_line_is_removed(spool, tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool/left.ndjson").write_bytes(b'{"pa')
    assert claimed(spool) == []
    assert spool.waiting() == []


def test_a_segment_is_on_disk_before_it_is_given_out(spool, monkeypatch):
    synced = []
    monkeypatch.setattr(module.os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    spool.append(b"1\n")
    spool.seal()
    [path] = spool.waiting()
    with spool.claim(path):
        assert synced == [path, path.parent]


def test_what_was_written_is_on_disk_at_the_second_call_though_it_is_not_sealed(spool, monkeypatch):
    synced = []
    monkeypatch.setattr(module.os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    spool.append(b"1\n")
    [path] = spool.waiting()
    spool.sync()
    assert synced == []
    spool.append(b"2\n")
    spool.sync()
    assert synced == [path, path.parent]
    spool.sync()
    spool.sync()
    assert synced == [path, path.parent] * 2


def test_segments_that_grew_too_large_are_on_disk_too(spool, monkeypatch):
    for _ in range(SEGMENT_HITS + 1):
        spool.append(b"1\n")
    synced = []
    monkeypatch.setattr(module.os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    spool.sync()
    spool.sync()
    assert set(synced) >= set(spool.waiting())
    assert len(spool.waiting()) == 2


def test_what_has_been_sent_need_not_be_on_disk(spool):
    spool.append(b"1\n")
    spool.seal()
    spool.waiting()[0].unlink()
    spool.sync()
    spool.sync()


def test_no_segment_has_more_hits_than_the_service_takes(spool):
    for _ in range(SEGMENT_HITS + 1):
        spool.append(b"1\n")
    spool.seal()
    assert sorted(lines.count(b"\n") for lines in claimed(spool)) == [1, SEGMENT_HITS]


def test_no_segment_has_more_bytes_than_proxies_let_through(spool):
    line = b"x" * 299_999 + b"\n"
    for _ in range(4):
        spool.append(line)
    spool.seal()
    assert sorted(len(lines) for lines in claimed(spool)) == [len(line), 3 * len(line)]
    assert 4 * len(line) > SEGMENT_BYTES


def test_a_full_spool_keeps_no_more(tmp_path):
    spool = Spool(tmp_path, 5)
    spool.append(b"12\n")
    with pytest.raises(SpoolFull, match="HITCOUNTER_SPOOL_MB"):
        spool.append(b"34\n")
    spool.append(b"3\n")


def test_all_that_lies_in_the_directory_takes_room(tmp_path):
    spool = Spool(tmp_path, 10)
    (tmp_path / "others.ndjson").write_bytes(b"1234\n")
    (tmp_path / "others.refused").write_bytes(b"123\n")
    spool.measure()
    with pytest.raises(SpoolFull):
        spool.append(b"1\n")
    (tmp_path / "others.refused").unlink()
    spool.measure()
    spool.append(b"1\n")


def test_hits_are_for_their_owner_alone(spool, tmp_path):
    spool.append(b"1\n")
    [path] = spool.waiting()
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_directory_that_vanishes_is_made_again(spool, tmp_path):
    spool.append(b"1\n")
    spool.seal()
    spool.waiting()[0].unlink()
    (tmp_path / "spool").rmdir()
    spool.append(b"2\n")
    spool.seal()
    assert claimed(spool) == [b"2\n"]


def test_a_directory_that_cannot_be_made_is_said_to_be_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Spool(tmp_path / "file/spool", ROOM).append(b"1\n")


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_no_file_stays_open(spool, monkeypatch, tmp_path):
    before = open_files()
    spool.append(b"1\n")
    spool.seal()
    assert claimed(spool) == [b"1\n"]

    def no_locks(file, operation):
        raise OSError("no locks available")

    monkeypatch.setattr(module.fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="no locks"):
        spool.append(b"2\n")
    assert open_files() == before


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """As on a disk that is nearly full: what goes beyond is written in part."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_line_that_fits_in_part_spoils_no_other(spool):
    with files_no_longer_than(10):
        spool.append(b"12345\n")
        with pytest.raises(OSError, match="No space left"):
            spool.append(b"67890\n")
        spool.append(b"abc\n")
    spool.seal()
    assert sorted(claimed(spool)) == [b"12345\n", b"abc\n"]


WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from counters.middleware.spool import Spool
spool = Spool(Path(sys.argv[1]), 1000)
spool.append(b"1\\n")
spool.append(b"2\\n")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_anybodys(spool, tmp_path):
    died = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, tmp_path / "spool"], cwd=PROJECT)
    assert died.returncode == -signal.SIGKILL
    assert claimed(spool) == [b"1\n2\n"]


# A process of its own, since what is registered at forks stays registered.
DIE_BEFORE_THE_CHILD = """
import os, sys
from pathlib import Path
from counters.middleware.sender import Sender
from counters.middleware.spool import Spool
spool = Spool(Path(sys.argv[1]), 1000)
Sender(spool, deliver=None).attend_forks()
spool.append(b"parent\\n")
held = spool.claim(Path(sys.argv[1], "held.ndjson"))
held.__enter__()
if not os.fork():
    spool.append(b"child\\n")
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""


def test_a_child_keeps_nothing_of_its_parents_locked(spool, tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool/held.ndjson").write_bytes(b"claimed\n")
    command = [sys.executable, "-c", DIE_BEFORE_THE_CHILD, tmp_path / "spool"]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"ready\n"
        parent.wait()
        assert sorted(claimed(spool)) == [b"claimed\n", b"parent\n"]
        parent.stdin.close()
    deadline = time.monotonic() + 10
    while b"child\n" not in claimed(spool):
        assert time.monotonic() < deadline


def _append_many(directory: Path, name: int) -> None:
    spool = Spool(directory, ROOM)
    for n in range(2000):
        spool.append(b"%d %d\n" % (name, n))
        if n % 500 == 0:
            spool.seal()


def test_processes_that_write_and_take_at_once_lose_and_double_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(tmp_path, name)) for name in range(3)]
    for writer in writers:
        writer.start()
    spool, taken = Spool(tmp_path, ROOM), []
    while any(writer.is_alive() for writer in writers) or spool.waiting():
        for path in spool.waiting():
            with spool.claim(path) as segment:
                if segment:
                    taken += segment.lines.splitlines()
                    segment.remove()
    for writer in writers:
        writer.join()
    assert sorted(taken) == sorted(b"%d %d" % (name, n) for name in range(3) for n in range(2000))
