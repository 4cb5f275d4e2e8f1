"""Backup and restore by PostgreSQL's own pg_dump, pg_restore and psql, streamed: of any size, in little memory."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from django.apps import apps
from django.db import OperationalError, ProgrammingError, connection, transaction
from django.db.migrations.loader import MigrationLoader
from psycopg import sql
from psycopg.conninfo import make_conninfo

from counters.sentences import reason_of
from counters.sql import load
from hitcounter.conninfo import SECRETS, parameters
from hitcounter.postgres import PostgresError, binaries

#: Whose rows stay out of a backup: with salts, visitors could be found again among the hits; sessions open doors; and
#: what is noted of logins has addresses.
LEFT_OUT = ("counters_visitorsalt", "django_session", "axes_*")
CHUNK_BYTES = 2**20
#: The first lines of a script that pg_restore writes set up the session; the longest of those seen has thirty.
HEADER_LINES = 60
#: Where psql tells at once what it waits for; what it complains of is told when it has ended.
STANDARD_ERROR = 2
#: A setting that servers before PostgreSQL 17 do not know. It is off unless somebody sets it.
_UNKNOWN_TO_OLD_SERVERS = b"SET transaction_timeout = 0;"

#: What the programs are told to look up in the service file that they are given.
_SERVICE = "hitcounter"
# Locked before the snapshot is taken: no day's partition can be dropped from then on.
_SNAPSHOT = """
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
LOCK TABLE counters_hit IN ACCESS SHARE MODE;
"""
_HELD = load("backup_held")
_BEGIN = sql.SQL(load("restore_begin"))
_END = sql.SQL(load("restore_end"))


class BackupError(Exception):
    """A backup could not be made, or not be restored; the message says why, and nothing was changed."""


class Held(NamedTuple):
    """What a backup holds: paths, and their hits."""

    paths: int
    hits: int


@contextmanager
def written_aside(file: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """A file to write to that takes this name when all of it is on the disk; it is for its owner alone.

    Raises BackupError when there is such a file, unless `force`, or when another backup to it is being written.
    """
    _check_free(file, force)
    aside = file.with_name(f"{file.name}.part")
    with _locked(aside) as target:
        try:
            target.truncate(0)  # what a backup that was killed has left
            yield target
            target.flush()
            os.fsync(target.fileno())
            _check_free(file, force)
            aside.rename(file)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    _sync_directory(file.parent)


def _locked(aside: Path) -> IO[bytes]:
    """The file of this name, opened, for its owner alone, and locked until it is closed. Raises BackupError."""
    while True:
        target = open(aside, "ab", opener=_for_its_owner_alone)  # noqa: SIM115 (its caller closes it)
        try:
            fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(aside, target):
                os.fchmod(target.fileno(), 0o600)  # the mode it is opened with is that of new files alone
                return target
        except BlockingIOError:
            target.close()
            raise BackupError(f"Another backup is being written to {aside}.") from None
        target.close()  # the other backup ended before this one had the lock, and took the file with it


def _is_still(file: Path, opened: IO[bytes]) -> bool:
    try:
        return os.path.samestat(file.lstat(), os.fstat(opened.fileno()))
    except FileNotFoundError:
        return False


def _check_free(file: Path, force: bool) -> None:
    if file.is_dir():
        raise BackupError(f"{file} is a directory.")
    if file.exists() and not force:
        raise BackupError(f"{file} is there already; --force replaces it.")


def _for_its_owner_alone(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def back_up(target: IO[bytes]) -> Held:
    """Write all that the database holds at one moment, but for what is LEFT_OUT. Raises BackupError."""
    program = _dumper(_server_version()) / "pg_dump"
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_SNAPSHOT)
            cursor.execute(_HELD)
            snapshot, *held = cursor.fetchone()
            _dump(program, snapshot, target)
    except ProgrammingError as error:
        raise BackupError(f"There is nothing to back up: {reason_of(error)}.") from error
    except OperationalError as error:
        raise BackupError(f"The database cannot be read: {reason_of(error)}.") from error
    return Held(*held)


def _dump(program: Path, snapshot: str, target: IO[bytes]) -> None:
    options = [
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        "--schema=public",
        *(f"--exclude-table-data=public.{table}" for table in LEFT_OUT),
        f"--snapshot={snapshot}",
    ]
    # Through a pipe, which breaks when this process is killed: pg_dump then ends as well.
    with _running(program, *options, *_database(), stdout=subprocess.PIPE) as (process, complaints):
        assert process.stdout
        shutil.copyfileobj(process.stdout, target, CHUNK_BYTES)
        if process.wait() != 0:
            raise BackupError(f"pg_dump failed: {_complaint(complaints)}")


def restore(source: IO[bytes], *, replace: bool) -> None:
    """Put what a backup holds in the place of what the database holds, in one transaction. Raises BackupError.

    Unless `replace`, the database must hold no counts. Who is connected to it is cut off at the end.
    """
    version = _server_version()
    connection.close()
    programs = _restorer(version)
    prefixes = ["django_", *(f"{app.label}_" for app in apps.get_app_configs())]
    with (
        _running(
            programs / "pg_restore", "--no-owner", "--no-privileges", "--schema=public", "--file=-",
            stdin=source, stdout=subprocess.PIPE,
        ) as (reading, unread),
        _running(
            programs / "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=terse", *_database(),
            stdin=subprocess.PIPE, stdout=STANDARD_ERROR,
        ) as (writing, unwritten),
    ):  # fmt: skip
        assert reading.stdout
        assert writing.stdin
        try:
            writing.stdin.write(_BEGIN.format(prefixes=prefixes, replace=replace).as_bytes())
            writing.stdin.flush()  # what is in its way is told before all of the backup has been read
            _copy_script(reading.stdout, writing.stdin, old_server=version < 17)
            if reading.wait() == 0:  # else it is not committed, as when this process is killed
                writing.stdin.write(_END.format(known=_known_migrations()).as_bytes())
            writing.stdin.close()
        except BrokenPipeError:
            pass  # it says below why it went
        if writing.wait() != 0:
            raise BackupError(_complaint(unwritten))
        if reading.wait() != 0:
            raise BackupError(f"It is no backup, or not all of one: {_complaint(unread)}")


def _copy_script(source: IO[bytes], target: IO[bytes], *, old_server: bool) -> None:
    for line in islice(source, HEADER_LINES):
        if not (old_server and line.startswith(_UNKNOWN_TO_OLD_SERVERS)):
            target.write(line)
    shutil.copyfileobj(source, target, CHUNK_BYTES)


def _known_migrations() -> list[str]:
    """What this release can bring up to date, as in the database: app.name."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    replaced = {name for migration in loader.disk_migrations.values() for name in migration.replaces}
    return sorted(f"{app}.{name}" for app, name in {*loader.disk_migrations, *replaced})


