"""A closed service from outside: keys made from the shell, and logins limited whichever worker answers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.host.running import WSGI, Host, wait_until
from tests.service import Service

WORKERS = 2


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = {"DATABASE_URL": "", "HITCOUNTER_OPEN": "off", "HITCOUNTER_WORKERS": str(WORKERS)}
    with Service(tmp_path_factory.mktemp("closed"), **options) as running:
        yield running


def logs_in(service: Service, name: str, password: str) -> int:
    """The status of a login by a browser of its own, without following where it leads."""
    page = f"{service.url}/login/"
    with requests.Session() as browser:
        browser.get(page, timeout=30)
        form = {"username": name, "password": password, "csrfmiddlewaretoken": browser.cookies["hitcounter_csrf"]}
        return browser.post(page, form, timeout=30, allow_redirects=False).status_code


def test_a_script_takes_the_key_from_the_shell(closed: Service):
    headers = {"Authorization": f"Bearer {closed.made_key('stats')}"}
    assert closed.get("/stats/").status_code == 401
    assert closed.get("/stats/", headers=headers).status_code == 200
    with requests.get(f"{closed.url}/live/events/", headers=headers, stream=True, timeout=30) as events:
        assert events.status_code == 200


@pytest.mark.parametrize("arguments", [["a"], ["a", "--scope", "all"], ["a", "--scope", "stats", "--days", "0"]])
def test_what_makes_no_key_is_told_in_a_sentence(closed: Service, arguments: list[str]):
    done = closed.manage("createkey", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("CommandError: ") and done.stderr.count("\n") == 1


def test_a_host_whose_key_is_not_taken_keeps_its_hits_until_it_has_one_that_is(closed: Service, tmp_path):
    stats = {"Authorization": f"Bearer {closed.made_key('stats')}"}

    def counted() -> list[dict[str, object]]:
        return closed.get("/stats/?prefix=/page/", headers=stats).json()

    with Host(WSGI, tmp_path, closed.url, HOST_HITCOUNTER_KEY=stats["Authorization"].removeprefix("Bearer ")) as host:
        host.get("/page/1")
        wait_until(lambda: "has not the scope ingest" in host.log.read_text(), "a line in the log")
        assert host.waiting() and counted() == []
    with Host(WSGI, tmp_path, closed.url, HOST_HITCOUNTER_KEY=closed.made_key("ingest")) as host:
        host.get("/page/2")
        wait_until(lambda: len(counted()) == 2, "two hits")


def test_wrong_logins_that_come_at_once_to_several_workers_are_limited_as_those_of_one(closed: Service):
    password = (closed.data_dir / "admin-password").read_text().strip()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: logs_in(closed, "admin", "wrong"), range(30)))
    # Of one after the other, nine are answered. Three more may be under way when the tenth is noted: those that were
    # looked up before it are answered as well, and those of the first nine that are judged after it are refused.
    assert set(found) == {200, 429} and 9 - 3 <= found.count(200) <= 10 + 3
    assert {logs_in(closed, "admin", password) for _ in range(2 * WORKERS)} == {429}
    assert closed.get("/api/counted/").json()["count"] == 1
    assert closed.manage("axes_reset_username", "admin").returncode == 0
    assert logs_in(closed, "admin", password) == 302
