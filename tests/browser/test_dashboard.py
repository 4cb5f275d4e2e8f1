"""The pages in a real browser: what they show is what the API says, by mouse, by keyboard, and without JavaScript."""

import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.visitor import Visitor, until
from tests.service import Service

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
BOT = "Googlebot/2.1 (+http://www.google.com/bot.html)"
HITS: list[dict[str, Any]] = [
    {"path": "/api/shop/cart", "days": 1, "n": 40, "country": "DE", "user_agent": FIREFOX, "visitor": "ann"},
    {"path": "/api/shop/cart", "days": 2, "n": 12, "country": "FR", "user_agent": FIREFOX, "visitor": "bob"},
    {"path": "/api/shop/", "days": 2, "n": 7, "country": "DE", "status": 404, "visitor": "ann"},
    {"path": "/api/blog/2026", "days": 3, "n": 1300, "user_agent": BOT, "visitor": "bot"},
    {"path": "/api/blog/2025", "days": 9, "n": 5, "country": "FR", "referrer": "https://news.example/a"},
    {"path": "/api/caf%C3%A9/", "days": 20, "n": 3, "consumer": "till"},
]


def day(before: int) -> date:
    """So many days before today."""
    return datetime.now(UTC).date() - timedelta(days=before)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose figures are those of HITS, each at 20:00 UTC, and of nothing else."""
    with Service(tmp_path_factory.mktemp("shop"), DATABASE_URL="", HITCOUNTER_WORKERS="1") as running:
        report(running, [{**hit, "at": f"{day(hit['days'])}T20:00:00Z"} for hit in HITS])
        yield running


def report(service: Service, hits: list[dict[str, Any]]) -> None:
    told = [{name: value for name, value in hit.items() if name != "days"} for hit in hits]
    requests.post(f"{service.url}/hits/", json=told, timeout=30).raise_for_status()


@pytest.fixture
def ann(visitor: Callable[..., Visitor]) -> Iterator[Visitor]:
    """Somebody in the time zone UTC, of whose pages none may complain."""
    someone = visitor(timezone_id="UTC")
    yield someone
    someone.page.evaluate("null")
    assert someone.complaints == []


def total(service: Service, **asked: str) -> tuple[int, int]:
    found = service.get("/stats/total/", params=asked).json()
    return found["hits"], found["visitors"]


def figures(page: Page) -> tuple[int, int]:
    """Hits and visitors of the period, as the page shows them."""
    hits, visitors = page.locator("dl.figures dt + dd").all_text_contents()
    return int(hits.replace(",", "")), int(visitors.replace(",", ""))


def rows(page: Page, panel: str) -> dict[str, int]:
    lines = page.locator(f"section[aria-labelledby=panel-{panel}] tbody tr")
    return {
        line.locator("bdi").text_content(): _number(line.locator("td").first.text_content()) for line in lines.all()
    }


def _number(text: str | None) -> int:
    return int((text or "").replace(",", ""))


def asked(page: Page) -> dict[str, str]:
    """The parameters in the address bar."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query, keep_blank_values=True).items()}


def chips(page: Page) -> list[str]:
    return [" ".join(chip.inner_text().split()) for chip in page.locator(".chips li").all()]


# What they show


def test_the_overview_shows_what_the_api_says(shop, ann):
    ann.page.goto(shop.url)
    since = {"from": str(day(29))}
    assert figures(ann.page) == total(shop, **since)
    paths = {row["path"]: row["count"] for row in shop.get("/stats/", params=since).json()}
    assert rows(ann.page, "path") == {path.replace("%C3%A9", "é"): count for path, count in paths.items()}
    assert rows(ann.page, "country") == {"Germany": 47, "France": 17, "(unknown)": 1303}
    browsers = {row["value"]: row["hits"] for row in shop.get("/stats/by/browser/", params=since).json()}
    assert rows(ann.page, "browser") == {value or "(unknown)": hits for value, hits in browsers.items()}


