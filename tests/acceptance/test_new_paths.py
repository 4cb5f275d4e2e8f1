"""Many made-up paths: their hits are counted as others' past the bound, and no hit is lost or counted for nobody."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client import Connection
from tests.service import Service

BOUND, CLIENTS, EACH = 300, 8, 400
ORDINARY = [f"/api/ordinary/{n}" for n in range(20)]


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(
        tmp_path_factory.mktemp("new-paths"),
        DATABASE_URL="",
        HITCOUNTER_WORKERS="2",
        HITCOUNTER_MAX_NEW_PATHS_PER_MINUTE=str(BOUND),
    ) as running:
        yield running


def test_past_the_bound_made_up_paths_are_counted_as_others_and_the_total_is_exact(bounded: Service):
    for path in ORDINARY:
        bounded.get(path)

    def send(seed: int) -> Counter[str]:
        """Random and ordinary paths in turn; under which path each was counted."""
        draw, connection, counted = random.Random(seed), Connection(bounded), Counter[str]()
        for n in range(EACH):
            target = f"/api/{draw.getrandbits(64):x}" if n % 2 else draw.choice(ORDINARY)
            answer = connection.ask(target)
            assert answer.status == 200
            path = json.loads(answer.body)["path"]
            assert path in (target, "/api/(other)") if n % 2 else path == target
            counted[path] += 1
        connection.close()
        return counted

    with ThreadPoolExecutor(CLIENTS) as pool:
        answered = sum(pool.map(send, range(CLIENTS)), Counter(ORDINARY))
    counts = bounded.counts("/api/")
    assert counts == answered
    assert sum(counts.values()) == len(ORDINARY) + CLIENTS * EACH
    # Each of the two processes has half of them; a minute may begin amid the test.
    assert len(counts) <= 2 * BOUND + 1
    assert counts["/api/(other)"] >= CLIENTS * EACH // 2 - 2 * BOUND
    assert "Too many new paths under /api/: hits of more are counted as /api/(other)." in bounded.output()
