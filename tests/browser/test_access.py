"""Logging in and out, and a share link, in a real browser; their pages by WCAG 2.2 AA as axe checks it."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_accessibility import PHONE, faults
from tests.browser.visitor import Visitor
from tests.service import PROJECT, Service

NAME, PASSWORD = "bertha.with.a.very.long.name.indeed@mail.example.org", "correct horse"
MADE = f"""
from django.contrib.auth.models import User
from counters import sharing
from counters.models import ShareLink
User.objects.create_user({NAME!r}, password={PASSWORD!r})
for revoked in (False, True):
    print(sharing.token(ShareLink.objects.create(name="a", prefix="/api/shop/", revoked=revoked)))
"""


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = {"DATABASE_URL": "", "HITCOUNTER_OPEN": "off", "HITCOUNTER_WORKERS": "1"}
    with Service(tmp_path_factory.mktemp("closed"), **options) as running:
        for path in ("/api/shop/a", "/api/shop/b/c", "/api/elsewhere"):
            running.get(path).raise_for_status()
        yield running


@pytest.fixture(scope="module")
def tokens(closed: Service) -> list[str]:
    """Of a share link that is in force, and of one that was revoked; there is a reader, too."""
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", MADE]
    made = subprocess.run(command, cwd=PROJECT, env=closed.environment, check=True, capture_output=True, text=True)
    return made.stdout.split()


def logs_in(page: Page, name: str = NAME, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def to_log_in(page: Page, closed: Service, tokens: list[str]) -> None:
    page.goto(f"{closed.url}/paths/")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def wrong_login(page: Page, closed: Service, tokens: list[str]) -> None:
    to_log_in(page, closed, tokens)
    # Each time for another name, so that none is locked out.
    logs_in(page, name=f"nobody {id(page)}")
    expect(page.get_by_role("alert")).to_be_visible()


def logged_in(page: Page, closed: Service, tokens: list[str]) -> None:
    to_log_in(page, closed, tokens)
    logs_in(page)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def staff(page: Page, closed: Service, tokens: list[str]) -> None:
    to_log_in(page, closed, tokens)
    logs_in(page, "admin", (closed.data_dir / "admin-password").read_text().strip())
    expect(page.get_by_role("link", name="Admin")).to_be_visible()


def shared(page: Page, closed: Service, tokens: list[str]) -> None:
    page.goto(f"{closed.url}/share/{tokens[0]}/")
    expect(page.get_by_role("link", name="/api/shop/a")).to_be_visible()


def shared_path(page: Page, closed: Service, tokens: list[str]) -> None:
    shared(page, closed, tokens)
    page.get_by_role("link", name="/api/shop/b/c").click()
    expect(page.get_by_text("Hits of all times")).to_be_visible()


def outside(page: Page, closed: Service, tokens: list[str]) -> None:
    shared(page, closed, tokens)
    page.goto(f"{closed.url}/?prefix=/api/")
    expect(page.get_by_role("heading")).to_contain_text("its own prefix")


def revoked(page: Page, closed: Service, tokens: list[str]) -> None:
    page.goto(f"{closed.url}/share/{tokens[1]}/")
    expect(page.get_by_role("heading")).to_contain_text("has been revoked")


WAYS = [to_log_in, wrong_login, logged_in, staff, shared, shared_path, outside, revoked]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_axe_finds_no_fault_in_light(closed, tokens, visitor: Callable[..., Visitor], way):
    page = visitor(timezone_id="UTC", color_scheme="light").page
    way(page, closed, tokens)
    assert faults(page) == []


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_page_fits_a_phone_and_axe_finds_no_fault_there_in_the_dark(closed, tokens, visitor, way):
    page = visitor(timezone_id="UTC", color_scheme="dark", **PHONE).page
    way(page, closed, tokens)
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.scrollingElement.scrollWidth") == width
    assert faults(page) == []


def test_who_logs_in_comes_to_the_page_that_was_asked_for_and_out_again(closed, tokens, visitor):
    page = visitor(timezone_id="UTC").page
    page.goto(f"{closed.url}/path/?path=/api/shop/b/c&period=7d")
    logs_in(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("/api/shop/b/c")
    assert page.url.startswith(f"{closed.url}/path/?path=/api/shop/b/c&period=7d")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(f"{closed.url}/path/?path=/api/shop/b/c")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_whoever_was_given_a_link_walks_within_it(closed, tokens, visitor):
    page = visitor(timezone_id="UTC").page
    shared(page, closed, tokens)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Tree").click()
    page.get_by_role("link", name="/api/shop/b/").click()
    page.get_by_role("link", name="/api/shop/b/c").click()
    expect(page.get_by_text("Hits of all times")).to_be_visible()
    page.get_by_role("link", name="shop/", exact=True).click()
    expect(page.get_by_role("link", name="/api/shop/a")).to_be_visible()
    assert "elsewhere" not in page.content()
    for absent in ("Live", "Load tests", "API", "Admin", "Log in"):
        expect(page.get_by_role("link", name=absent, exact=True)).to_have_count(0)
    page.reload()
    assert page.evaluate("document.cookie").count("hitcounter_share") == 0