def test_a_country_is_chosen_shown_shared_and_let_go(shop, ann, visitor):
    ann.page.goto(f"{shop.url}/?period=7d")
    ann.page.get_by_role("link", name="Germany").click()
    assert asked(ann.page) == {"period": "7d", "country": "DE", "tz": "UTC"}
    assert figures(ann.page) == total(shop, country="DE", **{"from": str(day(6))}) == (47, 2)
    assert chips(ann.page) == ["Country DE ×"]
    bob = visitor(timezone_id="UTC")
    bob.page.goto(ann.page.url)
    assert (figures(bob.page), chips(bob.page)) == ((47, 2), ["Country DE ×"])
    assert bob.complaints == []
    ann.page.get_by_role("link", name="Without Country DE").click()
    assert asked(ann.page) == {"period": "7d", "tz": "UTC"}
    assert figures(ann.page) == total(shop, **{"from": str(day(6))})


def test_choices_add_up_and_are_kept_from_page_to_page(shop, ann):
    ann.page.goto(f"{shop.url}/?period=30d&country=FR")
    ann.page.get_by_role("link", name="news.example").click()
    assert figures(ann.page) == (5, 0)
    ann.page.get_by_role("navigation", name="Pages").get_by_role("link", name="Paths").click()
    assert asked(ann.page) == {"period": "30d", "country": "FR", "referrer": "news.example", "tz": "UTC"}
    expect(ann.page.locator("tbody tr")).to_have_count(1)
    ann.page.get_by_role("link", name="/api/blog/2025").click()
    assert figures(ann.page) == (5, 0)
    assert sorted(chips(ann.page)) == ["Country FR ×", "Referrer news.example ×"]


def test_periods_are_a_click_each(shop, ann):
    ann.page.goto(shop.url)
    for name, period, since in (("7 days", "7d", day(6)), ("12 months", "12mo", day(364)), ("All", "all", None)):
        ann.page.get_by_role("list", name="Period").get_by_role("link", name=name).click()
        assert asked(ann.page) == {"period": period, "tz": "UTC"}
        assert figures(ann.page) == total(shop, **({"from": str(since)} if since else {}))
        assert ann.page.locator(".periods [aria-current]").text_content() == name


def test_days_of_ones_own_and_a_time_zone(shop, ann):
    ann.page.goto(shop.url)
    ann.page.get_by_text("Days and time zone").click()
    ann.page.get_by_label("First day").fill(str(day(3)))
    ann.page.get_by_label("Last day").fill(str(day(2)))
    ann.page.get_by_label("Time zone", exact=True).fill("Europe/Berlin")
    ann.page.get_by_role("button", name="Show", exact=True).click()
    query = asked(ann.page)
    assert (query["first"], query["last"], query["tz"]) == (str(day(3)), str(day(2)), "Europe/Berlin")
    assert figures(ann.page) == total(shop, **{"from": str(day(3)), "to": str(day(1)), "tz": "Europe/Berlin"})


def test_the_interval_is_one_choice(shop, ann):
    ann.page.goto(f"{shop.url}/?period=7d")
    ann.page.get_by_role("combobox", name="Interval").select_option("hour")
    ann.page.get_by_role("button", name="Show", exact=True).click()
    assert asked(ann.page)["interval"] == "hour"
    series = shop.get("/stats/series/", params={"from": str(day(6)), "interval": "hour"}).json()
    expect(ann.page.locator(".chart tbody tr")).to_have_count(len(series))


def test_bots_are_left_out_by_keyboard(shop, ann):
    ann.page.goto(f"{shop.url}/?period=7d")
    ann.page.get_by_label("Whose hits").focus()
    ann.page.evaluate("window.same = true")
    ann.page.keyboard.press("ArrowDown")
    ann.page.wait_for_timeout(300)
    # A choice that is gone through with the arrow keys changes neither the page nor the focus.
    assert ann.page.evaluate("window.same && document.activeElement.name") == "bot"
    with ann.page.expect_navigation():
        ann.page.get_by_role("button", name="Show", exact=True).press("Enter")
    assert asked(ann.page)["bot"] == "false"
    assert figures(ann.page) == total(shop, bot="false", **{"from": str(day(6))}) == (59, 3)
    assert ann.page.get_by_label("Whose hits").input_value() == "false"


