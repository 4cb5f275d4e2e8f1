"""SIGHUP: new workers, with code and settings as they are now, take the place of the old ones.

gunicorn's own way ends the old workers while the new ones still load, and all of the service when those cannot.
"""

import asyncio
import mmap
import os
import signal
import subprocess
import sys
from typing import Any

POLL_SECONDS = 0.05
_PROJECT = ("counters", "hitcounter", "pythonjsonlogger")
#: No process ends with it: so says the master that none has told it to stop everything.
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


def prepare(worker: Any) -> None:
    """Before the fork: a byte that the master can read when the worker has written it."""
    worker.ready = mmap.mmap(-1, 1)


async def tell_when_ready(worker: Any) -> None:
    """In the worker: say so once it takes connections."""
    while not worker.servers:
        await asyncio.sleep(POLL_SECONDS)
    worker.ready[0] = 1


def roll_on_hangup(server: Any) -> None:
    """In the master: handle SIGHUP, and end no worker that is one too many before all others are ready."""
    spawn_or_end = server.manage_workers

    def manage_workers() -> None:
        fewer = len(server.WORKERS) < server.num_workers
        if fewer or all(worker.ready[0] for worker in server.WORKERS.values()):
            spawn_or_end()

    def handle_hup() -> None:
        if fault := _fault():
            server.log.error("The workers stay as they are, since new ones would not start: %s", fault)
            return
        # A new worker that cannot load the service all the same must not stop those that serve.
        server.WORKER_BOOT_ERROR = server.APP_LOAD_ERROR = _NO_STATUS
        for _ in range(server.num_workers):
            server.spawn_worker()

    server.manage_workers, server.handle_hup = manage_workers, handle_hup


def _fault() -> str:
    """Why a worker that is started now could not load the service; empty when it can."""
    done = subprocess.run([sys.executable, "-c", "import hitcounter.asgi"], capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]
