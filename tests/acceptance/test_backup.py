"""Backup and restore from the shell: under load, killed, of something else, from another release."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.load import Load
from tests.service import PROJECT, Service, free_port

pytestmark = pytest.mark.long

WAIT_SECONDS = 60


class Installation:
    """Commands on one database: the private one of a data directory, or one that DATABASE_URL names."""

    def __init__(self, data_dir: Path, url: str = "") -> None:
        data_dir.mkdir(exist_ok=True)
        self.data_dir = data_dir
        self.url = url
        own = {"HITCOUNTER_DATA_DIR": str(data_dir), "HITCOUNTER_BIND": f"127.0.0.1:{free_port()}"}
        self.environment = {**os.environ, **own, "DATABASE_URL": url}

    def run(self, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(**self.started_with(*arguments), capture_output=True, timeout=WAIT_SECONDS, **options)

    def start(self, *arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(**self.started_with(*arguments), **options)

    def started_with(self, *arguments: Any) -> dict[str, Any]:
        return {
            "args": [sys.executable, "manage.py", *map(str, arguments)],
            "cwd": PROJECT,
            "env": self.environment,
        }

    def service(self) -> Service:
        return Service(self.data_dir, DATABASE_URL=self.url)

    def ask(self, question: str) -> Any:
        """The first column of the first row; only where DATABASE_URL names the database."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(question.encode()).fetchone()
        return row[0] if row else None

    def count(self, *paths: str, hits: int = 1) -> None:
        """Count hits of these paths."""
        counted = f"[Counter.objects.increment(path, {hits}) for path in {paths!r}]"
        done = self.run("shell", "--verbosity=0", "-c", f"from counters.models import Counter; {counted}")
        assert done.returncode == 0, done.stderr

    def contents(self) -> list[Any]:
        """All that is counted."""
        with psycopg.connect(self.url) as connection:
            return [
                connection.execute(f"SELECT * FROM {table} AS t ORDER BY t::text".encode()).fetchall()  # noqa: S608
                for table in ("counters_counter", "counters_hourlyhits", "counters_hit", "counters_dimensionset")
            ]


@pytest.fixture
def database() -> Iterator[Callable[[], str]]:
    """Makes databases on the server of the tests, and drops them at the end."""
    server = conninfo_to_dict(os.environ["DATABASE_URL"])
    made: list[str] = []

    def make() -> str:
        made.append(f"backup_{uuid4().hex}")
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(made[-1])))
        return make_conninfo(**{**server, "dbname": made[-1]})

    yield make
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def installation(database: Callable[[], str], tmp_path: Path) -> Callable[[], Installation]:
    """Makes installations, each on an empty database of the tests' server."""
    return lambda: Installation(tmp_path / uuid4().hex, database())


@pytest.fixture
def counted(installation: Callable[[], Installation]) -> Installation:
    """An installation that has counted two paths."""
    made = installation()
    assert made.run("migrate", "--verbosity=0").returncode == 0
    made.count("/a", "/b", hits=3)
    return made


@pytest.fixture
def file(counted: Installation, tmp_path: Path) -> Path:
    """A backup of it."""
    assert counted.run("backup", tmp_path / "file").returncode == 0
    return tmp_path / "file"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def locked(installation: Installation, table: str) -> Iterator[None]:
    with psycopg.connect(installation.url) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield


def sessions(installation: Installation, of: str) -> int:
    """How many sessions of a program there are."""
    found: int = installation.ask(
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = '{of}'"  # noqa: S608
    )
    return found


@pytest.mark.parametrize("private", [True, False], ids=["private PostgreSQL", "DATABASE_URL"])
def test_under_load_a_backup_has_what_was_acknowledged_before_and_balances_once_restored(
    installation: Callable[[], Installation], tmp_path: Path, private: bool
):
    source, target = [Installation(tmp_path / name) for name in "ab"] if private else [installation(), installation()]
    file = tmp_path / "file"
    with source.service() as service, Load(service, "/api/backup/") as load:
        load.wait_for(500)
        acknowledged = load.acknowledged.copy()
        made = source.run("backup", file)
        sent = load.sent.copy()
        load.wait_for(100)
    assert made.returncode == 0, made.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    restored = target.run("restore", file)
    assert (restored.returncode, restored.stderr) == (0, b"")
    assert b"the books balance" in restored.stdout
    verified = target.run("verifycounts")
    assert (verified.returncode, b"the books balance" in verified.stdout) == (0, True)
    with target.service() as service:
        counts = service.counts("/api/backup/")
        assert service.get("/api/backup/0/").json()["count"] == counts["/api/backup/0/"] + 1
    assert sum(acknowledged.values()) >= 500
    for path in load.paths:
        assert acknowledged[path] <= counts.get(path, 0) <= sent[path], path
    assert f"{sum(counts.values()):,} hits".encode() in made.stdout