def test_the_days_are_those_of_the_reader(shop, visitor):
    tom = visitor(timezone_id="Asia/Tokyo")
    tom.page.goto(f"{shop.url}/?first={day(1)}&last={day(1)}")
    tom.page.wait_for_selector("html[data-zone='Asia/Tokyo']")
    # 20:00 UTC is the next day's morning in Tokyo.
    assert figures(tom.page) == total(shop, **{"from": str(day(1)), "to": str(day(0)), "tz": "Asia/Tokyo"}) == (19, 2)
    links = [
        link.get_attribute("href") or "" for link in tom.page.locator("main a, header nav[aria-label=Pages] a").all()
    ]
    carried = [link for link in links if link.startswith(("/?", "/paths/?", "/path/?", "/tree/?", "/by/"))]
    assert len(carried) > 10
    assert all(parse_qs(urlsplit(link).query)["tz"] == ["Asia/Tokyo"] for link in carried)
    bob = visitor(timezone_id="UTC")
    tom.page.get_by_role("list", name="Period").get_by_role("link", name="7 days").click()
    bob.page.goto(tom.page.url)
    assert figures(bob.page) == figures(tom.page)
    assert bob.page.locator("html").get_attribute("data-zone") == "Asia/Tokyo"
    assert tom.complaints == bob.complaints == []


def test_the_chart_tells_exact_figures_by_mouse_by_arrows_and_as_a_table(shop, ann):
    ann.page.goto(f"{shop.url}/?period=7d")
    series = shop.get("/stats/series/", params={"from": str(day(6)), "interval": "day"}).json()
    plot, said = ann.page.locator(".plot").first, ann.page.locator(".chart output")
    box = plot.bounding_box()
    assert box
    for n, point in enumerate(series):
        ann.page.mouse.move(box["x"] + (n + 0.5) * box["width"] / len(series), box["y"] + 50)
        expect(said).to_contain_text(f"Hits {point['hits']:,} · Visitors {point['visitors']:,}")
    ann.page.mouse.move(0, 0)
    expect(said).to_be_empty()
    plot.focus()
    for key, n in (("End", 6), ("ArrowLeft", 5), ("Home", 0), ("ArrowRight", 1)):
        ann.page.keyboard.press(key)
        expect(said).to_contain_text(f"Hits {series[n]['hits']:,} ·")
    ann.page.get_by_text("The figures as a table").click()
    cells = [line.locator("td").all_text_contents() for line in ann.page.locator(".chart tbody tr").all()]
    assert [[_number(one) for one in line] for line in cells] == [[one["hits"], one["visitors"]] for one in series]
    assert ann.page.locator(".chart tbody tr").first.is_visible()


def test_a_search_finds_what_contains_it_and_a_slash_what_begins_with_it(shop, ann):
    ann.page.goto(shop.url)
    ann.page.get_by_role("searchbox", name="Search paths").fill("café")
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator("tbody tr")).to_have_count(1)
    ann.page.get_by_role("link", name="/api/café/").click()
    assert asked(ann.page) == {"path": "/api/caf%C3%A9/"}
    expect(ann.page.locator(".raw")).to_have_text("/api/caf%C3%A9/")
    ann.page.get_by_role("searchbox", name="Search paths").fill("/api/blog")
    ann.page.keyboard.press("Enter")
    expect(ann.page.locator("tbody tr")).to_have_count(2)
    assert chips(ann.page) == ["Begins with /api/blog ×"]


def test_the_tree_leads_to_a_path_and_its_page_back_up(shop, ann):
    ann.page.goto(f"{shop.url}/tree/")
    ann.page.get_by_role("link", name="/api/", exact=True).click()
    children = {row["path"]: row["hits"] for row in shop.get("/stats/tree/", params={"prefix": "/api/"}).json()}
    shown = {line.locator("bdi").text_content(): line for line in ann.page.locator("tbody tr").all()}
    assert {name: _number(line.locator("td").nth(1).text_content()) for name, line in shown.items()} == {
        path.replace("%C3%A9", "é"): hits for path, hits in children.items()
    }
    ann.page.get_by_role("link", name="/api/shop/").click()
    ann.page.get_by_role("link", name="/api/shop/cart").click()
    assert figures(ann.page)[0] == 52
    ann.page.locator("h1").get_by_role("link", name="shop/").click()
    assert urlsplit(ann.page.url).path == "/tree/"
    assert asked(ann.page)["prefix"] == "/api/shop/"


