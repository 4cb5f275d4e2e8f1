"""Make the pictures of the pages that the README shows, from an access log.

    python docs/screenshots.py ACCESS_LOG --first 2015-05-17 --last 2015-05-20

Starts the service on a private PostgreSQL, imports the log, sends its paths again as hits of now for the live page, and
takes each page in light and in dark. Needs Chromium, and the packages in requirements-dev.txt.
"""

import argparse
import base64
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from urllib.parse import urlencode

import requests
from playwright.sync_api import Browser, Page, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tests.service import Service  # noqa: E402

PICTURES = PROJECT / "docs/screenshots"
SIZE = {"width": 1100, "height": 800}
QUALITY = 80  # of WebP, which is a quarter of PNG here
LIVE_SECONDS = 25
#: The log may be old: what is kept of it is all.
ENVIRONMENT = {"DATABASE_URL": "", "HITCOUNTER_KEEP_HITS_DAYS": "36500", "HITCOUNTER_KEEP_HOURS_DAYS": "36500"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--first", required=True, help="first day of the log")
    parser.add_argument("--last", required=True, help="its last day")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, Service(Path(scratch), **ENVIRONMENT) as service:
        imported(service, options.log)
        days = {"first": options.first, "last": options.last, "interval": "hour"}
        [hottest, *_] = requests.get(f"{service.url}/stats/?limit=1", timeout=60).json()
        pages = {
            "overview": f"/?{urlencode(days)}",
            "path": f"/path/?{urlencode({'path': hottest['path'], **days})}",
            "live": "/live/",
            "admin": "/admin/counters/counter/",
        }
        password = (service.data_dir / "admin-password").read_text().strip()
        with sync_playwright() as playwright, traffic(service):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for scheme in ("light", "dark"):
                taken(browser, service.url, pages, scheme, password)
            browser.close()


def imported(service: Service, log: Path) -> None:
    command = [sys.executable, "manage.py", "importlog", str(log)]
    environment = service.environment
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, "manage.py", "maintain"], cwd=PROJECT, env=environment, check=True)
    subprocess.run([sys.executable, "manage.py", "verifycounts"], cwd=PROJECT, env=environment, check=True)


@contextmanager
def traffic(service: Service) -> Iterator[None]:
    """The log's paths as hits of now, some each quarter of a second, more and fewer."""
    over = threading.Event()
    paths = [row["path"] for row in requests.get(f"{service.url}/stats/?limit=200", timeout=60).json()]

    def go_on() -> None:
        for n, many in enumerate(cycle([4, 6, 9, 7, 5, 8, 12, 10, 6, 3])):
            if over.wait(0.25):
                return
            hits = [{"path": paths[(n * k) % len(paths) // (1 + k % 5)]} for k in range(many)]
            requests.post(f"{service.url}/hits/", json=hits, timeout=60).raise_for_status()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def taken(browser: Browser, url: str, pages: dict[str, str], scheme: str, password: str) -> None:
    context = browser.new_context(viewport=SIZE, color_scheme=scheme, timezone_id="UTC")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{url}/admin/login/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", password)
    page.click("[type=submit]")
    for name, address in pages.items():
        page.goto(url + address)
        if name == "live":
            page.wait_for_timeout(1000 * LIVE_SECONDS)
        picture(page, PICTURES / f"{name}-{scheme}.webp")
    context.close()


def picture(page: Page, to: Path) -> None:
    """As WebP, which Playwright itself does not offer."""
    session = page.context.new_cdp_session(page)
    made = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    to.write_bytes(base64.b64decode(made["data"]))


if __name__ == "__main__":
    main()
