"""Where contestants keep their counts: a PostgreSQL or a Redis of their own, fresh, in a scratch directory."""

import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import psycopg

from counters.hits import counter_id
from hitcounter.postgres import PrivatePostgres
from tests.service import PROJECT

START_SECONDS = 30
AT_ONCE = 1000
#: Settings of PostgreSQL on which the figures depend.
TOLD = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "wal_compression", "wal_segment_size")
COUNTS = "counts"  # the key under which all rivals keep them in Redis


class Sizes(NamedTuple):
    """Bytes: of what is kept, and of the log written before it (PostgreSQL's WAL, Redis's append-only file)."""

    kept: int
    logged: int


class Store:
    """Keeps nothing: for what has no store."""

    environment: dict[str, str] = {"DATABASE_URL": "postgresql://unused"}
    pid: int | None = None

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave nothing running."""

    def sizes(self) -> Sizes:
        return Sizes(0, 0)

    def about(self) -> str:
        """How it is set up, as the report tells it."""
        return ""


class Postgres(Store):
    """The private PostgreSQL of this project, with the settings that the service gives it."""

    def __enter__(self) -> Self:
        self._held = ExitStack()
        server = self._held.enter_context(PrivatePostgres(self.directory / "postgres").held())
        self.url = server.url
        self.environment = {"DATABASE_URL": server.url}
        self.pid = int((server.data / "postmaster.pid").read_text().split()[0])
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def sizes(self) -> Sizes:
        with psycopg.connect(self.url, autocommit=True) as session:
            found = session.execute(
                "SELECT pg_database_size(current_database()), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
            ).fetchone()
        assert found
        return Sizes(*found)

    def about(self) -> str:
        with psycopg.connect(self.url) as session:
            told = {name: session.execute("SELECT current_setting(%s)", [name]).fetchone() for name in TOLD}
        return "PostgreSQL " + ", ".join(f"{name} {row[0]}" for name, row in told.items() if row)

    def know(self, paths: Iterable[str]) -> None:
        """Have a counter for each of these paths in the service's tables, without a hit as yet."""
        with psycopg.connect(self.url, autocommit=True) as session, session.cursor() as cursor:
            with cursor.copy("COPY counters_counter (id, path, hits) FROM STDIN") as copy:
                for path in paths:
                    copy.write_row((counter_id(path).hex, path, 0))
            cursor.execute("VACUUM (ANALYZE) counters_counter")


class Redis(Store):
    """Redis as it comes, on a Unix socket: it writes a snapshot now and then, and loses what came after it."""

    options: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        # Relative to the project, from which all is started: the path of a socket may not be long.
        self._socket = os.path.relpath(self.directory / "redis.sock", PROJECT)
        self.environment = {**Store.environment, "REDIS_SOCKET": self._socket}
        command = ["redis-server", "--port", "0", "--unixsocket", "redis.sock", "--dir", str(self.directory)]
        with open(self.directory / "redis.log", "w") as log:
            self._process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)
        self.pid = self._process.pid
        self._wait()
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not (self.directory / "redis.sock").exists() or self.ask("PING") != "PONG":
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Redis did not start: {(self.directory / 'redis.log').read_text()}")
            time.sleep(0.05)

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(START_SECONDS)

    def sizes(self) -> Sizes:
        logs = [file.stat().st_size for file in self.directory.glob("appendonlydir/*")]
        # Of the counts alone: what Redis uses in all goes up and down with the buffers of its clients.
        return Sizes(int(self.ask("MEMORY", "USAGE", COUNTS, "SAMPLES", "0")), sum(logs))

    def about(self) -> str:
        settings = ", ".join(f"{name} {self._setting(name)}" for name in ("save", "appendonly", "appendfsync"))
        return f"Redis {self._told('redis_version')}, {settings}"

    def _told(self, name: str) -> str:
        lines = self.ask("INFO").splitlines()
        return next(line.partition(":")[2] for line in lines if line.startswith(f"{name}:"))

    def _setting(self, name: str) -> str:
        return repr(self.ask("CONFIG", "GET", name).partition("\n")[2])

    def fill_sorted_set(self, counts: Iterable[tuple[str, int]]) -> None:
        self._fill("ZADD", ((str(count), path) for path, count in counts))

    def fill_hash(self, counts: Iterable[tuple[str, int]]) -> None:
        self._fill("HSET", ((path, str(count)) for path, count in counts))

    def _fill(self, command: str, pairs: Iterator[tuple[str, str]]) -> None:
        while some := list(itertools.islice(pairs, AT_ONCE)):
            self.ask(command, COUNTS, *itertools.chain.from_iterable(some))

    def ask(self, *words: str) -> str:
        """What Redis answers to a command; of a list, its items on lines of their own."""
        sent = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in map(str.encode, words))
        with closing(socket.socket(socket.AF_UNIX)) as session:
            try:
                session.connect(self._socket)
            except OSError:
                return ""
            session.sendall(sent)
            with session.makefile("rb") as answer:
                return _answer(answer)


def _answer(answer: BinaryIO) -> str:
    """One answer in Redis's protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/"""
    line = answer.readline().decode().rstrip()
    kind, told = line[:1], line[1:]
    if kind == "$":
        # -1 is the length of what there is not; where it is asked for, it stands for a size.
        return "0" if told == "-1" else answer.read(int(told) + 2)[:-2].decode()
    if kind == "*":
        return "\n".join(_answer(answer) for _ in range(int(told)))
    if kind == "-":
        raise RuntimeError(f"Redis: {told}")
    return told


class DurableRedis(Redis):
    """Redis that has each command on disk before it answers."""

    options = ("--appendonly", "yes", "--appendfsync", "always")
