"""counters/logfiles.py: blocks of whole lines, whatever the file is made of."""

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from counters import logfiles
from counters.logfiles import STANDARD_INPUT, LogFile, LogUnreadable, Replayed
from tests.service import PROJECT

TEXT = b"".join(b"line %d\n" % number for number in range(1000))


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sizes that a test can go beyond."""
    monkeypatch.setattr(logfiles, "BLOCK_BYTES", 256)
    monkeypatch.setattr(logfiles, "WINDOW_BYTES", 64)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Callable[[bytes], LogFile]]:
    """Opens a plain file that holds some text."""
    opened = []

    def make(text: bytes) -> LogFile:
        path = tmp_path / "access.log"
        path.write_bytes(text)
        opened.append(LogFile.open(str(path)))
        return opened[-1]

    yield make
    for file in opened:
        file.close()


def gzipped(tmp_path: Path, compressed: bytes) -> closing[LogFile]:
    path = tmp_path / "access.log.2.gz"
    path.write_bytes(compressed)
    return closing(LogFile.open(str(path)))


def piped(text: bytes) -> Iterator[LogFile]:
    """A pipe that text is written to by another process."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdin and process.stdout
        process.stdin.write(text)
        process.stdin.close()
        with closing(LogFile("a pipe", process.stdout)) as file:
            yield file


# Blocks


