"""The real service with a writer that fails on purpose: `python -m tests.faults.failing` serves it as `serve` does.

INJECTED_SEED and INJECTED_RATE say what is drawn; each worker has draws of its own. INJECTED_LIMITS are settings of the
writer's sessions, as JSON. What happened is told, one fault a line, in the file INJECTED_TOLD.
"""

import fcntl
import json
import os
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

from hitcounter import asgi
from hitcounter.asgi import application as application

if __name__ != "__main__":
    from django.conf import settings

    from counters.admission import new_paths
    from counters.ingest.recorder import Recorder
    from counters.ingest.writer import PostgresWriter
    from tests.faults.injected import Fault, Faults

    class ToldFaults(Faults):
        """Faults of a process that others ask about."""

        def happened(self, fault: Fault) -> None:
            super().happened(fault)
            with open(os.environ["INJECTED_TOLD"], "a") as told:
                told.write(f"{' '.join(fault)}\n")

    def take_place() -> int:
        """The first place that no other worker has, for as long as this process lives.

        It is drawn from in place of the process's number, which is another one in each run.
        """
        for place in count():
            lock = os.open(Path(os.environ["HITCOUNTER_DATA_DIR"], f"injected-{place}.lock"), os.O_WRONLY | os.O_CREAT)
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return place
            os.close(lock)
        raise AssertionError

    faults = ToldFaults(
        f"{os.environ['INJECTED_SEED']} {take_place()}",
        float(os.environ["INJECTED_RATE"]),
        json.loads(os.environ["INJECTED_LIMITS"]),
    )

    def make_recorder() -> Recorder:
        return Recorder(
            PostgresWriter(asgi.conninfo(), connect=faults.connect),
            capacity=settings.HITCOUNTER_QUEUE,
            patience=settings.HITCOUNTER_PATIENCE_SECONDS,
            new_paths=new_paths(),
        )

    asgi.make_recorder = make_recorder
else:
    from hitcounter.management.commands.serve import gunicorn

    os.execv(sys.executable, gunicorn("tests.faults.failing:application"))  # noqa: S606
