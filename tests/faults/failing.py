"""The real service with a writer that fails on purpose: `python -m tests.faults.failing` serves it as `serve` does.

INJECTED_SEED and INJECTED_RATE say what is drawn; each worker has draws of its own.
"""

import os
import sys

from hitcounter import asgi
from hitcounter.asgi import application as application

if __name__ != "__main__":
    from django.conf import settings

    from counters.admission import new_paths
    from counters.ingest.recorder import Recorder
    from counters.ingest.writer import PostgresWriter
    from tests.faults.injected import Faults

    faults = Faults(f"{os.environ['INJECTED_SEED']} {os.getpid()}", float(os.environ["INJECTED_RATE"]))

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
