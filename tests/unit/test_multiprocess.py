"""hitcounter/multiprocess.py: a directory that is removed by whoever finds it left behind, and places in it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from counters.metrics import DIRECTORY_VARIABLE, AllProcesses
from hitcounter import multiprocess
from hitcounter.multiprocess import LEFT_BEHIND_SECONDS, Directory, free_place, leave_place
from tests.service import PROJECT

WORKER = """
import sys
from pathlib import Path
from hitcounter.multiprocess import take_place
take_place(Path(sys.argv[1]), int(sys.argv[2]))
from counters import metrics
metrics.committed(int(sys.argv[3]), 0.01)
metrics.QUEUE_HITS.set(int(sys.argv[3]))
import os
os._exit(9)  # as one that is killed: nothing is written at the end
"""


def grow_old(path: Path) -> None:
    long_ago = time.time() - LEFT_BEHIND_SECONDS - 1
    os.utime(path, (long_ago, long_ago))


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert not done.stderr
    return done.stdout


@pytest.fixture
def told(monkeypatch) -> Callable[[Path], dict[str, float]]:
    """What the processes that have their files in a directory have measured, as far as it has no labels but `via`."""

    def read(directory: Path) -> dict[str, float]:
        monkeypatch.setenv(DIRECTORY_VARIABLE, str(directory))
        samples = [sample for metric in AllProcesses().collect() for sample in metric.samples]
        return {s.name: s.value for s in samples if not s.labels or s.labels == {"via": "request"}}

    return read


def test_both_sides_mean_the_same_variable():
    assert multiprocess.VARIABLE == DIRECTORY_VARIABLE


def test_a_directory_is_its_users_alone_and_goes_with_all_that_is_in_it(tmp_path):
    directory = Directory(tmp_path)
    assert directory.path.stat().st_mode & 0o777 == 0o700
    (directory.path / "counter_0.db").touch()
    directory.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_service_left_behind_is_removed_by_the_next(tmp_path):
    left = tmp_path / f"{multiprocess.PREFIX}left"
    left.mkdir()
    (left / "counter_0.db").touch()
    grow_old(left)
    directory = Directory(tmp_path)
    assert list(tmp_path.iterdir()) == [directory.path]
    directory.remove()


def test_a_directory_that_is_in_use_or_has_just_been_made_or_is_a_link_stays(tmp_path):
    used = Directory(tmp_path)
    grow_old(used.path)
    young, link, elsewhere = (tmp_path / f"{prefix}" for prefix in (f"{multiprocess.PREFIX}y", "l", "elsewhere"))
    young.mkdir()
    elsewhere.mkdir()
    link = tmp_path / f"{multiprocess.PREFIX}link"
    link.symlink_to(elsewhere)
    os.utime(link, (0, 0), follow_symlinks=False)
    (elsewhere / "precious").touch()
    another = Directory(tmp_path)
    assert {used.path, young, link, elsewhere, another.path} == set(tmp_path.iterdir())
    assert (elsewhere / "precious").exists()
    another.remove()
    used.remove()


@pytest.mark.parametrize(("taken", "place"), [([], 0), ([0, 1], 2), ([1, 2], 0), ([0, 2], 1), ([5], 0)])
def test_the_first_place_that_is_free_is_taken(taken, place):
    assert free_place(taken) == place


def test_figures_of_several_processes_are_added_up_and_outlive_them(tmp_path, told):
    run(WORKER, tmp_path, 0, 3)
    run(WORKER, tmp_path, 1, 4)
    assert told(tmp_path)["hitcounter_hits_total"] == told(tmp_path)["hitcounter_queue_hits"] == 7


def test_who_comes_to_a_place_goes_on_with_its_counts_in_the_same_files(tmp_path, told):
    for _ in range(3):
        run(WORKER, tmp_path, 0, 3)
    assert told(tmp_path)["hitcounter_hits_total"] == 9
    assert told(tmp_path)["hitcounter_batch_hits_count"] == 3
    assert {file.stem.rpartition("_")[2] for file in tmp_path.iterdir()} == {"0"}


def test_what_a_process_that_has_ended_was_about_is_forgotten_and_what_it_counted_is_not(tmp_path, told):
    run(WORKER, tmp_path, 0, 3)
    leave_place(tmp_path, 0)
    assert told(tmp_path)["hitcounter_hits_total"] == 3
    assert "hitcounter_queue_hits" not in told(tmp_path)


def test_a_file_that_is_just_being_made_disturbs_nobody(tmp_path, told):
    run(WORKER, tmp_path, 0, 3)
    (tmp_path / "counter_1.db").touch()
    assert told(tmp_path)["hitcounter_hits_total"] == 3


def test_a_directory_that_somebody_has_removed_is_made_again(tmp_path, told):
    run(WORKER, tmp_path / "gone", 0, 3)
    assert told(tmp_path / "gone")["hitcounter_hits_total"] == 3
    assert (tmp_path / "gone").stat().st_mode & 0o777 == 0o700


def test_gunicorns_master_measures_nothing_so_that_its_workers_can_choose_how():
    code = "import sys, hitcounter.gunicorn; print([m for m in sys.modules if m.startswith('prometheus_client')])"
    assert run(code).strip() == "[]"
