"""Recorders without a database, for tests of what asks them."""

import asyncio

from counters.dimensions import Origin


class FakeRecorder:
    """Answers every hit with `outcome`, a place or an exception, and remembers what was recorded."""

    def __init__(self, outcome: int | Exception = 1) -> None:
        self.outcome = outcome
        self.recorded: list[str] = []
        self.origins: list[Origin] = []

    def record(self, path: str, origin: Origin) -> asyncio.Future[tuple[str, int]]:
        self.recorded.append(path)
        self.origins.append(origin)
        future: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        if isinstance(self.outcome, Exception):
            future.set_exception(self.outcome)
        else:
            future.set_result((path, self.outcome))
        return future


class Refusing(FakeRecorder):
    """Takes in no hit at all."""

    def record(self, path: str, origin: Origin) -> asyncio.Future[tuple[str, int]]:
        assert isinstance(self.outcome, Exception)
        raise self.outcome