def test_what_a_page_gives_to_copy_counts_the_path_once(service, ann):
    ann.page.goto(f"{service.url}/path/?path=/api/copied/it's/%25")
    ann.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for path in ("/api/copied/it's/%25", "/api/copied/{a,b}/../[1-3]?c#d"):
        ann.page.goto(f"{service.url}/path/?path={quote(path, safe='')}")
        ann.page.locator("[data-copy=count]").click()
        until(lambda: ann.page.evaluate("navigator.clipboard.readText()").startswith("curl"))
        command = ann.page.evaluate("navigator.clipboard.readText()")
        subprocess.run(["sh", "-c", f"{command} --silent --show-error"], check=True, capture_output=True)
        until(lambda path=path: service.counts("/api/copied/").get(path) == 1)


# By keyboard


def test_from_the_top_the_keyboard_reaches_all_and_the_focus_is_seen(shop, ann):
    ann.page.goto(f"{shop.url}/?period=7d")
    ann.page.keyboard.press("Tab")
    assert focused(ann.page) == "Skip to the figures"
    box = ann.page.locator(".skip").bounding_box()
    assert box and box["x"] >= 0
    reached = []
    for _ in range(60):
        ann.page.keyboard.press("Tab")
        reached.append(focused(ann.page))
        assert ann.page.evaluate(_OUTLINED), f"nobody sees the focus at {reached[-1]}"
        if "Germany" in reached[-1]:
            break
    assert [name for name in reached if name in ("Overview", "Tree", "30 days", "/api/shop/cart", "Germany")] == [
        "Overview",
        "Tree",
        "30 days",
        "/api/shop/cart",
        "Germany",
    ]
    with ann.page.expect_navigation():
        ann.page.keyboard.press("Enter")
    assert asked(ann.page)["country"] == "DE"


def test_the_skip_link_leads_past_the_head(shop, ann):
    ann.page.goto(shop.url)
    ann.page.keyboard.press("Tab")
    ann.page.keyboard.press("Enter")
    ann.page.keyboard.press("Tab")
    assert focused(ann.page) == "Today"


#: Whether what has the focus has an outline of its own, or is drawn anew.
_OUTLINED = """() => {
    const style = getComputedStyle(document.activeElement);
    return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
}"""


def focused(page: Page) -> str:
    found: str = page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name || ''")
    return found


# Without JavaScript


def test_without_javascript_it_can_be_read_and_narrowed(shop, visitor):
    old = visitor(java_script_enabled=False)
    old.page.goto(f"{shop.url}/?period=7d")
    assert figures(old.page) == total(shop, **{"from": str(day(6))})
    old.page.get_by_role("link", name="DE", exact=True).click()
    assert figures(old.page) == (47, 2)
    old.page.get_by_label("Whose hits").select_option("true")
    old.page.get_by_role("button", name="Show", exact=True).click()
    assert asked(old.page)["bot"] == "true"
    assert asked(old.page)["country"] == "DE"
    old.page.get_by_role("link", name="Without Country DE").click()
    old.page.get_by_role("link", name="/api/blog/2026").click()
    assert figures(old.page)[0] == 1300
    old.page.get_by_role("navigation", name="Pages").get_by_role("link", name="Tree").click()
    expect(old.page.locator("tbody tr")).not_to_have_count(0)
    old.page.get_by_text("Days and time zone").click()
    expect(old.page.get_by_label("First day")).to_be_visible()
    old.page.goto(f"{shop.url}/path/?path=/api/shop/cart")
    expect(old.page.locator("#count")).to_be_visible()
    expect(old.page.locator("[data-copy]").first).to_be_hidden()
    assert old.complaints == []


def test_the_empty_service_says_what_to_do_and_then_shows_it(tmp_path, ann):
    with Service(tmp_path, DATABASE_URL="", HITCOUNTER_WORKERS="1") as fresh:
        ann.page.goto(fresh.url)
        expect(ann.page.get_by_role("heading", name="Nothing has been counted yet")).to_be_visible()
        command = ann.page.locator("#example").text_content() or ""
        subprocess.run(["sh", "-c", command], check=True, capture_output=True)
        until(lambda: fresh.counts() == {"/api/hello/world/": 1})
        ann.page.reload()
        assert figures(ann.page)[0] == 1
        assert rows(ann.page, "path") == {"/api/hello/world/": 1}


