"""All that is measured of the service beside its rivals, in one go.

    python -m benchmarks.suite [--parts counting mixes workers cost limits reads] [--rounds 3] [--seconds 2]

* counting: each contestant, on the mix of the load test, at each number of connections;
* mixes: the service and its first rival on one hot path, on a million paths, on paths that are always new; the service
  also with the headers of many visitors;
* workers: the service, its Django view and the empty application with 1, 2 and 4 worker processes;
* cost: longer rounds, for the CPU seconds, the memory and the bytes of a million hits; of the service also with the
  headers of many visitors;
* limits: the statement that counts a batch, alone;
* reads: statistics of more and more hits and paths (--reads HITS:PATHS …; --keep leaves the databases for next time).

All contestants of a part run at once, each on a store of its own, and are driven one after the other, a round of each,
then a round of each again; only one is driven at a time. Needs wrk and redis-server. Writes a JSON file, and a report
with its pictures beside it, into benchmarks/results/: after each part what there is, also where it failed. Another run
on the same day and commit replaces the parts that it measures, and keeps the others.
"""

import argparse
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks import growth, rounds, statement, wrk
from benchmarks.contestants import KINDS, Contestant
from benchmarks.environments import BENCHMARKS, python_for, python_for_pictures
from benchmarks.growth import Held
from benchmarks.records import Read, Results, Round, merged
from benchmarks.report import PICTURES, markdown
from benchmarks.rounds import Turn
from benchmarks.stores import Postgres, Redis
from tests.service import PROJECT

#: What contestants of `mixes` are sent. Others count no more than paths, whatever headers come with them.
VISITORS, KINDS_OF_PATHS = "visitors", ("mix", "hot", "zipf", "new")
MIXES = {"service": (*KINDS_OF_PATHS, VISITORS), "quart_redis": KINDS_OF_PATHS}
SCALED = ("service", "service_django", "empty")  # the contestants of `workers`
WORKERS = (1, 2, 4)
BATCHES = (16, 64, 256)
CONNECTIONS = 64  # where a part has no other number
#: new.lua makes up paths without end, and each is to be counted as what it is.
UNBOUNDED = {"HITCOUNTER_MAX_NEW_PATHS_PER_MINUTE": "0"}
COST_SECONDS = 4  # a round of `cost` is so many times as long
ZIPF_PATHS = 1_000_000
#: Those that stay in minutes. The goals ask for 50000000:5000000 as well.
READS = (Held(1_000_000, 10_000), Held(1_000_000, 1_000_000))
OPTIONS = ("rounds", "seconds", "workers", "requests")  # those that are told of each part
PACKAGES = ("django", "gunicorn", "gunicorn-h1c", "uvloop", "psycopg")


@contextmanager
def started(names: Sequence[str], workers: int, **environment: str) -> Iterator[dict[str, Contestant]]:
    """These contestants, all at once."""
    with tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch, ExitStack() as stack:
        yield {
            name: stack.enter_context(Contestant(name, Path(scratch) / name, workers, **environment)) for name in names
        }


