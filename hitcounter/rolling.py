"""SIGHUP: new workers, with code and settings as they are now, take the place of the old ones.

gunicorn's own way ends the old workers while the new ones still load, and all of the service when those cannot.
"""

import asyncio
import importlib
import mmap
import os
import signal
import subprocess
import sys
import time
from typing import Any

POLL_SECONDS = 0.05
#: Before another worker is started in place of one that ended before it took connections.
RETRY_SECONDS = 2
#: In which the service must load; the master does nothing else meanwhile.
TRIAL_SECONDS = 60
_TRIAL = [sys.executable, "-c", "import hitcounter.asgi"]
_PROJECT = ("counters", "hitcounter", "pythonjsonlogger")
#: No process ends with it: so the master takes no worker's end for one that must stop everything.
_NO_STATUS = -1


def hangup_ends() -> bool:
    """Whether SIGHUP says that the terminal was closed: asked before anything handles it, since `nohup` ignores it.

    Without a terminal, as under systemd, somebody has sent it.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def forget_project() -> None:
    """In the worker, before it loads the service: have it load all of the project itself, as it is now.

    What the master has loaded of it is as old as the master.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] in _PROJECT:
            del sys.modules[name]
    importlib.invalidate_caches()  # files may have come since the master looked into their directories


def prepare(worker: Any) -> None:
    """Before the fork: a byte that the master can read when the worker has written it."""
    worker.ready = mmap.mmap(-1, 1)


async def tell_when_ready(worker: Any) -> None:
    """In the worker: say so once it takes connections."""
    while not worker.servers:
        await asyncio.sleep(POLL_SECONDS)
    worker.ready[0] = 1


def roll_on_hangup(server: Any) -> None:
    """In the master: handle SIGHUP, and start and end workers by the rules below."""
    roller = _Roller(server)
    server.manage_workers, server.reap_workers, server.handle_hup = roller.manage, roller.reap, roller.ask


class _Roller:
    """Ends no worker that is one too many before all others are ready; rolls once for all SIGHUPs during a roll."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._spawn_or_end, self._reap = server.manage_workers, server.reap_workers
        self._asked = False
        self._rest_until = 0.0

    def ask(self) -> None:
        self._asked = True

    def manage(self) -> None:
        """Start what is missing, else end what is too much, else roll if that was asked for."""
        workers = self._server.WORKERS
        if len(workers) < self._server.num_workers:
            if time.monotonic() >= self._rest_until:
                self._spawn_or_end()
        elif all(worker.ready[0] for worker in workers.values()):
            self._spawn_or_end()
            # Not while those that were told to end still answer: with each roll there would be more of them.
            if self._asked and len(workers) == self._server.num_workers:
                self._asked = False
                self._roll()

    def reap(self) -> None:
        """Once one has served, one that cannot load the service stops nothing; it is tried again after a pause."""
        workers = self._server.WORKERS
        loading = {pid for pid, worker in workers.items() if not worker.ready[0]}
        if len(loading) < len(workers):
            self._server.WORKER_BOOT_ERROR = self._server.APP_LOAD_ERROR = _NO_STATUS
        self._reap()
        if loading - workers.keys():
            self._rest_until = time.monotonic() + RETRY_SECONDS

    def _roll(self) -> None:
        if fault := _fault():
            self._server.log.error("The workers stay as they are, since new ones would not start: %s", fault)
            return
        for _ in range(self._server.num_workers):
            self._server.spawn_worker()


def _fault() -> str:
    """Why a worker that is started now could not load the service; empty when it can."""
    try:
        done = subprocess.run(_TRIAL, capture_output=True, text=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"It was not loaded within {TRIAL_SECONDS} s."
    return "" if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]
