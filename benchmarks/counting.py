"""How fast hits are counted, as a share of what the server does without counting them.

    python -m benchmarks.counting [--seconds 4] [--rounds 5] [--connections 32 64 256] [--requests visitors.lua]

Starts this service on a fresh private PostgreSQL and, under the same gunicorn settings, an ASGI application that does
nothing; drives both with wrk, a round of one after a round of the other, and prints medians and their ratio. Every
hit that is answered has been committed, in all tables.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.service import PROJECT, Service


class Empty(Service):
    """The application that does nothing, served as the service is."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        super().__init__(data_dir, **environment)
        workers = self.environment.get("HITCOUNTER_WORKERS", str(os.cpu_count() or 1))
        where = ["--bind", f"127.0.0.1:{self.port}", "--workers", workers]
        self.command = [sys.executable, "-m", "gunicorn", "-c", "python:hitcounter.gunicorn", *where]
        self.command.append("benchmarks.empty:application")


class Round(NamedTuple):
    """What wrk saw: requests per second, latencies in milliseconds, answers that were not 2xx."""

    rate: float
    p50: float
    p99: float
    refused: int


def drive(url: str, connections: int, seconds: int, script: str) -> Round:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", f"benchmarks/{script}", url]
    printed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    return Round(
        rate=float(_found(r"Requests/sec:\s+([\d.]+)", printed)),
        p50=_milliseconds(_found(r"\s50%\s+(\S+)", printed)),
        p99=_milliseconds(_found(r"\s99%\s+(\S+)", printed)),
        refused=int(refused[1]) if refused else 0,
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if not match:
        raise SystemExit(f"wrk printed no {pattern}:\n{text}")
    return str(match[1])


def _milliseconds(text: str) -> float:
    number, unit = _found(r"^([\d.]+)", text), _found(r"([a-z]+)$", text)
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    return float(number) * scale[unit]


def median(rounds: list[Round], field: str) -> float:
    return float(statistics.median(getattr(one, field) for one in rounds))


def compare(service: Service, empty: Service, connections: int, rounds: int, seconds: int, script: str) -> None:
    """Print one line for this number of connections; the first round of each only warms up."""
    seen: dict[str, list[Round]] = {"service": [], "empty": []}
    for number in range(rounds + 1):
        for name, server in (("empty", empty), ("service", service)):
            result = drive(server.url, connections, seconds if number else 1, script)
            if number:
                seen[name].append(result)
    ratios = [one.rate / other.rate for one, other in zip(seen["service"], seen["empty"], strict=True)]
    print(
        f"{connections:5} connections: service {median(seen['service'], 'rate'):8,.0f}/s"
        f"  p50 {median(seen['service'], 'p50'):6.2f} ms  p99 {median(seen['service'], 'p99'):6.2f} ms"
        f" | empty {median(seen['empty'], 'rate'):8,.0f}/s  p99 {median(seen['empty'], 'p99'):6.2f} ms"
        f" | ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        f" | not 2xx: {sum(one.refused for one in seen['service'])}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, help="of each round")
    parser.add_argument("--rounds", type=int, default=5, help="of each server, alternating")
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 64, 256])
    parser.add_argument("--requests", default="visitors.lua", help="wrk's script: mix.lua sends the paths alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch:
        unused = "postgresql://unused"
        service = Service(Path(scratch), HITCOUNTER_TRUSTED_PROXIES="127.0.0.1", HITCOUNTER_OPEN="on")
        with service, Empty(Path(scratch), DATABASE_URL=unused) as empty:
            for connections in options.connections:
                compare(service, empty, connections, options.rounds, options.seconds, options.requests)


if __name__ == "__main__":
    main()
