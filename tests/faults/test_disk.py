"""The database's disk is full for a while, under load: nothing is acknowledged that is not stored, and it recovers."""

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from hitcounter.postgres import url_of_private
from tests.faults.conftest import Trial
from tests.keyed import KeyedLoad
from tests.load import Load
from tests.processes import kill, wait_until
from tests.service import Service, put_database

pytestmark = pytest.mark.long

MB = 2**20
ROOM = 48 * MB
RECOVERY_SECONDS = 10
#: So many answers of 503 tell that it is full.
REFUSED = 20
#: So many hits in a row, each over a connection of its own, that every worker has had some.
IN_A_ROW = 50
#: What of PostgreSQL's lies on the disk that becomes full.
PLACES = ("data, WAL and log", "data", "WAL")
PAGES = ("/stats/", "/stats/total/", "/healthz/ready", "/healthz/live", "/metrics", "/")


class SmallDisk:
    """A file system in memory that takes the place of a directory, with little room left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._filler = directory / "filler"

    def mount(self) -> None:
        """Put what there is onto it. Raises CalledProcessError where there can be none."""
        aside = self._directory.with_name("aside")
        self._directory.rename(aside)
        self._directory.mkdir()
        self._run("mount", "-t", "tmpfs", "-o", "size=1g", "hits", self._directory)
        self._run("cp", "-a", f"{aside}/.", self._directory)
        shutil.rmtree(aside)
        self.enlarge()

    def unmount(self) -> None:
        if self._directory.is_mount():
            self._run("umount", self._directory)

    def enlarge(self) -> None:
        """Leave the same room as in the beginning."""
        status = os.statvfs(self._directory)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        self._run("mount", "-o", f"remount,size={used + ROOM}", self._directory)

    def fill(self, leaving: int) -> None:
        """Leave so many bytes, until whoever writes has taken them as well."""
        status = os.statvfs(self._directory)
        wanted = status.f_bavail * status.f_frsize - leaving
        if wanted > 0:
            with open(self._filler, "ab") as file, suppress(OSError):  # others were quicker
                os.posix_fallocate(file.fileno(), file.tell(), wanted)

    @staticmethod
    def _run(*command: object) -> None:
        subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)


def can_mount(directory: Path) -> bool:
    place = directory / "tried"
    place.mkdir()
    tried = subprocess.run(["mount", "-t", "tmpfs", "hits", place], capture_output=True)
    return tried.returncode == 0 and subprocess.run(["umount", place]).returncode == 0


@pytest.fixture(params=PLACES)
def disk(request: pytest.FixtureRequest, tmp_path: Path, trial: Trial) -> Iterator[SmallDisk]:
    """The database of the service that a test starts in `tmp_path`, or a part of it, on a small disk."""
    trial.need(can_mount(tmp_path), "no disk can be mounted here, as root can where nothing forbids it")
    database = put_database(tmp_path / "postgres")
    if request.param == "data":
        wal = (database / "data" / "pg_wal").rename(tmp_path / "wal")
        (database / "data" / "pg_wal").symlink_to(wal)
    directory = {"data": database / "data", "WAL": database / "data" / "pg_wal"}.get(request.param, database)
    small = SmallDisk(directory)
    try:
        small.mount()
        yield small
    finally:
        left = end_postgres(database / "data")
        small.unmount()
    assert not left, "PostgreSQL has outlived the service"


def end_postgres(data: Path) -> list[int]:
    """Kill what of PostgreSQL still works in its directory after a while, so that the disk is nobody's; return it."""
    with suppress(AssertionError):
        wait_until(lambda: not at_work_in(data), seconds=5)
    left = at_work_in(data)
    kill(*left)
    wait_until(lambda: not at_work_in(data))
    return left


