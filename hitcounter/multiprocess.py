"""Where the worker processes keep their metrics, so that any of them can tell those of all (counters/metrics.py).

A worker's files bear the number of its place, not of its process: who comes to the place of one that is gone goes on
with its files, and nothing that it measured is lost. So there are as many as workers, however often those change.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

PREFIX = "hitcounter-metrics-"
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: One that is younger may be its service's that has not come to lock it yet.
LEFT_BEHIND_SECONDS = 60
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Directory:
    """A directory of this service's own, in memory, for its user alone; a lock tells that somebody still needs it.

    The lock is the master's and, through it, its workers': it ends with the last of them, however that ends.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or _parent()
        for left in parent.glob(PREFIX + "*"):
            _remove_if_left_behind(left)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock = os.open(self.path, _DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _parent() -> Path:
    """Memory where there is such a place: a page that is on its way to a disk would hold up whoever writes to it."""
    memory = Path("/dev/shm")  # noqa: S108 (the name below it is drawn)
    return memory if os.access(memory, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _remove_if_left_behind(path: Path) -> None:
    """Remove what a service left behind that was killed; what is another user's cannot be, and need not."""
    try:
        if path.stat(follow_symlinks=False).st_mtime > time.time() - LEFT_BEHIND_SECONDS:
            return
        lock = os.open(path, _DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def free_place(taken: Iterable[int]) -> int:
    """The first place that no worker has."""
    others = set(taken)
    return next(place for place in range(len(others) + 1) if place not in others)


def take_place(directory: Path, place: int) -> None:
    """Have this process, which has measured nothing yet, keep its metrics in the files of a place."""
    # Where nobody is logged in any more, some systems empty their users' memory.
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat(follow_symlinks=False).st_uid != os.getuid():
        return  # somebody else has taken the name since: this process keeps its figures to itself
    os.environ[VARIABLE] = str(directory)
    from prometheus_client import values  # which asks the environment how metrics are kept

    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def leave_place(directory: Path, place: int) -> None:
    """Forget what a process that has ended was about; what it counted stays."""
    for file in directory.glob(f"gauge_live*_{place}.db"):
        file.unlink()
