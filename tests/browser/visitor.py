"""Somebody who looks at pages: a browser's profile, and what was seen from within it."""

import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Browser, Page, Request

from tests.service import Service

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_SECONDS = 20


class Visitor:
    """Opens pages in a profile of its own.

    `scripts` run before each page's own. `sent` are the requests for pixels, `complaints` what the browser's console
    says of errors, violations of the policy among them.
    """

    def __init__(self, browser: Browser, *scripts: str, **options: Any) -> None:
        self._context = browser.new_context(**options)
        for script in scripts:
            self._context.add_init_script(script)
        self.sent: list[Request] = []
        self.complaints: list[str] = []
        self._context.on("request", lambda request: self.sent.append(request) if "/pixel.gif" in request.url else None)
        self._context.on("console", lambda said: self.complaints.append(said.text) if said.type != "log" else None)
        self._context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.page: Page = self._context.new_page()

    def __enter__(self) -> "Visitor":
        return self

    def __exit__(self, *error: object) -> None:
        self._context.close()

    def waits_for_counts(self, service: Service, prefix: str, counts: dict[str, int]) -> None:
        """Until the service tells these counts of the paths with a prefix, and no others."""
        until(lambda: service.counts(prefix) == counts, lambda: f"{service.counts(prefix)}, {self.complaints}")
        self.page.evaluate("null")  # the browser's own news come in with an answer of its


def until(condition: Callable[[], bool], found: Callable[[], str] = str) -> None:
    """Wait for a condition; `found` says what there is instead."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"It did not come about: {found()}"
        time.sleep(0.02)
