"""The host project of tests/host under gunicorn: started, asked, killed and stopped."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import requests

from tests.service import PROJECT, free_port

DEADLINE_SECONDS = 30
WSGI = ["--worker-class", "sync", "--preload", "tests.host.wsgi"]
THREADS = ["--worker-class", "gthread", "--threads", "4", "--preload", "tests.host.wsgi"]
ASGI = ["--worker-class", "asgi", "--preload", "tests.host.asgi"]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.02)


class Host:
    """The host project under gunicorn, counting at `url`."""

    def __init__(self, server: list[str], scratch: Path, url: str, spool: Path | None = None, **environment: str):
        self.spool = spool or scratch / "spool"
        self.port = free_port()
        self.log = scratch / f"host-{self.port}.log"
        self._command = [
            sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", "--workers", "2",
            "--graceful-timeout", "5", "--no-control-socket", *server,
        ]  # fmt: skip
        self._environment = {
            **os.environ,
            "HOST_HITCOUNTER_URL": url,
            "HOST_HITCOUNTER_SPOOL": str(self.spool),
            **environment,
        }
        self._environment.pop("DJANGO_SETTINGS_MODULE", None)

    def __enter__(self) -> "Host":
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                self._command, cwd=PROJECT, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        wait_until(lambda: len(self.workers()) == 2 and self._listens(), f"the host:\n{self.log.read_text()}")
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "Listening at" in self.log.read_text()

    def workers(self) -> list[psutil.Process]:
        # psutil's own children() looks at every process of the machine, and this is asked fifty times a second.
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        found = []
        for child in children:
            with suppress(psutil.NoSuchProcess):  # it has ended since
                found.append(psutil.Process(int(child)))
        return found

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=DEADLINE_SECONDS)

    def waiting(self) -> list[Path]:
        return list(self.spool.glob("*.ndjson"))
