"""The private PostgreSQL: started once, shared, started again after a crash, stopped by the last who uses it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from hitcounter.postgres import (
    DATABASE,
    LONGEST_SOCKET_PATH,
    ROLE,
    SOCKET_NAME,
    PostgresError,
    PrivatePostgres,
    binaries,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


def ask(database: PrivatePostgres, question: str) -> str:
    with psycopg.connect(database.url) as connection:
        row = connection.execute(question).fetchone()  # type: ignore[arg-type]
    assert row
    return str(row[0])


def postmaster(directory: Path) -> int:
    return int((directory / "data" / "postmaster.pid").read_text().split()[0])


def test_it_is_there_while_it_is_held_and_keeps_its_data(directory: Path):
    with PrivatePostgres(directory).held() as database, psycopg.connect(database.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    assert not database.running()
    with PrivatePostgres(directory).held() as database:
        assert ask(database, "SELECT n FROM kept") == "7"


def test_the_last_who_uses_it_stops_it(directory: Path):
    with PrivatePostgres(directory).held() as first:
        with PrivatePostgres(directory).held() as second:
            assert ask(second, "SELECT 1") == "1"
        assert ask(first, "SELECT 1") == "1"
    assert not first.running()


def test_it_listens_on_no_network_address_and_lets_in_its_user_alone(directory: Path):
    with PrivatePostgres(directory).held() as database:
        assert ask(database, "SHOW listen_addresses") == ""
        rules = ask(database, "SELECT string_agg(type || ' ' || auth_method, ', ') FROM pg_hba_file_rules")
        assert rules == "local peer"
    for private in (directory / "data", database.socket_directory):
        assert private.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")
def test_another_user_of_the_machine_is_not_let_in_even_past_the_directory(directory: Path):
    def ask_as_nobody(database: PrivatePostgres) -> str:
        psql = [binaries() / "psql", "-h", database.socket_directory, "-U", ROLE, "-d", DATABASE, "-c", "SELECT 1"]
        done = subprocess.run(psql, user="nobody", group="nogroup", cwd="/", capture_output=True, text=True)
        assert done.returncode != 0
        return done.stderr

    with PrivatePostgres(directory).held() as database:
        assert "Permission denied" in ask_as_nobody(database)
        for opened in (*directory.resolve().parents, directory, database.socket_directory):
            opened.chmod(opened.stat().st_mode | 0o001)
        (database.socket_directory / SOCKET_NAME).chmod(0o777)
        assert "Peer authentication failed" in ask_as_nobody(database)


def test_it_starts_again_after_a_crash(directory: Path):
    with PrivatePostgres(directory).held() as database:
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE survived AS SELECT 1 AS n")
        os.kill(postmaster(directory), signal.SIGKILL)
        while database.running():
            time.sleep(0.05)
        database.start()
        assert ask(database, "SELECT n FROM survived") == "1"


def test_an_interrupted_first_start_is_begun_anew(directory: Path):
    (directory / "data" / "half").mkdir(parents=True, mode=0o700)
    (directory / "data").chmod(0o700)
    (directory / "data" / "half" / "PG_VERSION").write_text("18")
    with PrivatePostgres(directory).held() as database:
        assert ask(database, "SELECT 1") == "1"


def test_data_of_another_major_version_is_left_alone(directory: Path):
    with PrivatePostgres(directory).held():
        pass
    (directory / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(PostgresError, match=r"PostgreSQL 17.*docs/operations\.md"), PrivatePostgres(directory).held():
        pass


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path):
    deep = tmp_path / ("d" * LONGEST_SOCKET_PATH)
    with PrivatePostgres(deep).held() as database:
        assert not database.socket_directory.is_relative_to(deep)
        assert ask(database, "SELECT 1") == "1"
    database.socket_directory.rmdir()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PostgresError, match="HITCOUNTER_DATA_DIR"), PrivatePostgres(tmp_path / "file" / "x").held():
        pass


def test_a_server_that_cannot_be_started_again_at_once_is_tried_again_while_the_command_goes_on(directory: Path, capfd):
    class Unwilling(PrivatePostgres):
        watched, attempts = False, 0

        def running(self) -> bool:
            return not self.watched and super().running()

        def start(self) -> None:
            if self.watched:
                self.attempts += 1
                raise PostgresError("not yet")
            super().start()

    ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with Unwilling(directory).held() as database:
        database.watched = True
        status = database.run_beside([sys.executable, "-c", "import sys, time; time.sleep(2.5); sys.exit(7)"])
        database.watched = False
    for number, handler in ours.items():
        signal.signal(number, handler)
    assert status == 7
    assert database.attempts == 2
    assert capfd.readouterr().err.count("not yet") == 2
