"""Log files as blocks of whole lines: plain, gzipped or piped in, read on from an offset.

An offset counts the bytes of the text, before compression. No database and no formats here.
"""

import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import BinaryIO, Self, cast

#: What one block holds at most; a longer line is given in parts.
BLOCK_BYTES = 8 * 1024 * 1024
#: How much of a log's beginning, and of what precedes an offset, tells it from others.
WINDOW_BYTES = 64 * 1024
STANDARD_INPUT = "-"
_GZIP_MAGIC = b"\x1f\x8b"
_FAR = 1 << 62


class LogUnreadable(Exception):
    """A log file cannot be read, or not to its end; the message says which and why."""


class LogFile:
    """An open log file. `piped`: whoever reads it may have to wait, and cannot go back."""

    def __init__(self, name: str, raw: BinaryIO) -> None:
        self.name = name
        self.piped = not raw.seekable()
        #: Whether the last line was left, since it has no end yet.
        self.unfinished = False
        self._raw = raw
        self._compressed = _peek(raw).startswith(_GZIP_MAGIC)
        text = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if self._compressed else raw
        self._text: BinaryIO | Replayed = Replayed(text) if self.piped else text

    @classmethod
    def open(cls, name: str) -> Self:
        """Raises LogUnreadable."""
        if name == STANDARD_INPUT:
            return cls("standard input", sys.stdin.buffer)
        try:
            return cls(name, open(name, "rb"))
        except OSError as error:
            raise LogUnreadable(f"{name} cannot be read: {error.strerror}.") from None

    def close(self) -> None:
        self._text.close()
        self._raw.close()

    @property
    def path(self) -> str:
        """The name from the root directory on; that of a pipe as it is."""
        return self.name if self.piped else os.path.abspath(self.name)

    @property
    def size(self) -> int:
        """The bytes on disk, 0 of a pipe."""
        return 0 if self.piped else os.fstat(self._raw.fileno()).st_size

    @property
    def position(self) -> int:
        """How many of these bytes have been read, 0 of a pipe."""
        return 0 if self.piped else self._raw.tell()

    @property
    def length(self) -> int:
        """The bytes of the text: of a compressed one, and of a pipe, all is read for it. Raises LogUnreadable."""
        return self._seek(_FAR) if self._compressed or self.piped else self.size

    def replaced(self) -> bool:
        """Whether its name stands for another file by now."""
        try:
            return not os.path.samestat(os.stat(self.name), os.fstat(self._raw.fileno()))
        except FileNotFoundError:  # between the two steps of a rotation
            return False

    def beginning(self) -> bytes:
        """The lines that are whole within the first WINDOW_BYTES, or as much of a longer one; empty if none is."""
        text = self._read(0, WINDOW_BYTES)
        return _whole_lines(text) or (text if len(text) == WINDOW_BYTES else b"")

    def window(self, offset: int) -> bytes | None:
        """What precedes an offset, WINDOW_BYTES at most; None when the log does not reach that far."""
        start = max(0, offset - WINDOW_BYTES)
        text = self._read(start, offset - start)
        return text if len(text) == offset - start else None

    def blocks(self, offset: int) -> Iterator[bytes]:
        """Whole lines from an offset to the end, some megabytes at a time. Of a pipe, nothing can be read again after.

        A last line without its end is left: what is written may get one, and of what was cut off, more may be brought.
        Raises LogUnreadable.
        """
        rest = self._read(offset, BLOCK_BYTES)
        if isinstance(self._text, Replayed):
            self._text.forget()
        while rest:
            block = rest if len(rest) == BLOCK_BYTES and b"\n" not in rest else _whole_lines(rest)
            if block:
                yield block
            rest = rest[len(block) :]
            more = self._read_on(BLOCK_BYTES - len(rest))
            if not more:
                break
            rest += more
        self.unfinished = bool(rest)

    def _read(self, offset: int, size: int) -> bytes:
        self._seek(offset)
        return self._read_on(size)

    def _seek(self, offset: int) -> int:
        try:
            return self._text.seek(offset)
        except (OSError, EOFError, zlib.error) as error:
            raise LogUnreadable(self._reason(error)) from None

    def _read_on(self, size: int) -> bytes:
        try:
            return self._text.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise LogUnreadable(self._reason(error)) from None

    def _reason(self, error: Exception) -> str:
        reason = str(error) if isinstance(error, OSError) else f"its compression is damaged or cut short ({error})"
        return f"{self.name} cannot be read to its end: {reason.rstrip('.')}."


class Replayed:
    """A pipe of which everything can be read again until that is forgotten.

    Where to go on in a log is known only when it has been looked at.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._read_before = TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._forgotten = False

    def seek(self, offset: int) -> int:
        """Go to an offset, or to the pipe's end if that is nearer."""
        end = self._read_before.seek(0, os.SEEK_END)
        while end < offset and (text := self._pipe.read(min(offset - end, BLOCK_BYTES))):
            end += self._read_before.write(text)
        return self._read_before.seek(min(offset, end))

    def read(self, size: int) -> bytes:
        text = self._read_before.read(size)
        more = self._pipe.read(size - len(text)) if len(text) < size else b""
        if not self._forgotten:
            self._read_before.write(more)
        return text + more

    def forget(self) -> None:
        """Keep no more of what is read."""
        self._forgotten = True

    def close(self) -> None:
        self._read_before.close()


def _peek(raw: BinaryIO) -> bytes:
    return raw.peek(len(_GZIP_MAGIC)) if hasattr(raw, "peek") else b""


def _whole_lines(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]
