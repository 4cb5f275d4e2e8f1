"""The middleware and the service together: what another project has answered is counted once, whatever is killed."""

import os
import random
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.host.running import WSGI, Host, wait_until
from tests.service import Service

pytestmark = pytest.mark.long

SEED = 20260301
REQUESTS = 1500


def test_each_request_of_a_host_is_counted_once_while_host_and_service_are_killed(tmp_path: Path):
    """Each request has a path of its own, so a hit that is lost or doubled is seen."""
    draw, answered, sent = random.Random(SEED), Counter[str](), Counter[str]()

    def ask(host: Host, number: int) -> None:
        path = f"/page/{number}"
        sent[path] += 1
        with suppress(requests.RequestException):  # of a worker that was killed
            if host.get(path).status_code == 200:
                answered[path] += 1

    with (
        Service(tmp_path, DATABASE_URL="", HITCOUNTER_WORKERS="1") as service,
        Host(WSGI, tmp_path, service.url) as host,
    ):
        for numbers in range(0, REQUESTS, 250):
            with ThreadPoolExecutor(8) as clients:
                asking = [clients.submit(ask, host, number) for number in range(numbers, numbers + 250)]
                victim = draw.choice(host.workers())
                os.kill(victim.pid, signal.SIGKILL)
                if numbers == 500:
                    service.stop()
                if numbers == 1000:
                    service.start()
                for one in asking:
                    one.result()
        wait_until(lambda: not host.waiting(), "an empty spool")
        counts = service.counts("/page/")
        routes = service.get("/stats/by/route/", params={"prefix": "/page/"}).json()
    assert len(answered) > REQUESTS * 0.9
    assert all(answered[path] <= counts.get(path, 0) <= sent[path] for path in sent)
    assert [row["value"] for row in routes] == ["/page/<str:name>"]
    assert routes[0]["hits"] == sum(counts.values())