# As it happens


def test_a_hit_is_on_the_live_page_within_seconds_without_loading_it_again(service, ann):
    ann.page.goto(f"{service.url}/live/")
    ann.page.evaluate("window.same = true")
    expect(ann.page.locator("[data-live=now]")).not_to_have_text("–")
    for n in (3, 4):
        report(service, [{"path": "/live/%3Cb%3E/caf%C3%A9", "n": n}])
    line = ann.page.locator("[data-live=paths] tr", has_text="/live/<b>/café")
    expect(line.locator("td")).to_have_text("7")
    assert ann.page.evaluate("window.same")
    line.get_by_role("link").click()
    assert asked(ann.page)["path"] == "/live/%3Cb%3E/caf%C3%A9"


@pytest.mark.parametrize(
    ("status", "said", "login"),
    [(503, "Waiting for the service", False), (401, "You are not logged in any more.", True)],
)
def test_the_live_page_goes_on_after_an_answer_that_is_no_stream(shop, visitor, status, said, login):
    ann = visitor(timezone_id="UTC")
    ann.page.route("**/live/events/", lambda route: route.fulfill(status=status, body="{}"))
    ann.page.goto(f"{shop.url}/live/")
    expect(ann.page.locator("[data-live=state]")).to_have_text(said)
    expect(ann.page.get_by_role("link", name="Log in again")).to_be_visible(visible=login)
    ann.page.unroute("**/live/events/")
    expect(ann.page.locator("[data-live=now]")).not_to_have_text("–", timeout=10_000)
    expect(ann.page.locator("[data-live=state]")).to_be_empty()
    expect(ann.page.get_by_role("link", name="Log in again")).to_be_hidden()


def next_event(page: Page) -> None:
    page.evaluate("document.querySelector('[data-live=now]').textContent = '–'")
    expect(page.locator("[data-live=now]")).not_to_have_text("–")


def test_paused_and_gone_on_the_live_page_still_knows_what_was_requested(service, ann):
    ann.page.goto(f"{service.url}/live/")
    expect(ann.page.locator("[data-live=now]")).not_to_have_text("–")
    report(service, [{"path": "/live/paused", "n": 8}])
    line = ann.page.locator("[data-live=paths] tr", has_text="/live/paused")
    expect(line.locator("td")).to_have_text("8")
    next_event(ann.page)  # the feed tells who comes its last event again: one without this path
    ann.page.get_by_role("button", name="Pause").click()
    with ann.page.expect_request("**/live/events/"):
        ann.page.get_by_role("button", name="Go on").click()
    next_event(ann.page)
    expect(line.locator("td")).to_have_text("8")
    expect(ann.page.get_by_text("Nothing was requested")).to_be_hidden()


def test_a_load_test_is_begun_watched_and_reported(service, ann):
    ann.page.goto(f"{service.url}/loadtests/")
    ann.page.get_by_label("Requests").fill("300")
    ann.page.get_by_role("button", name="Begin").click()
    ann.page.wait_for_url(re.compile(r"/loadtests/[0-9a-f-]{36}/$"))
    expect(ann.page.get_by_text("All that was acknowledged is counted.")).to_be_visible(timeout=20_000)
    facts = dict(
        zip(
            ann.page.locator(".facts dt").all_text_contents(),
            ann.page.locator(".facts dd").all_text_contents(),
            strict=True,
        )
    )
    assert [facts[name] for name in ("Requests", "Acknowledged", "Failed", "Counted")] == ["300", "300", "0", "300"]
    ann.page.get_by_role("link", name="Load tests", exact=True).first.click()
    expect(ann.page.locator(".runs tbody tr").first.locator("td").first).to_have_text("300")


def test_a_load_test_of_too_many_requests_is_refused_in_place(shop, visitor):
    ann = visitor(java_script_enabled=False)
    ann.page.goto(f"{shop.url}/loadtests/")
    ann.page.locator("form.begin").evaluate("form => form.noValidate = true")
    ann.page.get_by_label("Requests").fill("0")
    ann.page.get_by_role("button", name="Begin").click()
    expect(ann.page.get_by_role("alert")).to_be_visible()
    assert ann.page.get_by_label("Requests").input_value() == "0"
