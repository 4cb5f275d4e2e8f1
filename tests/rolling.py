"""A service whose workers are rolled by SIGHUP."""

import signal
import sys
from pathlib import Path

from tests import processes
from tests.processes import wait_until
from tests.service import PROJECT, Service

#: Becomes the command that follows, in a session without a terminal.
APART = [sys.executable, "-c", "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"]


class Rolling(Service):
    """A service without a terminal, as systemd starts it."""

    def __init__(self, data_dir: Path, project: Path = PROJECT, **environment: str) -> None:
        super().__init__(data_dir, **{"DATABASE_URL": "", "HITCOUNTER_WORKERS": "2", **environment})
        self.command = [*APART, sys.executable, str(project / "manage.py"), "serve"]

    def workers(self) -> set[int]:
        """The worker processes."""
        return set(processes.workers(self))

    def roll(self) -> None:
        """Send SIGHUP, and return when no worker of before is left."""
        before = self.workers()
        assert len(before) == 2
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & self.workers() and len(self.workers()) == 2)
