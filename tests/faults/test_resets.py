"""Hot paths are reset under load, and resets are killed: a count afterwards is that of the hits after the reset."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from counters.hits import counter_id
from hitcounter.postgres import PrivatePostgres
from tests.faults.conftest import Trial
from tests.faults.takings import Takings, done, holder, is_amid, kill_amid, of, started, times_amid
from tests.load import Load
from tests.processes import kill, wait_until, workers
from tests.service import Service

COUNTERS = "/admin/counters/counter/"
PREFIX = "/api/reset/"
_LOGGED = re.compile(r"Reset (/\S*): (\d+) hits were removed")
_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


@pytest.fixture
def session(database: PrivatePostgres) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.url, autocommit=True) as connected:
        yield connected


@pytest.fixture
def service(tmp_path: Path, database: PrivatePostgres) -> Iterator[Service]:
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="2") as running:
        yield running


class Admin:
    """A browser's session in the admin."""

    def __init__(self, service: Service) -> None:
        self._browser = requests.Session()
        self._url = service.url
        password = (service.data_dir / "admin-password").read_text().strip()
        self._post("/login/", {"username": "admin", "password": password})

    def reset(self, *paths: str) -> int:
        """The status of the answer to the admin's action on these counters."""
        ids = [str(counter_id(path)) for path in paths]
        form = {"action": "reset_selected", "_selected_action": ids, "confirmed": "yes"}
        return self._post(COUNTERS, form).status_code

    def _post(self, path: str, form: dict[str, Any]) -> requests.Response:
        page = self._browser.get(self._url + path, timeout=30)
        token = _TOKEN.search(page.text)
        assert token, page.text
        return self._browser.post(self._url + path, {**form, "csrfmiddlewaretoken": token[1]}, timeout=30)


def told(log: str) -> Counter[str]:
    """The hits that resets say they have removed, by path."""
    hits: Counter[str] = Counter()
    for path, removed in _LOGGED.findall(log):
        hits[path] += int(removed)
    return hits


def some(load: Load, trial: Trial) -> list[str]:
    return trial.draw.sample(load.paths, trial.draw.randint(1, len(load.paths)))


def settle(
    fault: str, times: int, load: Load, service: Service, trial: Trial, takings: Takings, besides: str = ""
) -> None:
    """And then, with nobody sending, a last reset takes exactly what there is, and counting begins from one."""
    load.resets = takings.times()
    outcome = trial.settle(fault, times, load, service, besides, taken_off=takings.hits())
    if load.answers.keys() == {200}:
        assert outcome.sent == outcome.acknowledged == outcome.counted
    held = service.counts(PREFIX)
    assert told(done(service, "resetcounts", "--prefix", PREFIX, "--yes")) == held
    assert set(service.counts(PREFIX).values()) <= {0}
    with Load(service, PREFIX, trial.seed) as after:
        after.wait_for(200)
    counts = {path: hits for path, hits in service.counts(PREFIX).items() if hits}
    assert counts == after.sent == after.acknowledged
    after.assert_bounds_hold(counts)


@pytest.mark.long
def test_resets_of_hot_paths_take_what_was_counted_and_leave_what_comes_after(
    service: Service, session: psycopg.Connection[Any], trial: Trial
):
    times, takings, admin = trial.times(3, 20), Takings(session), Admin(service)
    with Load(service, PREFIX, trial.seed) as load:
        said: Counter[str] = Counter()
        for _ in range(times):
            load.wait_for(100)
            assert admin.reset(*some(load, trial)) == 200
            load.wait_for(100)
            said += told(done(service, "resetcounts", "--prefix", f"{PREFIX}{trial.draw.randrange(10)}", "--yes"))
    assert load.answers.keys() == {200}, load.answers
    wait_until(lambda: +(said + told(service.output())) == takings.hits())
    settle("reset of hot paths", 2 * times, load, service, trial, takings)


@pytest.mark.long
def test_resets_that_are_killed_have_been_done_or_not_and_nothing_is_lost(
    service: Service, session: psycopg.Connection[Any], trial: Trial
):
    times, takings = trial.times(3, 20), Takings(session)

    def killed_amid() -> bool:
        load.wait_for(100)
        resetting = started(service, "resetcounts", "--prefix", PREFIX, "--yes")
        return kill_amid(resetting, lambda: is_amid(session, "reset"), trial.draw.uniform(0, 0.03), session)

    with Load(service, PREFIX, trial.seed) as load:
        tried = times_amid(times, killed_amid)
        done(service, "resetcounts", "--prefix", PREFIX, "--yes")
        load.wait_for(100)
    assert load.answers.keys() == {200}, load.answers
    settle("resetcounts killed", times, load, service, trial, takings, of(tried))


@pytest.mark.long
def test_workers_that_are_killed_amid_a_reset_have_done_it_or_not(
    service: Service, session: psycopg.Connection[Any], trial: Trial
):
    times, takings, admin = trial.times(3, 20), Takings(session), Admin(service)

    def killed_amid() -> bool:
        load.wait_for(100)
        service.wait_until_ready()
        resetting = threading.Thread(target=broken_off, args=[admin, load.paths])
        resetting.start()
        while not (amid := holder(session, "reset")) and resetting.is_alive():
            pass
        kill(*workers(service))
        resetting.join()
        return bool(amid)

    with Load(service, PREFIX, trial.seed) as load:
        tried = times_amid(times, killed_amid)
        load.wait_for(100)
    settle("worker killed amid a reset", times, load, service, trial, takings, of(tried))


def broken_off(admin: Admin, paths: list[str]) -> None:
    """A reset whose answer may never come."""
    try:
        admin.reset(*paths)
    except requests.ConnectionError:
        return
