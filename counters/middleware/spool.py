"""Hits on disk, until the service has counted them. No Django, no HTTP.

The spool is a directory of segments: files of lines, each named by its idempotency key. Whoever holds a segment's lock
has it to itself: first the process that writes it, then whichever sends it. A lock (flock) ends with its process, so
what a dead one left behind is what nobody holds, and any other sends it under the same key. From the first time that it
is sent, a segment keeps its bytes, unless the service has refused them, and so has counted nothing under their key.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from uuid import uuid4

SEGMENT_HITS = 5_000  # the service takes 10,000 at once
SEGMENT_BYTES = 1_000_000  # the service takes 8 MB, but nginx before it 1 MiB unless it is told otherwise
#: Lines of a segment that are set aside one by one; when yet another is refused, what is left is.
MOST_SET_ASIDE = 10
_SUFFIX, _REFUSED, _PART = ".ndjson", ".refused", ".part"


class SpoolFull(Exception):
    """The spool is full (HITCOUNTER_SPOOL_MB)."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Segment(NamedTuple):
    """Lines that are sent together, held by this process."""

    path: Path
    lines: bytes

    @property
    def key(self) -> str:
        """The same for the same lines, and for no others."""
        return self.path.stem

    def remove(self) -> None:
        """Forget lines that have been counted."""
        self.path.unlink()

    def set_aside(self, index: int | None) -> "Segment":
        """Keep what is refused, but send it no more: the line with this index, or all when it is None. Return it."""
        lines = self.lines.splitlines(keepends=True)
        if index is None or len(lines) == 1 or len(self._lines_set_aside()) >= MOST_SET_ASIDE:
            return self._replace(path=self.path.rename(self.path.with_suffix(_REFUSED)))
        # Named by the size, which no other line of this segment is set aside at: done again after a kill amid all this,
        # it leaves the same. Then the rest takes the segment's place at once, so that no line is ever in two.
        refused = Segment(self.path.with_name(f"{self.key}-{len(self.lines)}{_REFUSED}"), lines.pop(index))
        _write_file(refused.path, refused.lines)
        rest = self.path.with_suffix(_PART)
        _write_file(rest, b"".join(lines))
        rest.rename(self.path)
        _sync(self.path.parent)
        return refused

    def _lines_set_aside(self) -> list[Path]:
        return list(self.path.parent.glob(f"{self.key}-*{_REFUSED}"))


class Spool:
    """Takes lines in from any thread, and gives them out again as segments, to this process and to others."""

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self._directory = directory
        self._most_bytes = most_bytes
        # Guards all that follows. Held for a few calls to the system, never while the disk is waited for.
        self._lock = Lock()
        #: Bytes that may still be written, as `measure` last found and less what was written here since.
        self._room = most_bytes
        #: The segment that is being written, with what it holds so far.
        self._writing: int | None = None
        self._path = directory
        self._hits = self._bytes = 0
        #: Segments that were written to since `sync`, and before that.
        self._written: set[Path] = set()
        self._due: set[Path] = set()
        #: Every file that is locked here. A child process gets them too and would keep the locks beyond our death.
        self._held: set[int] = set()

    def append(self, line: bytes) -> None:
        """Keep a line: from here on, it outlives this process. Raises SpoolFull and OSError."""
        with self._lock:
            if len(line) > self._room:
                raise SpoolFull
            self._write(self._segment_for(line), line)
            self._room -= len(line)
            self._written.add(self._path)

    def seal(self) -> None:
        """End the segment that is being written: it can be sent."""
        with self._lock:
            self._end()

    def measure(self) -> None:
        """See how much room there is, since other processes write too."""
        room = self._most_bytes - sum(map(_size, self._directory.glob("*")))
        with self._lock:
            self._room = room

    def sync(self) -> None:
        """Have on disk what was written here until the last call, if it is still there.

        What was written since is left alone: mostly it is sent soon, and those who write then need not wait for it.
        """
        with self._lock:
            due, self._due, self._written = self._due, self._written, set()
        for path in due:
            with suppress(FileNotFoundError):  # it has been sent
                _sync(path)
                _sync(path.parent)

    def waiting(self) -> list[Path]:
        """The segments that there are, in no order."""
        return list(self._directory.glob(f"*{_SUFFIX}"))

    @contextmanager
    def claim(self, path: Path) -> Iterator[Segment | None]:
        """Hold a segment and have it on disk; None when another holds it or has sent it, or nothing is in it."""
        with self._lock:
            file = _lock_file(path, os.O_RDWR)
            if file is not None:
                self._held.add(file)
        if file is None:
            yield None
            return
        try:
            yield self._settled(path, file)
        finally:
            with self._lock:
                self._release(file)

    def before_fork(self) -> None:
        """No other thread is amid anything here when the process is copied."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """What the parent holds stays the parent's; a child begins segments of its own."""
        for file in self._held:
            os.close(file)  # not unlocked: that would unlock it for the parent too
        self._held.clear()
        self._writing = None
        self._lock.release()

    def _segment_for(self, line: bytes) -> int:
        if self._hits >= SEGMENT_HITS or self._bytes + len(line) > SEGMENT_BYTES:
            self._end()
        if self._writing is None:
            self._writing, self._path = self._begin()
            self._held.add(self._writing)
            self._hits = self._bytes = 0
        return self._writing

    def _begin(self) -> tuple[int, Path]:
        while True:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._directory / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex}{_SUFFIX}"
            file = _lock_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
            if file is not None:  # else another took it for a dead process's between the making and the locking
                return file, path

    def _write(self, file: int, line: bytes) -> None:
        if os.write(file, line) < len(line):
            self._end()  # with half a line, which is cut off before it is sent
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._directory))
        self._hits += 1
        self._bytes += len(line)

    def _end(self) -> None:
        # Forgotten first: whatever interrupts a thread here, nothing is written to a number that is another file's.
        file, self._writing = self._writing, None
        if file is not None:
            self._release(file)

    def _release(self, file: int) -> None:
        self._held.discard(file)
        os.close(file)

    def _settled(self, path: Path, file: int) -> Segment | None:
        """What a segment will be from now on. Before it is first sent, since then it must not change any more."""
        written = os.pread(file, os.fstat(file).st_size, 0)
        lines = _whole_lines(written)
        if not lines:
            path.unlink()
            return None
        if len(lines) < len(written):
            os.ftruncate(file, len(lines))
        os.fsync(file)
        _sync(self._directory)
        return Segment(path, lines)


def _lock_file(path: Path, flags: int) -> int | None:
    """The file, opened and locked; None when another holds it, or it is not there any more."""
    try:
        file = os.open(path, flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever held it meanwhile may have removed it.
        if os.path.samestat(os.fstat(file), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(file)
        raise
    os.close(file)
    return None


def _whole_lines(written: bytes) -> bytes:
    """Without a last line that a process's end cut off, and what a power failure left as zeros."""
    sound = written.partition(b"\0")[0]
    return sound[: sound.rfind(b"\n") + 1]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _write_file(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
