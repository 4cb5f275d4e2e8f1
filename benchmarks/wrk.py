"""wrk, which sends the requests: https://github.com/wg/wrk. One thread, over connections that are kept alive."""

import json
import resource
import secrets
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

from tests.service import PROJECT

#: Scripts that say which requests are sent, by the name that they have in the results.
REQUESTS = {
    "mix": "the paths of the load test: 3 words, 1 to 6 segments",
    "hot": "one single path",
    "zipf": "a million paths, popularity falling as 1 / rank",
    "new": "paths that are asked for once",
    "visitors": "the paths of the load test, with the headers of many visitors",
}


class Run(NamedTuple):
    """What wrk saw: answers that were not errors per second, latencies in milliseconds, and how many failed.

    `cores` is the share of one core that wrk itself used.
    """

    seconds: float
    answered: int
    failed: int
    p50: float
    p95: float
    p99: float
    cores: float

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


class WrkError(Exception):
    """wrk did not run, or printed something else than done.lua does."""


def drive(url: str, requests: str, connections: int, seconds: int) -> Run:
    """Send requests of one kind (REQUESTS) for so many seconds. Raises WrkError."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", f"benchmarks/{requests}.lua", url, "--", secrets.token_hex(4)]
    begun, before = time.perf_counter(), _cpu_of_children()
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    cores = (_cpu_of_children() - before) / (time.perf_counter() - begun)
    if done.returncode:
        raise WrkError(f"wrk failed: {done.stderr or done.stdout}")
    return parse(done.stdout, cores)


def _cpu_of_children() -> float:
    """CPU seconds of the programs that this process has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parse(printed: str, cores: float) -> Run:
    """What the last line says, which done.lua wrote. Raises WrkError when it did not."""
    try:
        told = json.loads(printed.strip().splitlines()[-1])
        refused = told["status"]
        failed = refused + sum(told[name] for name in ("connect", "read", "write", "timeout"))
        p50, p95, p99 = (told[name] / 1000 for name in ("p50", "p95", "p99"))
        return Run(told["duration"] / 1_000_000, told["requests"] - refused, failed, p50, p95, p99, cores)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise WrkError(f"wrk printed no figures:\n{printed}") from error


def prepare(*programs: str) -> None:
    """End with a sentence where one of these is not installed; let all open as many files as the system lets them."""
    if missing := [name for name in ("wrk", *programs) if not shutil.which(name)]:
        sys.exit(f"Not installed, and needed: {', '.join(missing)}.")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
