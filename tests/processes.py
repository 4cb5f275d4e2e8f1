"""The processes of a running service and of its database, found to be stopped and killed."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.service import Service

WAIT_SECONDS = 60


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that live; none if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def master(service: Service) -> int:
    """gunicorn's master, which `manage.py serve` is or has started: the first of its processes that has any itself."""
    for pid in (service.process.pid, *descendants(service.process.pid)):
        if b"hitcounter.gunicorn" in command(pid):
            return pid
    raise AssertionError("no gunicorn runs")


def workers(service: Service) -> list[int]:
    """The worker processes."""
    return children(master(service))


def connected(service: Service) -> list[int]:
    """The workers that have connections of clients; all of them while none has."""
    found = workers(service)
    return [pid for pid in found if _has_clients(pid, service.port)] or found


def _has_clients(pid: int, port: int) -> bool:
    try:
        held = psutil.Process(pid).net_connections("tcp4")
    except psutil.NoSuchProcess:
        return False
    return any(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in held)


def postmaster(data_dir: Path) -> int:
    """The private PostgreSQL of a service."""
    return int((data_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def kill(*pids: int, number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def memory(*pids: int) -> int:
    """Bytes of memory that these processes hold, without what they share with others (Linux: RssAnon)."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) * 1024
    return total


def wait_until(holds: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.05)
