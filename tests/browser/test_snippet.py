"""The script in real pages: each view counted once, none that is not to be, and no page disturbed."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.visitor import ARGUMENTS, PATIENCE_SECONDS, until
from tests.service import Service


def snippet(service: Service, attributes: str = "async") -> str:
    return f'<script {attributes} src="{service.url}/count.js"></script>'


def told(visitor) -> list[tuple[str, str]]:
    """Path and referrer of each beacon, in their order."""
    queries = [parse_qs(urlsplit(request.url).query, keep_blank_values=True) for request in visitor.sent]
    return [(path, referrer) for query in queries for path in query["path"] for referrer in query["referrer"]]


def referrers(service: Service, path: str) -> dict[str, int]:
    rows = service.get("/stats/by/referrer_url/", params={"path": path}).json()
    return {row["value"]: row["hits"] for row in rows}


@pytest.mark.parametrize("attributes", ["", "async", "defer"])
def test_a_view_is_counted_once_under_a_strict_policy(service, site, visitor, attributes):
    path = f"/view/{attributes}/"
    ann = visitor()
    ann.page.goto(site({path: snippet(service, attributes)}).url + path)
    ann.waits_for_counts(service, path, {path: 1})
    assert [request.method for request in ann.sent] == ["POST"]
    assert ann.complaints == []


FULL = "navigator.sendBeacon = () => false"


@pytest.mark.parametrize("scripts", [[], [FULL]], ids=["beacon", "fetch"])
def test_a_policy_that_does_not_allow_it_counts_nothing_and_the_page_is_none_the_worse(service, site, visitor, scripts):
    ann = visitor(*scripts)
    pages = site({"/forbidden/": snippet(service, "")}, f"default-src 'none'; script-src {service.url}; img-src data:")
    ann.page.goto(f"{pages.url}/forbidden/")
    ann.page.evaluate("history.pushState({}, '', '/forbidden/too/')")
    assert ann.page.evaluate("location.pathname") == "/forbidden/too/"
    assert ann.complaints, "complaints are not seen"
    assert [said for said in ann.complaints if "Content Security Policy" not in said] == []
    assert service.counts("/forbidden/") == {}


def test_a_view_is_counted_once_where_the_page_loads_the_script_twice(service, site, visitor):
    ann = visitor()
    prefixed = snippet(service, 'data-prefix="/twice.example"')
    later = snippet(service, "").replace("count.js", "count.js?v=2")
    ann.page.goto(site({"/twice/": snippet(service, "") + prefixed + later + prefixed}).url + "/twice/")
    ann.page.evaluate("history.pushState({}, '', '/twice/more')")
    ann.waits_for_counts(
        service, "/twice", {f"{at}/twice/{page}": 1 for at in ("", "/twice.example") for page in ("", "more")}
    )
    assert len(ann.sent) == 4
    assert ann.complaints == []


def test_views_within_a_page_are_counted_when_the_path_changes(service, site, visitor):
    ann = visitor()
    ann.page.goto(site({"/app/": snippet(service, "")}).url + "/app/?start=1")
    for change in (
        "history.pushState({n: 1}, '', '/app/a')",
        "history.replaceState({}, '', '/app/a')",  # the same
        "history.pushState({}, '', '?page=2')",  # so is this
        "history.pushState(null, '', '#part')",
        "history.pushState(null, '')",
        "history.replaceState({}, '', '/app/b')",
        "history.pushState({}, '', '/app/a')",
    ):
        ann.page.evaluate(change)
    ann.page.evaluate("history.back()")
    ann.page.wait_for_url("**/app/b")
    ann.page.evaluate("location.hash = 'other'")
    ann.page.evaluate("history.pushState({}, '', '/app/end')")
    ann.waits_for_counts(service, "/app/", {"/app/": 1, "/app/a": 2, "/app/b": 2, "/app/end": 1})
    assert [path for path, _ in told(ann)] == ["/app/", "/app/a", "/app/b", "/app/a", "/app/b", "/app/end"]
    assert ann.complaints == []


def test_the_history_works_as_it_did(service, site, visitor):
    ann = visitor()
    ann.page.goto(site({"/history/": snippet(service, "")}).url + "/history/")
    assert ann.page.evaluate("[history.pushState({n: 7}, '', '/history/a'), history.state.n, history.length]") == [
        None,
        7,
        3,
    ]
    refused = (
        "() => { try { history.pushState({}, '', 'https://other.example/') } catch (error) { return error.name } }"
    )
    assert ann.page.evaluate(refused) == "SecurityError"


def test_going_back_and_forward_are_views(service, site, visitor):
    ann = visitor("addEventListener('pageshow', (event) => { window.restored = event.persisted })")
    pages = site({"/walk/a": snippet(service), "/walk/b": snippet(service)})
    ann.page.goto(f"{pages.url}/walk/a")
    ann.waits_for_counts(service, "/walk/", {"/walk/a": 1})
    ann.page.goto(f"{pages.url}/walk/b")
    ann.waits_for_counts(service, "/walk/", {"/walk/a": 1, "/walk/b": 1})
    ann.page.go_back(wait_until="commit")  # what comes from the cache does not load again
    ann.waits_for_counts(service, "/walk/", {"/walk/a": 2, "/walk/b": 1})
    assert ann.page.evaluate("restored"), "the browser kept no page in its cache: nothing was tried"
    ann.page.go_forward(wait_until="commit")
    ann.waits_for_counts(service, "/walk/", {"/walk/a": 2, "/walk/b": 2})
    assert ann.complaints == []


def wishing(name: str, value: str) -> str:
    """A script with which a browser says what its user wants."""
    return f"Object.defineProperty(navigator, '{name}', {{value: {value}}})"


@pytest.mark.parametrize("wish", [wishing("globalPrivacyControl", "true"), wishing("doNotTrack", "'1'")])
def test_nothing_is_sent_of_who_does_not_want_it(service, site, visitor, wish):
    ann = visitor(wish)
    ann.page.goto(site({"/private/": snippet(service, "")}).url + "/private/")
    ann.page.evaluate("history.pushState({}, '', '/private/too')")
    ann.page.goto("about:blank")
    assert ann.sent == []
    assert ann.complaints == []


@pytest.mark.parametrize("wish", [wishing("globalPrivacyControl", "false"), wishing("doNotTrack", "'0'")])
def test_who_does_not_mind_is_counted(service, site, visitor, wish):
    ann = visitor(wish)
    ann.page.goto(site({"/open/": snippet(service, "")}).url + "/open/")
    ann.page.goto("about:blank")
    assert told(ann) == [("/open/", "")]


def test_a_view_is_counted_when_the_browser_takes_no_more_beacons(service, site, visitor):
    ann = visitor(FULL)
    ann.page.goto(site({"/full/": snippet(service, "")}).url + "/full/")
    ann.page.evaluate("history.pushState({}, '', '/full/more')")
    ann.waits_for_counts(service, "/full/", {"/full/": 1, "/full/more": 1})
    assert [request.method for request in ann.sent] == ["POST", "POST"]
    assert ann.complaints == []


@pytest.mark.parametrize(
    "lacking",
    [
        "Object.defineProperty(navigator, 'sendBeacon', {value: undefined})",
        "navigator.sendBeacon = () => { throw new TypeError('blocked') }",
        FULL + "; window.fetch = () => { throw new TypeError('blocked') }",
        FULL + "; window.fetch = async () => { throw new TypeError('blocked') }",
    ],
    ids=["none", "throws", "fetch throws", "fetch fails"],
)
def test_a_browser_that_sends_nothing_shows_the_page_as_ever(service, site, visitor, lacking):
    ann = visitor(lacking)
    ann.page.goto(site({"/without/": snippet(service, "")}).url + "/without/")
    ann.page.evaluate("history.pushState({}, '', '/without/beacon')")
    assert ann.page.evaluate("location.pathname") == "/without/beacon"
    assert ann.sent == []
    assert ann.complaints == []


def test_a_prefix_tells_sites_apart(service, site, visitor):
    ann = visitor()
    pages = {f"/{name}/": snippet(service, f'async data-prefix="/{name}.example"') for name in ("one", "two")}
    url = site(pages).url
    for path in pages:
        ann.page.goto(url + path)
    ann.page.evaluate("history.pushState({}, '', '/')")
    counts = {"/one.example/one/": 1, "/two.example/two/": 1, "/two.example/": 1}
    for prefix in ("/one.example", "/two.example"):
        own = {path: count for path, count in counts.items() if path.startswith(prefix)}
        ann.waits_for_counts(service, prefix, own)


@pytest.mark.parametrize("tail", ["a%20b", "a%2Fb", "ü", "a+b&c=d", "%F0%9F%90%8D", "a%00", "'();"])
def test_the_path_is_the_one_that_the_browser_shows(service, site, visitor, tail):
    ann = visitor()
    ann.page.goto(site({"/bytes/": snippet(service, "")}).url + "/bytes/")
    path = ann.page.evaluate("tail => { history.pushState({}, '', tail); return location.pathname }", f"/bytes/{tail}")
    ann.waits_for_counts(service, path, {path: 1})


def test_the_referrer_is_the_other_site_that_the_visitor_came_from(service, site, visitor):
    ann = visitor()
    pages = site({"/to/": snippet(service) + "<a href=/to/more>on</a>", "/to/more": snippet(service)})
    elsewhere = site({"/from/": f"<a href={pages.url}/to/?q=secret referrerpolicy=unsafe-url>on</a>"})
    ann.page.goto(f"{elsewhere.url}/from/?q=secret")
    ann.page.click("a")
    ann.waits_for_counts(service, "/to/", {"/to/": 1})
    ann.page.evaluate("history.pushState({}, '', '/to/a?q=secret')")
    ann.page.click("a")
    ann.waits_for_counts(service, "/to/", {"/to/": 1, "/to/a": 1, "/to/more": 1})
    assert not any("secret" in request.url for request in ann.sent)
    assert [referrers(service, path) for path in ("/to/", "/to/a", "/to/more")] == [
        {f"{elsewhere.url}/from/": 1},
        {"": 1},
        {"": 1},
    ]


def test_a_visitor_who_came_from_nowhere_has_no_referrer(service, site, visitor):
    ann = visitor()
    ann.page.goto(site({"/direct/": snippet(service)}).url + "/direct/")
    ann.waits_for_counts(service, "/direct/", {"/direct/": 1})
    assert referrers(service, "/direct/") == {"": 1}


def test_a_page_that_is_made_ready_ahead_is_counted_when_it_is_looked_at(service, site, chromium, tmp_path):
    # Without Playwright: Chromium makes no page ready ahead while it is driven.
    rules = '{"prerender": [{"urls": ["/ahead/next"], "eagerness": "immediate"}]}'
    follow = "setInterval(async () => { if ((await fetch('/go')).ok) location = '/ahead/next' }, 50)"
    ready = f"fetch('{service.url}/pixel.gif?path=/ahead/ready').then(() => fetch('/ready/' + document.prerendering))"
    pages = {
        "/ahead/": f"{snippet(service)}<script type=speculationrules>{rules}</script><script>{follow}</script>",
        "/ahead/next": f"{snippet(service, '')}<script>{ready}</script>",
    }
    made = site(pages, policy="script-src * 'unsafe-inline'")
    with looking_at(f"{made.url}/ahead/", chromium, tmp_path):
        until(lambda: "/ready/true" in made.asked)
        until(lambda: service.counts("/ahead/") == {"/ahead/": 1, "/ahead/ready": 1})
        pages["/go"] = ""
        until(lambda: service.counts("/ahead/") == {"/ahead/": 1, "/ahead/ready": 1, "/ahead/next": 1})
    assert made.asked.count("/ahead/next") == 1


@contextmanager
def looking_at(address: str, chromium: str, profile: Path) -> Iterator[None]:
    """A browser that nobody drives, on one page."""
    command = [chromium, *ARGUMENTS, f"--user-data-dir={profile}", address]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        browser.terminate()
        browser.wait(timeout=PATIENCE_SECONDS)
