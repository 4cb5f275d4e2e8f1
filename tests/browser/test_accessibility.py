"""Pages for all: by WCAG 2.2 AA as axe checks it, in light and in dark, and narrow enough for a phone."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser import hostile
from tests.browser.visitor import Visitor
from tests.service import Service

pytestmark = pytest.mark.long

AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
#: Off unless asked for: WCAG 2.2's 2.5.8 (24 by 24 pixels, or as far from others, or in a sentence), and good habits.
RULES = ("target-size", "heading-order", "page-has-heading-one", "region", "landmark-one-main", "empty-table-header")
OPTIONS = {
    "runOnly": {"type": "tag", "values": [*WCAG, "best-practice"]},
    "rules": {rule: {"enabled": True} for rule in RULES},
}
PHONE = {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}
PAGES = {
    "overview": "/",
    "narrowed": "/?period=7d&consumer=" + quote(hostile.LONG),
    "own days": "/?first=2026-01-01&last=2026-01-31",
    "paths": "/paths/",
    "search": "/paths/?search=api",
    "no search": "/paths/?search=nothing-like-it",
    "path": "/path/?path=" + quote(hostile.PATHS["long"], safe=""),
    "path of emoji": "/path/?path=" + quote(hostile.PATHS["longest words"], safe=""),
    "no path": "/path/?path=/nowhere",
    "tree": "/tree/?prefix=/api/",
    "values": "/by/route/",
    "referring pages": "/by/referrer_url/",
    "live": "/live/",
    "load tests": "/loadtests/",
    "load test": "(the first)",
    "refusal": "/?tz=Mars&colour=red",
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("planted"), DATABASE_URL="", HITCOUNTER_WORKERS="1") as running:
        hostile.plant(running)
        yield running


@pytest.fixture(scope="module")
def addresses(planted: Service, browser: Any) -> dict[str, str]:
    """Where the pages are, that of a load test among them."""
    with Visitor(browser) as ann:
        ann.page.goto(f"{planted.url}/loadtests/")
        ann.page.get_by_label("Requests").fill("20")
        ann.page.get_by_role("button", name="Begin").click()
        ann.page.get_by_text("All that was acknowledged is counted.").wait_for()
        return {**PAGES, "load test": ann.page.url.removeprefix(planted.url)}


@pytest.fixture
def opened(planted: Service, addresses: dict[str, str], visitor: Callable[..., Visitor]) -> Callable[..., Page]:
    def opens(name: str, **options: Any) -> Page:
        page = visitor(timezone_id="UTC", **options).page
        page.goto(planted.url + addresses[name])
        if name == "live":
            expect(page.locator("[data-live=now]")).not_to_have_text("–")
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true })")
        return page

    return opens


def faults(page: Page) -> list[str]:
    """What axe finds. It is run by the developer tools, whom the page's policy does not bind."""
    page.evaluate(f"() => {{ {AXE} }}")
    found: dict[str, Any] = page.evaluate("options => axe.run(document, options)", OPTIONS)
    assert len(found["passes"]) > 5, "axe has not looked"
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_fault_in_a_page_in_light(opened, name):
    assert faults(opened(name, color_scheme="light")) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone_whatever_is_planted_and_axe_finds_no_fault_there_in_the_dark(opened, name):
    page = opened(name, color_scheme="dark", **PHONE)
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        assert [page.evaluate("document.scrollingElement.scrollWidth"), *page.evaluate(_CUT_OFF)] == [width]
    assert faults(page) == []


#: What reaches beyond the window and can neither be scrolled to nor ends in an ellipsis.
_CUT_OFF = """() => {
    const within = (element) => element
        && (getComputedStyle(element).overflowX !== 'visible' || within(element.parentElement));
    return [...document.querySelectorAll('main *')]
        .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !within(element))
        .map((element) => element.outerHTML.slice(0, 100));
}"""


def test_axe_would_find_one(opened):
    page = opened("overview")
    page.evaluate("document.querySelector('#search').removeAttribute('id')")
    page.evaluate("document.querySelector('input[name=search]').removeAttribute('placeholder')")
    assert "label" in {fault.split()[0] for fault in faults(page)}


@pytest.mark.parametrize("name", ["overview", "path", "live", "load tests"])
def test_dark_is_dark_and_light_is_light(opened, name):
    def lightness(scheme: str) -> list[int]:
        page = opened(name, color_scheme=scheme)
        style = "getComputedStyle(document.documentElement)"
        colours = [page.evaluate(f"{style}.{colour}") for colour in ("backgroundColor", "color")]
        return [sum(map(int, colour[4:-1].split(","))) for colour in colours]

    for scheme, order in (("light", -1), ("dark", 1)):
        ground, ink = lightness(scheme)
        assert order * (ink - ground) > 400


#: As WCAG 2.2 computes a contrast, between the colours of two names.
_CONTRAST = """([one, other]) => {
    const probe = document.body.appendChild(document.createElement('i'));
    const luminance = (name) => {
        probe.style.color = `var(${name})`;
        const parts = getComputedStyle(probe).color.match(/\\d+/g)
            .map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const [less, more] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (more + 0.05) / (less + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_edges_of_controls_and_the_bars_of_charts_can_be_told_apart(opened, scheme):
    page = opened("overview", color_scheme=scheme)
    pairs = [("--edge", "--ground"), ("--accent-soft", "--ground"), ("--accent", "--accent-soft")]
    assert [pair for pair in pairs if page.evaluate(_CONTRAST, pair) < 3] == []
    edge = "element => getComputedStyle(element).borderColor"
    drawn = page.evaluate(
        "() => { const probe = document.body.appendChild(document.createElement('i'));"
        " probe.style.color = 'var(--edge)'; return getComputedStyle(probe).color; }"
    )
    assert [page.locator(one).first.evaluate(edge) for one in ("input", "select", ".picker button")] == [drawn] * 3


def test_on_a_phone_figures_of_twelve_digits_and_the_labels_of_days_have_room(opened):
    page = opened("overview", viewport={"width": 320, "height": 800})
    page.locator(".figures dt + dd").first.evaluate("figure => { figure.textContent = '999,999,999,999' }")
    box = page.locator(".figures dt + dd").first.bounding_box()
    assert box and box["x"] + box["width"] <= 304
    boxes = [tick.bounding_box() for tick in page.locator(".plot > text").all() if tick.is_visible()]
    edges = [(box["x"], box["x"] + box["width"]) for box in boxes if box]
    assert len(edges) >= 2
    assert all(end + 8 <= start for (_, end), (start, _) in pairwise(edges))


def test_a_long_path_leaves_a_phone_room_for_its_figures(opened):
    page = opened("path of emoji", **PHONE)
    for part in ("h1.path", ".raw"):
        box = page.locator(part).bounding_box()
        assert box and box["height"] <= 180
    assert page.locator(".raw").evaluate("raw => raw.scrollHeight > raw.clientHeight && raw.tabIndex === 0")


def test_figures_stand_in_line(opened):
    assert (
        opened("overview").evaluate("getComputedStyle(document.querySelector('td')).fontVariantNumeric")
        == "tabular-nums"
    )
    assert opened("overview").evaluate("getComputedStyle(document.querySelector('td')).textAlign") == "end"