class Suite:
    """One run, with its options, and what it has found so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.results = Results(about())

    @property
    def stem(self) -> Path:
        """What the names of its files have in common."""
        told = self.results.about
        directory: Path = self.options.results
        return directory / f"{told['begun'][:10]}-{told['commit']}"

    def measure(self, part: str) -> None:
        self.results.about["parts"][part] = {name: getattr(self.options, name) for name in OPTIONS}
        try:
            PARTS[part](self)
        finally:
            self.write()

    def write(self) -> None:
        write(self.results, self.stem)

    def counting(self) -> None:
        with started(self.options.contestants, self.options.workers) as running:
            self._tell_stores(running)
            for connections in self.options.connections:
                self._measure("counting", [Turn(one, self.options.requests, connections) for one in running.values()])

    def mixes(self) -> None:
        chosen = self._chosen(MIXES)
        with started(chosen, self.options.workers, **UNBOUNDED) as running:
            for contestant in running.values():
                know_paths(contestant)
            self._measure("mixes", [Turn(running[name], kind, CONNECTIONS) for name in chosen for kind in MIXES[name]])

    def workers(self) -> None:
        with ExitStack() as stack:
            running = [stack.enter_context(started(self._chosen(SCALED), number)) for number in WORKERS]
            turns = [Turn(one, "mix", CONNECTIONS) for some in running for one in some.values()]
            self._measure("workers", turns)

    def cost(self) -> None:
        asked, workers = self.options.requests, self.options.workers
        # Beside the one that is sent no headers, so that neither has the other's memory and tables.
        visited = self._chosen(["service"]) if asked != VISITORS else []
        with started(self.options.contestants, workers) as running, started(visited, workers) as besides:
            turns = [Turn(one, asked, CONNECTIONS) for one in running.values()]
            turns += [Turn(one, VISITORS, CONNECTIONS) for one in besides.values()]
            self._measure("cost", turns, seconds=COST_SECONDS * self.options.seconds)

    def limits(self) -> None:
        with started(["service"], 1) as running:
            store = running["service"].store
            assert isinstance(store, Postgres)
            found = statement.run(store.url, BATCHES, self.options.rounds, self.options.seconds)
        for one in found:
            print(f"statement {one.batch:4} hits in a batch {one.hits_per_second:9,.0f} hits/s", flush=True)
        self.results.statements += found

    def reads(self) -> None:
        for held in self.options.reads:
            self._read(growth.of_service(held, self.options.rounds, self.options.workers, self.options.keep))
            for name in growth.RIVALS:
                if held.paths <= growth.MOST_PATHS_OF_RIVALS and name in self.options.contestants:
                    self._read(growth.of_rival(name, held, self.options.rounds, self.options.workers))

    def _chosen(self, names: Iterable[str]) -> list[str]:
        """Those of them that are to take part."""
        return [name for name in names if name in self.options.contestants]

    def _measure(self, part: str, turns: Sequence[Turn], seconds: int | None = None) -> None:
        found: Iterator[Round] = rounds.alternate(part, turns, self.options.rounds, seconds or self.options.seconds)
        for one in found:
            print(rounds.told(one), flush=True)
            self.results.rounds.append(one)

    def _read(self, found: Iterator[Read]) -> None:
        for one in found:
            print(growth.told(one), flush=True)
            self.results.reads.append(one)
        self.write()

    def _tell_stores(self, running: dict[str, Contestant]) -> None:
        self.results.about["stores"] |= {name: one.store.about() for name, one in running.items() if one.store.about()}


PARTS: dict[str, Callable[[Suite], None]] = {
    "counting": Suite.counting,
    "mixes": Suite.mixes,
    "workers": Suite.workers,
    "cost": Suite.cost,
    "limits": Suite.limits,
    "reads": Suite.reads,
}


def make_environments(contestants: Sequence[str]) -> None:
    """Install what contestants and pictures need, before anything is measured that a failure could lose or disturb."""
    for rival in dict.fromkeys(KINDS[name].rival for name in contestants):
        if rival:
            python_for(rival)
    python_for_pictures()


def know_paths(contestant: Contestant) -> None:
    """Have the million paths of zipf.lua counted before: else most of its first requests would be for new ones."""
    paths = (f"/api/item/{rank}/" for rank in range(1, ZIPF_PATHS + 1))
    if isinstance(contestant.store, Postgres):
        contestant.store.know(paths)
    elif isinstance(contestant.store, Redis):
        contestant.store.fill_sorted_set((path, 0) for path in paths)


def about() -> dict[str, Any]:
    """The machine and the versions; what each part was measured with, and each store is, comes to it later."""
    processors = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.+)", processors.read_text()) if processors.exists() else None
    return {
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "rev-parse", "--short", "HEAD") or "unknown",
        "changed": bool(_said("git", "status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "processor": model[1] if model else platform.processor(),
            "cores": psutil.cpu_count(),
            "memory": psutil.virtual_memory().total,
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}, **_tools()},
        "parts": {},
        "stores": {},
    }


def _tools() -> dict[str, str]:
    """wrk says its version with the words of a mistake."""
    wrk_version = re.search(r"wrk (\S+)", _said("wrk", "--version"))
    redis_version = re.search(r"v=(\S+)", _said("redis-server", "--version"))
    return {name: found[1] for name, found in (("wrk", wrk_version), ("redis", redis_version)) if found}


def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:
        return "none"


def _said(*command: str) -> str:
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True).stdout.strip()


def write(results: Results, stem: Path) -> None:
    """Write the JSON file and the report, without pictures; what the file has of other parts is kept."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    file = stem.with_suffix(".json")
    if file.exists():
        results = merged(Results.from_json(file.read_text()), results)
    file.write_text(results.to_json())
    stem.with_suffix(".md").write_text(markdown(results, pictures=[]))


def draw(stem: Path) -> None:
    """Make the pictures, with what draws them in an environment of its own, and put them into the report."""
    subprocess.run(
        [python_for_pictures(), "-m", "benchmarks.pictures", stem.with_suffix(".json")], cwd=PROJECT, check=True
    )
    made = [name for name in PICTURES if picture_of(stem, name).exists()]
    pictures = [(PICTURES[name], picture_of(stem, name).name) for name in made]
    results = Results.from_json(stem.with_suffix(".json").read_text())
    stem.with_suffix(".md").write_text(markdown(results, pictures))


def picture_of(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}-{name}.svg")


def held(text: str) -> Held:
    """`HITS:PATHS`, as an option has it."""
    hits, _, paths = text.partition(":")
    return Held(int(hits), int(paths))


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--contestants", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32, 64, 256, 1024])
    parser.add_argument("--requests", choices=wrk.REQUESTS, default="mix", help="of counting and cost")
    parser.add_argument("--rounds", type=int, default=3, help="of each contestant, alternating")
    parser.add_argument("--seconds", type=int, default=2, help="of each round")
    parser.add_argument("--workers", type=int, default=2, help="of each contestant, but for the part of that name")
    parser.add_argument("--reads", type=held, nargs="+", default=list(READS), metavar="HITS:PATHS")
    parser.add_argument("--keep", type=Path, help="a directory for the databases of reads, to use them again")
    parser.add_argument("--results", type=Path, default=BENCHMARKS / "results")
    return parser.parse_args(arguments)


def main() -> None:
    options, begun = options_of(), time.monotonic()
    wrk.prepare("redis-server")
    make_environments(options.contestants)
    suite = Suite(options)
    for part in options.parts:
        suite.measure(part)
    draw(suite.stem)
    print(f"{suite.stem.with_suffix('.md')}, after {(time.monotonic() - begun) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