@contextmanager
def _running(program: Path, *arguments: str, **streams: Any) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A program of PostgreSQL's that is gone at the end, and the file with its complaints."""
    with _secrets() as (variables, files), tempfile.TemporaryFile() as complaints:
        environment = {**os.environ, "LC_ALL": "C", **variables}
        process = subprocess.Popen([program, *arguments], stderr=complaints, env=environment, pass_fds=files, **streams)
        try:
            yield process, complaints
        finally:
            process.kill()
            for stream in (process.stdin, process.stdout):
                _close(stream)
            process.wait()


def _close(stream: IO[bytes] | None) -> None:
    if stream:
        with suppress(BrokenPipeError):  # over what it had not yet read when it ended
            stream.close()


@contextmanager
def _secrets() -> Iterator[tuple[dict[str, str], list[int]]]:
    """The variables and the open files that tell a program what is secret in how the database is reached.

    Other users of the machine can read what programs are called with, but neither of these.
    """
    password = parameters().get("password")
    variables = {"PGPASSWORD": str(password)} if password else {}
    if not (others := _without_a_variable()):
        yield variables, []
        return
    with tempfile.TemporaryFile() as file:  # it has no name, and so is not left behind by a process that is killed
        file.write("".join([f"[{_SERVICE}]\n", *(f"{name}={value}\n" for name, value in others.items())]).encode())
        file.seek(0)
        yield {**variables, "PGSERVICEFILE": f"/dev/fd/{file.fileno()}"}, [file.fileno()]


def _without_a_variable() -> dict[str, str]:
    """The secrets that libpq reads from no variable, but from a service file. Raises BackupError if it could not."""
    given = parameters()
    found = {name: str(given[name]) for name in sorted(SECRETS - {"password"}) if given.get(name)}
    if found and (given.get("service") or os.environ.get("PGSERVICE")):  # there is no second one
        raise BackupError(f"DATABASE_URL has {', '.join(found)} beside a service: have the service's file say it.")
    for name, value in found.items():
        if value != value.strip() or len(value.splitlines()) > 1:
            raise BackupError(f"The {name} in DATABASE_URL begins or ends with a space, or has more than one line.")
    return found


def _database() -> list[str]:
    shown = {name: value for name, value in parameters().items() if name not in SECRETS}
    service = {"service": _SERVICE} if _without_a_variable() else {}
    return [f"--dbname={make_conninfo(**shown, **service)}", "--no-password"]


def _server_version() -> int:
    try:
        connection.ensure_connection()
    except OperationalError as error:
        raise BackupError(f"The database cannot be reached: {reason_of(error)}.") from error
    return int(connection.connection.info.server_version) // 10000


def _dumper(least: int) -> Path:
    """Where there is a pg_dump that can read from a server of this version; that of the system goes first."""
    for directory, version in _installed("pg_dump"):
        if version >= least:
            return directory
    raise BackupError(_missing("pg_dump", least))


def _restorer(least: int) -> Path:
    """Where there are the newest pg_restore and psql: an older one may not be able to read the backup."""
    found = [(version, directory) for directory, version in _installed("pg_restore") if version >= least]
    if not found:
        raise BackupError(_missing("pg_restore and psql", least))
    return max(found)[1]


def _installed(program: str) -> Iterator[tuple[Path, int]]:
    """The directories that have this program with psql beside it, and its major version."""
    found = shutil.which(program)
    places = [Path(found).parent] if found else []
    with suppress(PostgresError):  # an installation for a server of one's own may do without them
        places.append(binaries())
    for place in places:
        if (place / program).exists() and (place / "psql").exists():
            said = subprocess.run([place / program, "--version"], capture_output=True, text=True).stdout
            if version := re.search(r"\) (\d+)", said):
                yield place, int(version[1])


def _missing(programs: str, least: int) -> str:
    return (
        f"The server is a PostgreSQL {least}, and there is no {programs} of that version or a newer one: "
        f"install its client programs, postgresql-client-{least} on Debian and Ubuntu."
    )


def _complaint(complaints: IO[bytes]) -> str:
    """The first error that a program has told, as a sentence."""
    complaints.seek(0)
    said = complaints.read().decode(errors="replace")
    error = re.search(r"(?im)\b(?:error|fatal): +(.+)", said)
    sentence = (error[1] if error else said.strip().partition("\n")[0] or "it ended without a word").strip()
    return sentence if sentence.endswith(".") else f"{sentence}."
