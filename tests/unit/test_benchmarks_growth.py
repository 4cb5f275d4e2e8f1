"""How far a worker's memory grows while it reads; without a service."""

from types import SimpleNamespace

from benchmarks import growth
from benchmarks.growth import Held


class Memory:
    """That of a worker which keeps 50 bytes from its first full list, and needs 10 more for each."""

    def __init__(self, pids):
        self.asked = []

    def forget_peaks(self):
        """It tells of the last request alone."""

    def growth(self):
        return 60 if self.asked[-1] == "/full" else 50 * ("/full" in self.asked)


def test_what_a_worker_keeps_from_the_first_round_counts_as_grown(monkeypatch):
    memory = Memory([])
    monkeypatch.setattr(growth, "tree", lambda _pid: [])
    monkeypatch.setattr(growth, "WorkerMemory", lambda _pids: memory)
    monkeypatch.setattr(growth, "_fetch", lambda _url, target: memory.asked.append(target) or (1.0, 1, 1))
    service = SimpleNamespace(url="", process=SimpleNamespace(pid=1))
    asked = {"first page": "/page", "full list": "/full"}
    found = list(growth._ask("service", service, "/small", asked, Held(1, 1), 2))
    assert [(one.number, one.question, one.growth) for one in found] == [
        (1, "first page", 50), (1, "full list", 60), (2, "first page", 50), (2, "full list", 60),
    ]  # fmt: skip
    assert memory.asked[0] == "/small"