@pytest.mark.parametrize("offset", [0, 7, len(TEXT) // 2, len(TEXT)])
def test_blocks_are_the_text_from_an_offset_in_whole_lines(log, offset: int):
    offset = TEXT.rfind(b"\n", 0, offset) + 1
    blocks = list(log(TEXT).blocks(offset))
    assert b"".join(blocks) == TEXT[offset:]
    assert all(block.endswith(b"\n") and len(block) <= 256 for block in blocks)


def test_a_last_line_without_its_end_is_left_until_it_has_one(log, tmp_path):
    file = log(b"one\ntwo\nthr")
    assert list(file.blocks(0)) == [b"one\ntwo\n"]
    assert file.unfinished
    with open(tmp_path / "access.log", "ab") as more:
        more.write(b"ee\n")
    assert list(file.blocks(8)) == [b"three\n"]
    assert not file.unfinished


def test_a_last_line_without_its_end_is_left_of_what_was_cut_off_too(tmp_path):
    with gzipped(tmp_path, gzip.compress(b"one\ntwo")) as file:
        assert b"".join(file.blocks(0)) == b"one\n" and file.unfinished
    for file in piped(b"one\ntwo"):
        assert b"".join(file.blocks(0)) == b"one\n" and file.unfinished


def test_a_line_longer_than_a_block_comes_in_parts_and_spoils_none_after_it(log):
    text = b"x" * 700 + b"\nshort\n"
    blocks = list(log(text).blocks(0))
    assert b"".join(blocks) == text
    assert max(map(len, blocks)) == 256


def test_an_empty_file_has_no_blocks_and_no_beginning(log):
    file = log(b"")
    assert list(file.blocks(0)) == [] and file.beginning() == b"" and not file.unfinished


# What it is made of


def test_gzip_is_known_by_what_it_holds_and_offsets_count_its_text(tmp_path):
    with gzipped(tmp_path, gzip.compress(TEXT)) as file:
        assert not file.piped and file.length == len(TEXT)
        assert b"".join(file.blocks(700)) == TEXT[700:]
        assert b"".join(file.blocks(14)) == TEXT[14:], "it can go back"
        assert file.size == file.position > 0


def test_several_members_of_a_gzip_file_are_one_text(tmp_path):
    with gzipped(tmp_path, gzip.compress(b"one\n") + gzip.compress(b"two\n")) as file:
        assert b"".join(file.blocks(0)) == b"one\ntwo\n"


def test_a_gzip_file_that_is_cut_short_gives_what_precedes_and_then_says_so(tmp_path):
    lines = b"".join(os.urandom(30).hex().encode() + b"\n" for _ in range(3000))
    got: list[bytes] = []
    with gzipped(tmp_path, gzip.compress(lines)[:-1000]) as file, pytest.raises(LogUnreadable) as refused:
        got.extend(file.blocks(0))
    assert lines.startswith(b"".join(got)) and got[-1].endswith(b"\n")
    assert "access.log.2.gz cannot be read to its end" in str(refused.value)


def test_a_gzip_file_that_is_damaged_is_told_by_its_checksum_at_the_end(tmp_path):
    compressed = bytearray(gzip.compress(TEXT))
    compressed[-8:-4] = bytes(4)
    with gzipped(tmp_path, bytes(compressed)) as file, pytest.raises(LogUnreadable, match="CRC check failed"):
        list(file.blocks(0))


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_pipe_can_be_looked_at_before_it_is_read_on_from_an_offset(compress: Callable[[bytes], bytes]):
    for file in piped(compress(TEXT)):
        assert file.piped and file.size == 0
        assert TEXT.startswith(file.beginning()) and file.beginning()
        assert file.window(5000) == TEXT[5000 - 64 : 5000]
        assert file.window(500) == TEXT[500 - 64 : 500]
        assert file.window(len(TEXT) + 1) is None and file.length == len(TEXT)
        assert b"".join(file.blocks(700)) == TEXT[700:]


def test_of_a_pipe_nothing_is_kept_once_it_is_forgotten():
    with closing(Replayed(io.BytesIO(TEXT))) as pipe:
        pipe.seek(100)
        pipe.seek(0)
        assert pipe.read(200) == TEXT[:200]
        pipe.forget()
        assert pipe.read(100) == TEXT[200:300]
        assert os.fstat(pipe._read_before.fileno()).st_size == 200


def test_standard_input_is_named(monkeypatch):
    command = (
        "import sys; sys.path.insert(0, '.');"
        "from counters.logfiles import LogFile; f = LogFile.open('-'); print(f.name, list(f.blocks(0)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", command], input=b"one\n", stdout=subprocess.PIPE, check=True, cwd=PROJECT
    ).stdout
    assert printed == b"standard input [b'one\\n']\n"
    assert STANDARD_INPUT == "-"


# What tells it from others


def test_the_window_is_what_precedes_an_offset_if_the_log_reaches_so_far(log):
    file = log(TEXT)
    assert file.window(0) == b""
    assert file.window(10) == TEXT[:10]
    assert file.window(1000) == TEXT[936:1000]
    assert file.window(len(TEXT)) == TEXT[-64:]
    assert file.window(len(TEXT) + 1) is None


def test_the_beginning_has_whole_lines_unless_the_first_is_longer(log):
    assert log(b"one\ntwo").beginning() == b"one\n"
    assert log(b"one").beginning() == b""
    assert log(b"x" * 100).beginning() == b"x" * 64


@pytest.mark.parametrize(("name", "reason"), [("missing.log", "No such file"), ("", "Is a directory")])
def test_what_cannot_be_opened_is_named(tmp_path, name: str, reason: str):
    with pytest.raises(LogUnreadable, match=reason) as refused:
        LogFile.open(str(tmp_path / name))
    assert str(tmp_path) in str(refused.value)


# Rotation


def test_it_is_replaced_when_its_name_stands_for_another_file(log, tmp_path):
    file = log(b"one\n")
    assert not file.replaced()
    (tmp_path / "access.log").rename(tmp_path / "access.log.1")
    assert not file.replaced(), "between the two steps of a rotation"
    (tmp_path / "access.log").write_bytes(b"")
    assert file.replaced()
    with open(tmp_path / "access.log.1", "ab") as late:
        late.write(b"two\n")
    assert list(file.blocks(4)) == [b"two\n"]


def test_one_that_was_emptied_is_shorter_than_what_was_read(log, tmp_path):
    file = log(b"one\ntwo\n")
    assert list(file.blocks(0)) and file.size == file.position == file.length
    os.truncate(tmp_path / "access.log", 0)
    assert file.size < file.position and not file.replaced()
