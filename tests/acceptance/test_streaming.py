"""The full list is streamed: a worker's memory does not grow with it."""

import time
from pathlib import Path

import psycopg
import requests

from hitcounter.postgres import PrivatePostgres
from tests.service import Service, put_database

PATHS = 300_000
MANY = """
    INSERT INTO counters_counter (id, path, hits, first_hit, last_hit)
    SELECT md5(n::text)::uuid, '/api/' || repeat('segment/', 6) || n || '/', 1 + n %% 7, now(), now()
    FROM generate_series(1, %s) AS n
"""


def resident_kilobytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_the_full_list_costs_no_memory(tmp_path: Path):
    with (
        PrivatePostgres(put_database(tmp_path / "postgres")).held() as database,
        Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1") as service,
    ):
        service.counts("/nothing/")
        (worker,) = map(
            int, Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
        )
        before = resident_kilobytes(worker)
        with psycopg.connect(database.url) as connection:
            connection.execute(MANY, [PATHS])
        lines, size, most = 0, 0, before
        with requests.get(f"{service.url}/stats/?format=ndjson", stream=True, timeout=60) as answer:
            for piece in answer.iter_content(1 << 20):
                lines += piece.count(b"\n")
                size += len(piece)
                most = max(most, resident_kilobytes(worker))
    assert lines == PATHS
    assert size > 20_000_000
    assert most - before < 20_000, f"the worker grew by {most - before:,} kB while it sent {size:,} bytes"


def test_clients_that_leave_amid_the_list_leave_nothing_behind(tmp_path: Path):
    with (
        PrivatePostgres(put_database(tmp_path / "postgres")).held() as database,
        Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="1") as service,
        psycopg.connect(database.url, autocommit=True) as connection,
    ):
        connection.execute(MANY, [100_000])
        for _ in range(15):
            with requests.get(f"{service.url}/stats/", stream=True, timeout=60) as answer:
                assert answer.raw.read(1000)
        deadline = time.monotonic() + 30
        while (left := kept_results(connection)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == 0
        assert len(service.counts()) == 100_000


def kept_results(connection: psycopg.Connection) -> int:
    """The bytes that cursors which nobody has closed keep on the server's disk."""
    row = connection.execute("SELECT coalesce(sum(size), 0) FROM pg_ls_tmpdir()").fetchone()
    assert row
    return int(row[0])
