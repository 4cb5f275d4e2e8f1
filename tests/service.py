"""The real service in processes of its own: started, asked, killed and stopped as its users would."""

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from hitcounter.postgres import PrivatePostgres

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
PORTS = range(10_240, 32_768)
#: Names the directory that all processes of a test run share.
COMMON_DIRECTORY = "HITCOUNTER_TESTS_DIR"


def free_port() -> int:
    """A port of the loopback address that nobody listens on.

    It is below those that the kernel gives to whoever connects: one of these may be taken before a service has it.
    """
    while True:
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def put_database(directory: Path) -> Path:
    """Put a cluster with an up-to-date database into a directory unless it has one; it is made once for all tests."""
    common = Path(os.environ[COMMON_DIRECTORY]) / "cluster"
    with open(f"{common}.lock", "w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        if not common.exists():
            _make_database(common)
    if not (directory / "data").exists():
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", common / "data", directory], check=True)
    return directory


def _make_database(directory: Path) -> None:
    making = directory.with_name("making")
    with PrivatePostgres(making).held() as database:
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, cwd=PROJECT, env={**os.environ, "DATABASE_URL": database.url}, check=True)
    making.rename(directory)


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
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once the service says that it is ready."""
        if not self.environment.get("DATABASE_URL") and COMMON_DIRECTORY in os.environ:
            self.prepare()
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=PROJECT, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.wait_until_ready()

    def prepare(self) -> None:
        """Spare it the making of a cluster and the migrations, which are the same for all."""
        put_database(self.data_dir / "postgres")

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
        try:
            return self.process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

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


class FirstStart(Service):
    """One that finds nothing, and makes all itself."""

    def prepare(self) -> None:
        """Leave it as it is."""
