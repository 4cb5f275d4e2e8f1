"""What is measured: this service, its rivals and the empty application, each on a store of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import requests

from benchmarks.environments import RIVALS, python_for
from benchmarks.stores import DurableRedis, Postgres, Redis, Store
from tests.service import PROJECT, Service

THREADS = 8  # of each threaded worker

#: What is asked of a command: the address and the number of workers.
Command = Callable[[str, int], list[str]]


def serve(address: str, workers: int) -> list[str]:
    return ["manage.py", "serve"]


def empty(address: str, workers: int) -> list[str]:
    """The application that does nothing, served as the service is."""
    where = ["--bind", address, "--workers", str(workers)]
    return ["-m", "gunicorn", "-c", "python:hitcounter.gunicorn", *where, "benchmarks.empty:application"]


def gunicorn(application: str, *options: str) -> Command:
    def command(address: str, workers: int) -> list[str]:
        said = ["--bind", address, "--workers", str(workers), "--log-level", "warning", "--no-control-socket"]
        return ["-m", "gunicorn", *said, "--worker-connections", "2048", "--keep-alive", "5", *options, application]

    return command


def threaded(application: str) -> Command:
    return gunicorn(application, "--worker-class", "gthread", "--threads", str(THREADS))


def hypercorn(address: str, workers: int) -> list[str]:
    settings = str(RIVALS / "quart_redis" / "hypercorn.toml")
    return ["-m", "hypercorn", "--config", settings, "--bind", address, "--workers", str(workers), "app:app"]


class Kind(NamedTuple):
    """How a contestant is started; `rival` is its folder in benchmarks/rivals, and empty for what is our own."""

    label: str
    store: type[Store]
    command: Command
    rival: str = ""
    migrate: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


#: visitors.lua tells addresses as a proxy does. Where all is Django, requests would be sent on to HTTPS.
BEHIND_A_PROXY = (("HITCOUNTER_TRUSTED_PROXIES", "127.0.0.1"),)
OURS = ("manage.py", "migrate", "--verbosity", "0")
THEIRS = ("-m", "django", "migrate", "--run-syncdb", "--verbosity", "0")
ASYNC = gunicorn("asgi:application", "--worker-class", "asgi")

KINDS = {
    "service": Kind("this service, fast lane", Postgres, serve, migrate=OURS, environment=BEHIND_A_PROXY),
    "empty": Kind("an ASGI application that does nothing, same server", Store, empty),
    "service_django": Kind(
        "this service, its Django view (threads)", Postgres, threaded("hitcounter.wsgi:application"), migrate=OURS
    ),
    "quart_redis": Kind("Quart, Hypercorn, Redis sorted set", Redis, hypercorn, "quart_redis"),
    "quart_redis_fsync": Kind(
        "Quart, Hypercorn, Redis sorted set, appendfsync always", DurableRedis, hypercorn, "quart_redis"
    ),
    "flask_sorted_set": Kind(
        "Flask, gunicorn (threads), Redis sorted set", Redis, threaded("sorted_set:app"), "flask_redis"
    ),
    "flask_hash": Kind(
        "Flask, gunicorn (threads), Redis hash, sorted on reading", Redis, threaded("hashed:app"), "flask_redis"
    ),
    "django_sync": Kind(
        "Django (sync), F() update", Postgres, gunicorn("wsgi:application"), "django_update", THEIRS
    ),
    "django_threads": Kind(
        "Django (threads), F() update", Postgres, threaded("wsgi:application"), "django_update", THEIRS
    ),
    "django_async": Kind("Django (async view), F() update", Postgres, ASYNC, "django_update", THEIRS),
    "django_hitcount": Kind(
        "django-hitcount (threads)", Postgres, threaded("wsgi:application"), "django_hitcount", THEIRS
    ),
}  # fmt: skip


class Usage(NamedTuple):
    """What a contestant has used: CPU seconds and memory (bytes, shared pages divided) of its server and its store."""

    server_cpu: float
    store_cpu: float
    server_memory: int
    store_memory: int


class Contestant(Service):
    """One of KINDS, with its store, on a port of its own; started and stopped as a context.

    `environment` is for all of its processes.
    """

    def __init__(self, name: str, directory: Path, workers: int, **environment: str) -> None:
        self.name, self.workers, self.kind = name, workers, KINDS[name]
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(
            directory,
            HITCOUNTER_WORKERS=str(workers),
            HITCOUNTER_OPEN="on",
            **dict(self.kind.environment),
            **environment,
        )
        self.store = self.kind.store(directory / "store")

    def __enter__(self) -> "Contestant":
        python = str(python_for(self.kind.rival) if self.kind.rival else sys.executable)
        self.store.__enter__()
        try:
            self.environment |= self.store.environment
            if self.kind.rival:
                own = {"PYTHONPATH": str(RIVALS / self.kind.rival), "DJANGO_SETTINGS_MODULE": "settings"}
                self.environment |= own
            if self.kind.migrate:
                subprocess.run([python, *self.kind.migrate], cwd=PROJECT, env=self.environment, check=True)
            self.command = [python, *self.kind.command(f"127.0.0.1:{self.port}", self.workers)]
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if hasattr(self, "process"):
                self.stop()
        finally:
            self.store.__exit__()

    def ready(self) -> bool:
        """Whether it counts; a redirection is no count, though wrk would take it for one."""
        try:
            return requests.get(f"{self.url}/api/ready/", timeout=2, allow_redirects=False).status_code == 200
        except requests.RequestException:
            return False

    def cpu(self) -> float:
        """CPU seconds that its server and its store have used."""
        return _cpu([*tree(self.process.pid), *tree(self.store.pid)])

    def usage(self) -> Usage:
        server, store = tree(self.process.pid), tree(self.store.pid)
        return Usage(_cpu(server), _cpu(store), _memory(server), _memory(store))


class WorkerMemory:
    """How far the memory of one of these processes rises above what it is now, in bytes. Linux alone tells.

    A process that has ended does not count. `proc` is where the kernel tells of processes.
    """

    def __init__(self, pids: Iterable[int], proc: Path = Path("/proc")) -> None:
        self._pids, self._proc = list(pids), proc
        self.forget_peaks()
        self._before = {pid: self._peak(pid) for pid in self._pids}

    def forget_peaks(self) -> None:
        """Have the peaks begin anew; what they are compared with stays."""
        for pid in self._pids:
            with suppress(FileNotFoundError, ProcessLookupError):
                # https://docs.kernel.org/filesystems/proc.html has what "5" means.
                (self._proc / str(pid) / "clear_refs").write_text("5")

    def growth(self) -> int:
        """The most, since the peaks were forgotten."""
        return max([0, *(self._peak(pid) - before for pid, before in self._before.items())])

    def _peak(self, pid: int) -> int:
        try:
            lines = (self._proc / str(pid) / "status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        # One that nobody has waited for yet has a status, and no memory.
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def tree(pid: int | None) -> list[psutil.Process]:
    """A process and all that come of it."""
    if pid is None:
        return []
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _cpu(processes: list[psutil.Process]) -> float:
    """CPU seconds of these processes and of those that they have started and seen end."""
    total = 0.0
    for process in processes:
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _memory(processes: list[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
