"""The real service in processes of its own: started, asked, killed and stopped as its users would."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 60


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """`manage.py serve` on a port of its own; `environment` adds to and overrides what it is started with."""

    command = [sys.executable, "manage.py", "serve"]

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = data_dir
        own = {"HITCOUNTER_DATA_DIR": str(data_dir), "HITCOUNTER_BIND": f"127.0.0.1:{self.port}"}
        self.environment = {**os.environ, **own, **environment}
        self.log = data_dir / f"service-{self.port}.log"

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once the service says that it is ready."""
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=PROJECT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if self.ready():
                return
            time.sleep(0.1)
        raise RuntimeError(f"The service did not start:\n{self.output()}")

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/healthz/ready", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=START_SECONDS)

    def output(self) -> str:
        return self.log.read_text()

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=30, **options)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`manage.py` beside the service, on its database."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=PROJECT, env=self.environment, capture_output=True, text=True)

    def made_key(self, scope: str) -> str:
        """A new API key with this scope."""
        made = self.manage("createkey", "tests", "--scope", scope)
        made.check_returncode()
        return made.stdout.strip()

    def counts(self, prefix: str = "/") -> dict[str, int]:
        """The counts of the paths that begin with `prefix`, as /stats/ tells them."""
        answer = self.get("/stats/", params={"prefix": prefix})
        answer.raise_for_status()
        return {row["path"]: row["count"] for row in answer.json()}
