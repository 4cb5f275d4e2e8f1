"""The private PostgreSQL: started once, shared, started again after a crash, stopped by the last who uses it."""

import errno
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
from tests.processes import children


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


def test_its_log_is_in_small_files(directory: Path):
    with PrivatePostgres(directory).held() as database:
        assert ask(database, "SHOW wal_segment_size") == "1MB"
        assert ask(database, "SHOW min_wal_size") == "256MB"


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


def owners_and_modes(*places: Path) -> list[tuple[int, int, int]]:
    return [(found.st_uid, found.st_gid, found.st_mode) for found in (place.stat() for place in places)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is another user's")
@pytest.mark.parametrize("alone", ["postgres", "data"])
def test_root_leaves_the_cluster_of_another_user_as_it_is_and_says_who_its_owner_is(tmp_path: Path, alone: str):
    directory = tmp_path / "closed" / "postgres"
    (directory / "data").mkdir(parents=True)
    (directory / "data" / "PG_VERSION").write_text("18\n")
    (directory / "log").write_text("")
    nobody = pwd.getpwnam("nobody")
    theirs = {"postgres": [directory, directory / "data", directory / "log"], "data": [directory / "data"]}[alone]
    for place in theirs:
        os.chown(place, nobody.pw_uid, nobody.pw_gid)
    directory.parent.chmod(0o700)
    everything = [directory.parent, directory, *directory.rglob("*")]
    before = owners_and_modes(*everything)
    with pytest.raises(PostgresError, match=r"belongs to nobody: .*sudo -u nobody") as refused:
        PrivatePostgres(directory).held().__enter__()
    assert "remove" not in str(refused.value)
    assert owners_and_modes(*everything) == before
    assert [directory.parent, directory, *directory.rglob("*")] == everything


def test_a_link_in_the_place_of_the_data_is_not_followed(directory: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    directory.mkdir()
    (directory / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PostgresError, match="a link") as refused, PrivatePostgres(directory).held():
        pass
    assert "remove" not in str(refused.value)


@pytest.mark.parametrize(
    "doomed", [postmaster, lambda directory: children(postmaster(directory))[0]], ids=["all", "one"]
)
def test_it_starts_again_after_a_crash(directory: Path, doomed: Callable[[Path], int]):
    with PrivatePostgres(directory).held() as database:
        with psycopg.connect(database.url) as connection:
            connection.execute("CREATE TABLE survived AS SELECT 1 AS n")
        os.kill(doomed(directory), signal.SIGKILL)
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


def test_a_configuration_that_stands_is_not_written_again_and_one_that_does_not_is_replaced(directory: Path):
    kept, changed = (directory / "data" / name for name in ("hitcounter.conf", "pg_hba.conf"))
    with PrivatePostgres(directory).held():
        before, wanted = kept.stat().st_ino, changed.read_text()
    changed.write_text("")
    with PrivatePostgres(directory).held() as database:
        assert (kept.stat().st_ino, changed.read_text()) == (before, wanted)
        assert ask(database, "SELECT 1") == "1"


def test_a_disk_without_room_for_its_configuration_is_a_reason_not_to_start(directory: Path):
    class Full(PrivatePostgres):
        def _write(self, path: Path, text: str) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(PostgresError, match="No space left on device"), Full(directory).held():
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