def test_a_restore_under_load_loses_none_of_the_hits_that_are_answered_after_it(counted: Installation, file: Path):
    with counted.service() as service, Load(service, "/api/restored/") as load:
        load.wait_for(200)
        restored = counted.run("restore", "--replace", file)
        assert (restored.returncode, restored.stderr) == (0, b"")
        acknowledged = load.acknowledged.copy()
        load.wait_for(200)
    for path in load.paths:
        count = counted.ask(f"SELECT hits FROM counters_counter WHERE path = '{path}'") or 0  # noqa: S608
        assert load.acknowledged[path] - acknowledged[path] <= count <= load.sent[path]
    assert (
        counted.ask(
            "SELECT count(*) FROM counters_hit WHERE dimensions_id NOT IN (SELECT id FROM counters_dimensionset)"
        )
        == 0
    )
    assert counted.run("verifycounts").returncode == 0


def test_a_restore_in_whose_way_is_who_waits_for_it_lets_that_one_go_first(counted: Installation, file: Path):
    waits = "SELECT count(*) FROM pg_locks WHERE relation = 'counters_batchledger'::regclass AND NOT granted"
    with psycopg.connect(counted.url) as other:
        other.execute("SET deadlock_timeout = '1min'")  # so that PostgreSQL undoes the restore
        other.execute("LOCK TABLE counters_batchledger IN ACCESS SHARE MODE")
        command = counted.start("restore", "--replace", file, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda: counted.ask(waits) == 1)
        other.execute("LOCK TABLE counters_counter IN ACCESS SHARE MODE")
    out, err = command.communicate(timeout=WAIT_SECONDS)
    assert (command.returncode, err) == (0, b"")
    assert b"the books balance" in out


def test_visitors_salts_and_sessions_are_left_out_and_idempotency_keys_and_the_ledger_are_not(
    counted: Installation, installation: Callable[[], Installation], tmp_path: Path
):
    with psycopg.connect(counted.url) as connection:
        connection.execute("INSERT INTO counters_visitorsalt VALUES ('2026-03-01', 'salt')")
        connection.execute("INSERT INTO django_session VALUES ('key', 'data', now())")
        connection.execute("INSERT INTO counters_idempotencykey VALUES ('key', 'hash', 7, now())")
        connection.execute("INSERT INTO counters_batchledger VALUES (gen_random_uuid(), 7, now(), '1')")
    target = installation()
    assert counted.run("backup", tmp_path / "file").returncode == 0
    assert target.run("restore", tmp_path / "file").returncode == 0
    rows = {
        table: target.ask(f"SELECT count(*) FROM {table}")  # noqa: S608
        for table in ("counters_visitorsalt", "django_session", "counters_idempotencykey", "counters_batchledger")
    }
    assert rows == {
        "counters_visitorsalt": 0,
        "django_session": 0,
        "counters_idempotencykey": 1,
        "counters_batchledger": 1,
    }


def test_standard_output_and_input_do_as_well(counted: Installation, installation: Callable[[], Installation]):
    made, target = counted.run("backup", "-"), installation()
    assert (made.returncode, made.stdout[:5]) == (0, b"PGDMP")
    assert made.stderr.startswith(b"Backed up 2 paths with 6 hits, ")
    assert target.run("restore", "-", input=made.stdout).returncode == 0
    assert target.contents() == counted.contents()


def test_no_secret_is_in_an_argument(counted: Installation, tmp_path: Path):
    secrets = {"password": "sesame", "sslpassword": "sesame too", "oauth_client_secret": "sesame as well"}
    counted.environment["DATABASE_URL"] = make_conninfo(counted.url, **secrets)
    with locked(counted, "counters_loadtestrun"):
        command = counted.start("backup", tmp_path / "file", stdout=subprocess.DEVNULL)
        wait_until(lambda: sessions(counted, "pg_dump") == 1)
        said = [process.read_bytes() for process in Path("/proc").glob("[0-9]*/cmdline") if process.exists()]
    assert command.wait(WAIT_SECONDS) == 0
    assert any(b"pg_dump" in arguments for arguments in said)
    assert not any(b"sesame" in arguments for arguments in said)
    assert counted.run("restore", "--replace", tmp_path / "file").returncode == 0


