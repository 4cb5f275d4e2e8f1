"""SIGHUP gives the service new workers: no acknowledged hit is lost, no request stays without an answer."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hitcounter import rolling
from tests.client import Connection, ask
from tests.processes import WAIT_SECONDS, command, wait_until
from tests.rolling import Rolling
from tests.service import PROJECT, Service

pytestmark = pytest.mark.long

#: Becomes the command that follows, in a session on the terminal that is named.
ON_TERMINAL = [
    sys.executable,
    "-c",
    "import os, sys; os.setsid(); os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])",
]


def test_a_connection_that_rests_while_workers_are_rolled_is_answered_once_more(tmp_path: Path):
    with Rolling(tmp_path) as service:
        resting = [Connection(service) for _ in range(8)]
        for connection in resting:
            connection.ask("/api/resting/")
        before = service.workers()
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(service.workers()) > 2)
        answers = [connection.ask("/api/resting/") for connection in resting]
        assert sorted(answer.json()["count"] for answer in answers) == list(range(9, 17))
        for connection in resting:
            connection.close()
        wait_until(lambda: not before & service.workers())
        assert ask(service, "/api/resting/").json()["count"] == 17


def copy_of_the_project(place: Path) -> Path:
    for name in ("hitcounter", "counters", "templates"):
        shutil.copytree(PROJECT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "manage.py", place)
    return place


def test_new_workers_have_code_and_settings_as_they_are_now(tmp_path: Path):
    project = copy_of_the_project(tmp_path / "project")
    (project / ".env").write_text("HITCOUNTER_MAX_LOADTEST=7\n")
    (tmp_path / "data").mkdir()
    with Rolling(tmp_path / "data", project) as service:
        assert "7" in post(service, "/test/8/")
        version = service.get("/schema/").json()["info"]["version"]
        (project / ".env").write_text("HITCOUNTER_MAX_LOADTEST=6\n")
        (project / "hitcounter" / "__init__.py").write_text('VERSION = "99.0"\n')
        # Of a module that the master has loaded, too, something that others need.
        with open(project / "counters" / "requestid.py", "a") as known_to_the_master:
            known_to_the_master.write("\nNEW = 1\n")
        with open(project / "counters" / "api" / "observed.py", "a") as of_the_worker:
            of_the_worker.write("\nfrom counters.requestid import NEW\n")
        service.roll()
        assert "6" in post(service, "/test/8/")
        assert service.get("/schema/").json()["info"]["version"] == "99.0" != version


def test_new_workers_that_cannot_start_leave_the_old_ones_as_they_are(tmp_path: Path):
    project = copy_of_the_project(tmp_path / "project")
    (tmp_path / "data").mkdir()
    with Rolling(tmp_path / "data", project) as service:
        before = service.workers()
        with open(project / "hitcounter" / "asgi.py", "a") as loaded_by_workers:
            # Past the look that the master has at it beforehand.
            loaded_by_workers.write("\nimport sys\nif 'gunicorn.workers' in sys.modules: raise RuntimeError('no')\n")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.output().count("RuntimeError: no") >= 2)
        time.sleep(2)
        assert service.workers() == before
        assert ask(service, "/api/still/").status == 200


def post(service: Service, path: str) -> str:
    answer = ask(service, path, "POST")
    assert answer.status == 400
    return " ".join(re.findall(r"\d+", answer.body.decode()))


def test_settings_that_make_no_sense_leave_the_workers_as_they_are(tmp_path: Path):
    key = tmp_path / "key"
    key.write_text("k" * 64)
    (tmp_path / "data").mkdir()
    with Rolling(tmp_path / "data", HITCOUNTER_SECRET_KEY_FILE=str(key)) as service:
        before = service.workers()
        key.write_text("short")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "The workers stay as they are" in service.output())
        assert "HITCOUNTER_SECRET_KEY" in service.output()
        assert "kkkk" not in service.output()
        assert service.workers() == before
        assert ask(service, "/api/still/").status == 200
        key.write_text("l" * 64)
        service.roll()


def test_a_terminal_that_is_closed_stops_the_service(tmp_path: Path):
    ours, theirs = pty.openpty()
    with on_terminal(Rolling(tmp_path), theirs) as service:
        assert ask(service, "/api/terminal/").status == 200
        os.close(theirs)
        os.close(ours)
        assert service.process.wait(timeout=WAIT_SECONDS) is not None
    assert not service.ready()


def test_who_starts_it_with_nohup_means_it_to_go_on(tmp_path: Path):
    ours, theirs = pty.openpty()
    with on_terminal(Rolling(tmp_path), theirs, shutil.which("nohup") or "nohup") as service:
        service.roll()
        os.close(theirs)
        os.close(ours)
        time.sleep(1)
        assert ask(service, "/api/nohup/").status == 200


def on_terminal(service: Service, terminal: int, *before: str) -> Service:
    """A service that is yet to be started, on this terminal."""
    service.command = [*ON_TERMINAL, os.ttyname(terminal), *before, sys.executable, str(PROJECT / "manage.py"), "serve"]
    return service


def test_the_master_has_no_settings_that_workers_would_inherit():
    code = "import sys, hitcounter.gunicorn; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "gunicorn" in done.stdout
    for name in ("django", "environs", "psycopg"):
        assert f"'{name}'" not in done.stdout


@pytest.mark.parametrize("name", ["hitcounter.settings", "hitcounter.environment"])
def test_nor_does_it_import_them(name: str):
    code = f"import sys, hitcounter.gunicorn; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0


def handles_hangup(pid: int) -> bool:
    """Whether a process ignores or catches SIGHUP."""
    status = Path(f"/proc/{pid}/status").read_text()
    return any(int(mask, 16) & 1 for mask in re.findall(r"Sig(?:Ign|Cgt):\s*(\w+)", status))


def test_a_hangup_while_it_starts_does_not_end_it(tmp_path: Path):
    service = Rolling(tmp_path)
    service.prepare()
    process = subprocess.Popen(service.command, cwd=PROJECT, env=service.environment, stdin=subprocess.DEVNULL)
    service.process = process
    try:
        wait_until(lambda: handles_hangup(process.pid))
        assert b"hitcounter.gunicorn" not in command(process.pid)
        while not service.ready():
            process.send_signal(signal.SIGHUP)
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        assert service.stop() == 0


def test_many_hangups_in_a_row_start_one_set_of_workers_at_a_time(tmp_path: Path):
    with Rolling(tmp_path) as service:
        before, most, seen = service.workers(), 0, set()
        for _ in range(20):
            service.process.send_signal(signal.SIGHUP)
            most = max(most, len(service.workers()))
            seen |= service.workers()
            time.sleep(0.05)

        def rolled() -> bool:
            nonlocal most, seen
            now = service.workers()
            most, seen = max(most, len(now)), seen | now
            return not before & now and len(now) == 2

        wait_until(rolled)
        time.sleep(5)
        seen |= service.workers()
        assert 2 < most <= 6
        assert len(seen - before) <= 6, "more than a roll for the first signal and those that came meanwhile"


def test_a_worker_that_dies_while_the_code_is_broken_is_tried_again_and_the_other_serves(tmp_path: Path):
    project = copy_of_the_project(tmp_path / "project")
    (tmp_path / "data").mkdir()
    with Rolling(tmp_path / "data", project) as service:
        asgi = project / "hitcounter" / "asgi.py"
        whole = asgi.read_text()
        asgi.write_text("raise RuntimeError('no')\n")
        killed, left = sorted(service.workers())
        os.kill(killed, signal.SIGKILL)
        begun = time.monotonic()
        wait_until(lambda: service.output().count("RuntimeError: no") >= 3)
        assert time.monotonic() - begun > 2 * rolling.RETRY_SECONDS, "tried again without a pause"
        assert ask(service, "/api/still/").status == 200
        asgi.write_text(whole)
        wait_until(lambda: left in service.workers() and len(service.workers()) == 2)
        assert ask(service, "/api/still/").json()["count"] == 2
