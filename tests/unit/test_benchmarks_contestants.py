"""What happens to a contestant's store and to its processes, without starting any."""

import shutil

import pytest

from benchmarks.contestants import Contestant, WorkerMemory


class Stopped(Exception):
    """The server did not end."""


class Store:
    """Notes that it was ended."""

    ended = False

    def __exit__(self, *error):
        self.ended = True


def test_the_store_is_ended_where_the_server_does_not_stop(tmp_path):
    def stop():
        raise Stopped

    contestant = Contestant("service", tmp_path, 1)
    contestant.store, contestant.process, contestant.stop = Store(), None, stop
    with pytest.raises(Stopped):
        contestant.__exit__()
    assert contestant.store.ended


def tell(proc, pid, peak=None):
    """As the kernel does, of a process whose memory has had this peak, in kB; of none, when it has ended."""
    (proc / str(pid)).mkdir(exist_ok=True)
    (proc / str(pid) / "status").write_text("Name:\tpython\n" + (f"VmHWM:\t  {peak} kB\n" if peak else ""))


def test_memory_is_compared_with_what_it_was_at_first(tmp_path):
    tell(tmp_path, 1, 100)
    tell(tmp_path, 2, 500)
    memory = WorkerMemory([1, 2], tmp_path)
    assert memory.growth() == 0
    tell(tmp_path, 1, 400)
    memory.forget_peaks()
    assert memory.growth() == 300 * 1024
    assert (tmp_path / "1" / "clear_refs").read_text() == "5"


def test_a_process_that_has_ended_does_not_count(tmp_path):
    tell(tmp_path, 1, 100)
    tell(tmp_path, 2, 100)
    memory = WorkerMemory([1, 2, 3], tmp_path)
    tell(tmp_path, 1)
    shutil.rmtree(tmp_path / "2")
    memory.forget_peaks()
    assert memory.growth() == 0