def at_work_in(directory: Path) -> list[int]:
    """The processes whose working directory this is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            if (process / "cwd").readlink() == directory:
                found.append(int(process.name))
    return found


@pytest.fixture
def place(request: pytest.FixtureRequest) -> str:
    return request.node.callspec.params["disk"]


def test_a_full_disk_is_answered_503_and_loses_and_doubles_nothing(
    tmp_path: Path, disk: SmallDisk, place: str, trial: Trial
):
    with Service(tmp_path, DATABASE_URL="", HITCOUNTER_WORKERS="2") as service:
        with Load(service, "/api/full/", trial.seed) as load:
            recoveries = fill_and_enlarge(disk, service, load.answers, trial)
            load.wait_for(200)
        trial.settle(f"disk full: {place}", len(recoveries), load, service, seen(load.answers, recoveries, trial))
        assert load.answers.keys() == {200, 503}, load.answers
        assert max(recoveries) < RECOVERY_SECONDS


def test_batches_that_a_full_disk_refused_are_counted_once_when_they_are_sent_again(
    tmp_path: Path, disk: SmallDisk, place: str, trial: Trial
):
    with Service(tmp_path, DATABASE_URL="", HITCOUNTER_WORKERS="2") as service, ThreadPoolExecutor() as pool:
        batches = KeyedLoad(service, "/full/", trial.seed, connections=8)
        filling = pool.submit(fill_and_enlarge, disk, service, batches.answers, trial)
        batches.keep_sending(filling.done)
        recoveries = filling.result()
        told = seen(batches.answers, recoveries, trial)
        trial.settle(f"disk full: {place}, hits under keys", len(recoveries), batches, service, told)
        assert batches.answers.keys() == {200, 503}, batches.answers
        assert max(recoveries) < RECOVERY_SECONDS


def fill_and_enlarge(disk: SmallDisk, service: Service, answers: Counter[int | str], trial: Trial) -> list[float]:
    """Have the disk full and with room again, in turn, while hits are sent; return how soon each time they count."""
    recoveries = []
    for _ in range(trial.times(1, 3)):
        acknowledged = answers[200]
        wait_until(lambda acknowledged=acknowledged: answers[200] >= acknowledged + 200)
        try:
            disk.fill(leaving=trial.draw.randrange(MB))
            use_up_segments(service, answers)
            stay_full(disk, service, answers, trial)
        finally:  # else those who send until they are answered would hide what went wrong
            disk.enlarge()
        recoveries.append(seconds_until_all_count(service))
    return recoveries


def use_up_segments(service: Service, answers: Counter[int | str]) -> None:
    """Have PostgreSQL begin the next segment of its WAL early, until it finds no room for one."""
    refused, deadline = answers[503], time.monotonic() + 60
    while answers[503] < refused + REFUSED:
        assert time.monotonic() < deadline, answers
        with suppress(psycopg.Error), psycopg.connect(url_of_private(service.data_dir / "postgres")) as session:
            session.execute("SELECT pg_switch_wal()")
        time.sleep(0.2)


def stay_full(disk: SmallDisk, service: Service, answers: Counter[int | str], trial: Trial) -> None:
    """Let it be full for a while, whatever PostgreSQL gives up; hits are refused, and no page fails either."""
    refused, until = answers[503], time.monotonic() + held_seconds(trial)
    while time.monotonic() < until or answers[503] < refused + REFUSED:
        assert time.monotonic() < until + 60, f"hits are not refused: {answers}"
        disk.fill(leaving=0)
        page = trial.draw.choice(PAGES)
        assert service.get(page).status_code in (200, 503), page


def seconds_until_all_count(service: Service) -> float:
    """How long it takes until none of many hits that are sent from now on, one after the other, is refused."""
    begun, in_a_row = time.monotonic(), 0
    while in_a_row < IN_A_ROW:
        assert time.monotonic() < begun + 60, f"hits are still refused: {end_of_log(service)}"
        in_a_row = in_a_row + 1 if service.get("/api/again/").status_code == 200 else 0
    return time.monotonic() - begun


def end_of_log(service: Service) -> str:
    """What PostgreSQL has said last, which may be gone with the disk later."""
    return (service.data_dir / "postgres" / "log").read_text(errors="replace")[-3000:]


def held_seconds(trial: Trial) -> int:
    return trial.times(3, 20)


def seen(answers: Counter[int | str], recoveries: list[float], trial: Trial) -> str:
    soon = f"counted again {max(recoveries):.1f} s after there was room"
    return f"full for {held_seconds(trial)} s and more, {answers[503]:,} times 503, {soon}"
