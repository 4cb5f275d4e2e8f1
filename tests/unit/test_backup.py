"""Which of PostgreSQL's programs back up and restore, and how what they complain of is told."""

import fcntl
import io
import subprocess
from pathlib import Path
from typing import IO

import pytest

from hitcounter import backup
from hitcounter.backup import BackupError, written_aside
from hitcounter.conninfo import SECRETS
from hitcounter.postgres import MAJOR_VERSION, binaries


def installed(directory: Path, version: str) -> Path:
    """A directory with programs of another version."""
    for name in ("pg_dump", "pg_restore", "psql"):
        (directory / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (directory / name).chmod(0o755)
    return directory


@pytest.mark.parametrize(
    ("version", "chosen"), [("16.4 (Debian 16.4-1)", "path"), ("15.1", "at hand"), ("19beta1", "path")]
)
def test_a_backup_is_made_by_what_is_in_the_path_if_it_is_as_new_as_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, chosen: str
):
    monkeypatch.setenv("PATH", str(installed(tmp_path, version)))
    assert backup._dumper(16) == (tmp_path if chosen == "path" else binaries())


@pytest.mark.parametrize(("version", "chosen"), [("17.4", "at hand"), ("19.1", "path")])
def test_a_restore_is_done_by_the_newest_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, chosen: str
):
    monkeypatch.setenv("PATH", str(installed(tmp_path, version)))
    assert backup._restorer(16) == (tmp_path if chosen == "path" else binaries())


def test_where_nothing_is_new_enough_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    newer = MAJOR_VERSION + 1
    monkeypatch.setenv("PATH", str(installed(tmp_path, "15.1")))
    for choose in (backup._dumper, backup._restorer):
        with pytest.raises(BackupError, match=f"a PostgreSQL {newer}, .*postgresql-client-{newer} on Debian"):
            choose(newer)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            b"pg_dump: error: connection to server failed: FATAL:  no room\n",
            "connection to server failed: FATAL:  no room.",
        ),
        (b"psql:<stdin>:12: ERROR:  It is a backup of something else.\nmore\n", "It is a backup of something else."),
        (b"killed\n", "killed."),
        (b"", "it ended without a word."),
    ],
)
def test_the_first_error_is_told(said: bytes, told: str):
    assert backup._complaint(io.BytesIO(said)) == told


def test_what_old_servers_do_not_know_is_left_out_for_them_alone():
    script = b"SET lock_timeout = 0;\nSET transaction_timeout = 0;\n" + b"SELECT 1;\n" * 99
    for old, expected in ((True, script.replace(b"SET transaction_timeout = 0;\n", b"")), (False, script)):
        copy = io.BytesIO()
        backup._copy_script(io.BytesIO(script), copy, old_server=old)
        assert copy.getvalue() == expected


def test_a_file_that_fails_half_way_leaves_nothing(tmp_path: Path):
    with pytest.raises(io.UnsupportedOperation), written_aside(tmp_path / "file", force=False) as target:
        target.read()
    assert list(tmp_path.iterdir()) == []


def test_two_backups_to_the_same_file_do_not_mix(tmp_path: Path):
    again = written_aside(tmp_path / "file", force=False)
    with written_aside(tmp_path / "file", force=False) as first:
        with pytest.raises(BackupError, match="Another backup is being written"):
            again.__enter__()
        first.write(b"first")
    assert (tmp_path / "file").read_bytes() == b"first"


def test_a_backup_that_ends_before_the_next_has_its_lock_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file, lock, opened = tmp_path / "file", fcntl.flock, []

    def lock_after_the_other_ended(target: IO[bytes], operation: int) -> None:
        if not opened:
            target.write(b"first")
            target.flush()
            (tmp_path / "file.part").rename(file)
        opened.append(target)
        lock(target, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_the_other_ended)
    with pytest.raises(BackupError, match="is there already"), written_aside(file, force=False) as second:
        second.write(b"second")
    assert file.read_bytes() == b"first"
    assert [target.closed for target in opened] == [True, True]
    assert list(tmp_path.iterdir()) == [file]


def test_what_others_could_read_of_a_backup_that_was_killed_they_can_read_no_more(tmp_path: Path):
    (tmp_path / "file.part").write_bytes(b"half")
    (tmp_path / "file.part").chmod(0o644)
    with written_aside(tmp_path / "file", force=False) as target:
        target.write(b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


# Secrets


def told(monkeypatch: pytest.MonkeyPatch, **parameters: str) -> bytes:
    """What a program finds in its environment and its service file when the database is reached by these."""
    monkeypatch.setattr(backup, "parameters", lambda: parameters)
    script = 'echo "$PGPASSWORD"; cat ${PGSERVICEFILE:-/dev/null}; echo "$@"'
    with backup._running(Path("/bin/sh"), "-c", script, "sh", *backup._database(), stdout=subprocess.PIPE) as (sh, _):
        said, _ = sh.communicate()
    return bytes(said)


def test_a_password_is_told_in_the_environment(monkeypatch: pytest.MonkeyPatch):
    said = told(monkeypatch, host="db", password="sesame")
    assert said == b"sesame\n--dbname=host=db --no-password\n"


@pytest.mark.parametrize("name", sorted(SECRETS - {"password"}))
def test_other_secrets_are_told_in_a_service_file(monkeypatch: pytest.MonkeyPatch, name: str):
    said = told(monkeypatch, host="db", **{name: "open sesame"})
    assert said == f"\n[hitcounter]\n{name}=open sesame\n--dbname=host=db service=hitcounter --no-password\n".encode()


@pytest.mark.parametrize("secret", [" sesame", "sesame ", "sesame\nhost=elsewhere"])
def test_what_a_service_file_cannot_say_is_refused(monkeypatch: pytest.MonkeyPatch, secret: str):
    with pytest.raises(BackupError, match="The sslpassword in DATABASE_URL begins or ends with a space"):
        told(monkeypatch, sslpassword=secret)


def test_a_secret_beside_a_service_of_the_operators_own_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(BackupError, match="sslpassword beside a service"):
        told(monkeypatch, sslpassword="sesame", service="mine")
    monkeypatch.setenv("PGSERVICE", "mine")
    with pytest.raises(BackupError, match="sslpassword beside a service"):
        told(monkeypatch, sslpassword="sesame")