# Files


def test_a_file_that_is_there_is_replaced_by_force_alone(counted: Installation, file: Path):
    counted.count("/c")
    before = file.read_bytes()
    refused = counted.run("backup", file)
    assert (refused.returncode, file.read_bytes()) == (1, before)
    assert (
        refused.stderr == f"CommandError: No backup was made: {file} is there already; --force replaces it.\n".encode()
    )
    assert counted.run("backup", "--force", file).stdout.startswith(b"Backed up 3 paths with 7 hits in ")
    assert sorted(file.parent.glob("file*")) == [file]


@pytest.mark.parametrize("name", ["none/file", "."])
def test_where_no_file_can_be_written_no_backup_is_made(counted: Installation, tmp_path: Path, name: str):
    refused = counted.run("backup", tmp_path / name)
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"CommandError: No backup was made: ") and refused.stderr.count(b"\n") == 1


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_backup_that_is_killed_leaves_no_file_and_does_no_harm(counted: Installation, tmp_path: Path, how: str):
    file, before = tmp_path / "file", counted.contents()
    with locked(counted, "counters_loadtestrun"):
        command = counted.start("backup", file)
        wait_until(lambda: sessions(counted, "pg_dump") == 1)
        getattr(command, how)()
        assert command.wait(WAIT_SECONDS) != 0
        assert not file.exists()
        assert how == "kill" or not list(tmp_path.glob("file*"))
    wait_until(lambda: sessions(counted, "pg_dump") == 0)
    assert counted.contents() == before
    assert counted.run("backup", file).returncode == 0
    assert sorted(tmp_path.glob("file*")) == [file]


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_restore_that_is_killed_leaves_the_database_as_it_was(counted: Installation, file: Path, how: str):
    counted.count("/c")
    before, backup = counted.contents(), file.read_bytes()
    command = counted.start("restore", "--replace", "-", stdin=subprocess.PIPE)
    assert command.stdin
    command.stdin.write(backup[:-100])
    command.stdin.flush()
    wait_until(lambda: bool(counted.ask(HAS_DROPPED)))
    getattr(command, how)()
    assert command.wait(WAIT_SECONDS) != 0
    command.stdin.close()
    wait_until(lambda: sessions(counted, "psql") == 0)
    assert counted.contents() == before
    assert counted.run("verifycounts").returncode == 0


HAS_DROPPED = (
    "SELECT 1 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
    " WHERE a.application_name = 'psql' AND a.state = 'idle in transaction'"
    " AND l.relation = 'counters_counter'::regclass AND l.mode = 'AccessExclusiveLock' AND l.granted"
)


