"""How fast is a log imported, beside GoAccess, which reads one into memory and keeps nothing?

    python -m benchmarks.importing --log access.log.gz

A log is repeated until it has so many lines: as it is, or (`--spread`) each time on the days after it, so that no line
comes twice. The command imports it into a fresh private PostgreSQL, all dimensions and durable commits included;
GoAccess (Debian's package `goaccess`) makes its report of the same file. Both are timed as whole processes, in turn.
"""

import argparse
import gzip
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg

from hitcounter.postgres import PrivatePostgres
from tests.service import PROJECT

EMPTY = (
    "TRUNCATE counters_counter, counters_hourlyhits, counters_hit, counters_dimensionset, counters_visitorsalt, "
    "counters_importedlog"
)
_DAY = re.compile(rb"\[(\d\d/[A-Z][a-z]{2}/\d{4})")


def repeat(log: Path, lines: int, target: Path, *, spread: bool) -> int:
    """Write the log's lines again and again, at least so many; return how many."""
    text = gzip.decompress(log.read_bytes()) if log.suffix == ".gz" else log.read_bytes()
    if not text.endswith(b"\n"):
        text += b"\n"
    times = -(-lines // text.count(b"\n"))
    days = len(set(_DAY.findall(text)))
    with target.open("wb") as file:
        for number in range(times):
            file.write(_DAY.sub(partial(_later, days * number), text) if spread else text)
    return times * text.count(b"\n")


def _later(days: int, found: re.Match[bytes]) -> bytes:
    day = datetime.strptime(found[1].decode(), "%d/%b/%Y") + timedelta(days=days)
    return f"[{day:%d/%b/%Y}".encode()


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def goaccess(log: Path) -> None:
    command = ["goaccess", str(log), "--log-format=COMBINED", "--no-progress", "-o", "json"]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def manage(database: PrivatePostgres, *arguments: str) -> str:
    environment = {**os.environ, "DATABASE_URL": database.url}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def compare(log: Path, lines: int, rounds: int, database: PrivatePostgres) -> None:
    """Print one line per round, and the medians; the first round of each only warms up."""
    ours, theirs = [], []
    for number in range(rounds + 1):
        with psycopg.connect(database.url, autocommit=True) as session:
            session.execute(EMPTY)
        taken = seconds(lambda: goaccess(log)), seconds(lambda: manage(database, "importlog", str(log)))
        if number:
            theirs.append(taken[0])
            ours.append(taken[1])
            print(f"round {number}: GoAccess {taken[0]:.2f} s, importlog {taken[1]:.2f} s", flush=True)
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    print(
        f"{lines:,} lines: importlog {lines / statistics.median(ours):,.0f} lines/s, "
        f"GoAccess {lines / statistics.median(theirs):,.0f} lines/s, "
        f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    print(manage(database, "verifycounts"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True, help="in the combined format, plain or gzipped")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--spread", action="store_true", help="each repetition later, so that no line comes again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch:
        log = Path(scratch) / "access.log"
        lines = repeat(options.log, options.lines, log, spread=options.spread)
        with PrivatePostgres(Path(scratch) / "postgres").held() as database:
            manage(database, "migrate", "-v0")
            compare(log, lines, options.rounds, database)


if __name__ == "__main__":
    main()
