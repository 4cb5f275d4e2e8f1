"""How fast the dashboard's pages are made, how large they are, and how soon a browser has painted them.

    python -m benchmarks.dashboard [--hits 10000000] [--paths 1000000] [--rounds 30] [--keep DIRECTORY]

Fills a private PostgreSQL as benchmarks/reading.py does (--keep leaves it for the next time), starts the service and
asks for each page --rounds times in turn over HTTP, one client at a time. Prints median and 95th percentile, the page's
size before compression, and, where there is a Chromium, the largest contentful paint of the overview (median of 5).
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import requests

from benchmarks.data import popular
from benchmarks.reading import SEED, Asked, Times, _times, filled
from tests.service import PROJECT, Service

PAINTS = 5
_LARGEST_PAINT = """
new Promise((told) => new PerformanceObserver((list) => told(list.getEntries().at(-1).startTime))
    .observe({type: "largest-contentful-paint", buffered: true}))
"""


def pages(paths: int) -> list[Asked]:
    """The pages; the goal is the overview's, of 30 days until now."""
    hottest, rarest = (urlencode({"path": popular(paths, SEED)[n]}) for n in (0, -1))
    return [
        Asked("overview, 30 days", "/?tz=UTC", 300),
        Asked("overview, 30 days, Berlin", "/?tz=Europe/Berlin"),
        Asked("overview, 30 days, people", "/?tz=UTC&bot=false"),
        Asked("overview, today", "/?tz=UTC&period=today"),
        Asked("overview, 12 months", "/?tz=UTC&period=12mo"),
        Asked("overview, one country", "/?tz=UTC&country=DE"),
        Asked("overview, a prefix", "/?tz=UTC&prefix=/api/product/"),
        Asked("overview, a small prefix", "/?tz=UTC&prefix=/api/product/1/1/"),
        Asked("hottest path", f"/path/?tz=UTC&{hottest}"),
        Asked("rarest path", f"/path/?tz=UTC&{rarest}"),
        Asked("paths, 30 days", "/paths/?tz=UTC"),
        Asked("search", "/paths/?search=ticket/7/"),
        Asked("countries", "/by/country/?tz=UTC"),
        Asked("tree", "/tree/?tz=UTC"),
        Asked("tree of a prefix", "/tree/?tz=UTC&prefix=/api/product/"),
    ]


def ask(url: str, asked: list[Asked], rounds: int) -> dict[str, tuple[Times, int]]:
    """Ask for every page in turn; the first round only warms up. Times and the size in bytes."""
    seen: dict[str, list[float]] = {page.name: [] for page in asked}
    sizes: dict[str, int] = {}
    with requests.Session() as session:
        for number in range(rounds + 1):
            for page in asked:
                begun = time.perf_counter()
                answer = session.get(url + page.target, timeout=600)
                took = (time.perf_counter() - begun) * 1000
                if answer.status_code != 200:
                    raise RuntimeError(f"{page.target}: {answer.status_code} {answer.text[:200]}")
                sizes[page.name] = len(answer.content)
                if number:
                    seen[page.name].append(took)
    return {name: (_times(taken), sizes[name]) for name, taken in seen.items()}


def largest_paints(chromium: str, address: str) -> list[float]:
    """When the largest thing of a page was painted, in ms from the request on, each time in a fresh profile."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(PAINTS):
            context = browser.new_context()
            page = context.new_page()
            page.goto(address)
            found.append(float(page.evaluate(_LARGEST_PAINT)))
            context.close()
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=10_000_000)
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--keep", type=Path, help="a directory for the database, to use it again")
    options = parser.parse_args()
    asked = pages(options.paths)
    with tempfile.TemporaryDirectory(dir=PROJECT, prefix=".benchmark-") as scratch:
        directory = (options.keep or Path(scratch)) / str(options.hits)
        directory.mkdir(parents=True, exist_ok=True)
        with (
            filled(directory, options.hits, options.paths) as url,
            Service(Path(scratch), DATABASE_URL=url) as service,
        ):
            found = ask(service.url, asked, options.rounds)
            chromium = shutil.which("chromium")
            paints = largest_paints(chromium, service.url + asked[0].target) if chromium else []
    print("| page | median / 95th percentile | size | goal |\n|---|---|---|---|")
    for page in asked:
        times, size = found[page.name]
        missed = ", missed" if page.goal and times.p95 >= page.goal else ""
        goal = f"{page.goal} ms{missed}" if page.goal else ""
        print(f"| {page.name} | {times.p50:.0f} / {times.p95:.0f} ms | {size / 1000:.0f} kB | {goal} |")
    if paints:
        print(f"Largest contentful paint of {asked[0].name}: {statistics.median(paints):.0f} ms (to {max(paints):.0f})")


if __name__ == "__main__":
    main()
