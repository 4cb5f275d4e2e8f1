"""A real Chromium. Where there is none the tests are skipped; in CI, where one is installed, they fail."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.site import Site
from tests.browser.visitor import ARGUMENTS, Visitor
from tests.service import Service


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program."""
    program = shutil.which("chromium")
    if program:
        return program
    missing = "there is no chromium on this machine to look at pages with"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


# Not for the whole session: while Playwright runs, so does an event loop in this thread, which other tests cannot bear.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=ARGUMENTS, ignore_default_args=["--disable-back-forward-cache"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors, each with a browser profile of their own."""
    with ExitStack() as leaving:
        yield lambda *scripts, **options: leaving.enter_context(Visitor(browser, *scripts, **options))


@pytest.fixture
def strict(service: Service) -> str:
    """The policy that the README tells: nothing but what the script needs. (The icon keeps the browser from asking.)"""
    return f"default-src 'none'; script-src {service.url}; connect-src {service.url}; img-src data: {service.url}"


@pytest.fixture
def site(strict: str) -> Iterator[Callable[..., Site]]:
    """Makes web sites, of a strict policy where they are not given another."""
    with ExitStack() as closing:

        def made(pages: dict[str, str], policy: str = strict, headers: dict[str, str] | None = None) -> Site:
            return closing.enter_context(Site(pages, {"Content-Security-Policy": policy, **(headers or {})}))

        yield made