@pytest.mark.parametrize(
    ("lock", "what"), [("migrate", "a migration"), ("maintenance", "maintenance"), ("reset", "a reset or a forgetting")]
)
def test_what_a_restore_waits_for_is_told_and_waited_for_past_the_limit_of_a_statement(
    counted: Installation, file: Path, lock: str, what: str
):
    before = counted.contents()
    with psycopg.connect(counted.url, autocommit=True) as other:
        other.execute(f"ALTER DATABASE {other.info.dbname} SET statement_timeout = '400ms'".encode())
        other.execute(f"SELECT pg_advisory_lock(hashtextextended('counters {lock}', 0))".encode())
        restoring = counted.start("restore", "--replace", file, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert restoring.stderr and restoring.stderr.readline() == f"Waiting for {what} to end.\n".encode()
        time.sleep(0.6)
        assert restoring.poll() is None
    _, complaints = restoring.communicate(timeout=WAIT_SECONDS)
    assert (restoring.returncode, complaints) == (0, b"")
    assert counted.contents() == before


# What is refused


def test_a_database_that_holds_counts_is_replaced_only_when_told_so(counted: Installation, file: Path):
    was = counted.contents()
    counted.count("/c")
    before = counted.contents()
    refused = counted.run("restore", file)
    assert refused.returncode == 1 and counted.contents() == before
    assert refused.stderr == (
        b"CommandError: Nothing was restored: The database holds counts; --replace has the backup replace them.\n"
    )
    assert counted.run("restore", "--replace", file).returncode == 0
    assert counted.contents() == was


def test_a_database_that_was_migrated_and_holds_no_counts_needs_no_leave(
    counted: Installation, file: Path, installation: Callable[[], Installation]
):
    target = installation()
    assert target.run("migrate", "--verbosity=0").returncode == 0
    assert target.run("restore", file).returncode == 0
    assert target.contents() == counted.contents()


def test_tables_of_something_else_are_left_alone(file: Path, installation: Callable[[], Installation]):
    target = installation()
    with psycopg.connect(target.url) as connection:
        connection.execute("CREATE TABLE auth_user AS SELECT 1 AS n")
    refused = target.run("restore", "--replace", file)
    assert (refused.returncode, target.ask("SELECT n FROM auth_user")) == (1, 1)
    assert b"The database holds tables of something else: public.auth_user." in refused.stderr.replace(
        b" auth_user", b" public.auth_user"
    )


@pytest.mark.parametrize(
    "made",
    [lambda whole: whole[: len(whole) // 2], lambda whole: whole[:-1000], lambda _: b"", lambda _: b"-- SQL\n" * 999],
    ids=["half", "almost all", "nothing", "text"],
)
def test_what_is_no_whole_backup_changes_nothing(counted: Installation, file: Path, made: Callable[[bytes], bytes]):
    counted.count("/c")
    before = counted.contents()
    file.write_bytes(made(file.read_bytes()))
    refused = counted.run("restore", "--replace", file)
    assert refused.returncode == 1 and counted.contents() == before
    assert refused.stderr.startswith(b"CommandError: Nothing was restored: It is no backup, or not all of one: ")
    assert refused.stderr.count(b"\n") == 1


def test_a_backup_of_something_else_changes_nothing(
    counted: Installation, installation: Callable[[], Installation], tmp_path: Path
):
    other, before = installation(), counted.contents()
    assert other.run("migrate", "--verbosity=0").returncode == 0
    assert other.run("backup", tmp_path / "file").returncode == 0
    with psycopg.connect(other.url) as connection:
        connection.execute("ALTER TABLE counters_counter RENAME TO something_else")
        connection.execute("CREATE VIEW counters_counter AS SELECT 1 AS hits")
        connection.execute("DROP TABLE django_migrations")
    assert other.run("backup", "--force", tmp_path / "file").returncode == 0
    refused = counted.run("restore", "--replace", tmp_path / "file")
    assert refused.returncode == 1 and counted.contents() == before
    assert b"It is a backup of something else." in refused.stderr


def test_a_backup_of_a_newer_release_changes_nothing(counted: Installation, tmp_path: Path):
    with psycopg.connect(counted.url) as connection:
        connection.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('counters', '9999_new', now())")
    assert counted.run("backup", tmp_path / "file").returncode == 0
    before = counted.contents()
    refused = counted.run("restore", "--replace", tmp_path / "file")
    assert refused.returncode == 1 and counted.contents() == before
    assert b"made by a newer release (its migration counters.9999_new is not known here)" in refused.stderr


def test_a_backup_of_an_older_release_is_brought_up_to_date(
    counted: Installation, installation: Callable[[], Installation], tmp_path: Path
):
    old, target = installation(), installation()
    assert old.run("migrate", "--verbosity=0", "counters", "0011").returncode == 0
    assert old.run("backup", tmp_path / "file").returncode == 0
    assert target.run("restore", tmp_path / "file").returncode == 0
    assert target.run("migrate", "--check").returncode == 0


def test_books_that_do_not_balance_are_told(
    counted: Installation, installation: Callable[[], Installation], tmp_path: Path
):
    with psycopg.connect(counted.url) as connection:
        connection.execute("UPDATE counters_counter SET hits = 4 WHERE path = '/a'")
    assert counted.run("backup", tmp_path / "file").returncode == 0
    restored = installation().run("restore", tmp_path / "file")
    assert restored.returncode == 1
    assert b"The books do not balance: 1 of 2 paths differ" in restored.stderr


def test_a_server_that_is_away_is_told_in_a_sentence(counted: Installation, file: Path, tmp_path: Path):
    counted.environment["DATABASE_URL"] = make_conninfo(counted.url, host=str(tmp_path))
    for arguments in (["backup", tmp_path / "other"], ["restore", file]):
        refused = counted.run(*arguments)
        assert refused.returncode == 1
        assert b"The database cannot be reached: " in refused.stderr.splitlines()[-1]
