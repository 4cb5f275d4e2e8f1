"""Whatever has been planted in the counts or in an address: pages show it as text, and nothing of it comes to life."""

from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Dialog, Page, Request, expect

from tests.browser import hostile
from tests.browser.visitor import Visitor
from tests.service import Service

#: What would turn the direction of a text, or hide in it.
UNSEEN = set(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x200E, 0x200F, 0xFEFF, 0]))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("planted"), DATABASE_URL="", HITCOUNTER_WORKERS="1") as running:
        hostile.plant(running)
        yield running


class Watched:
    """A visitor's page, of which is noted what comes to life and whom it asks."""

    def __init__(self, visitor: Visitor, service: Service) -> None:
        self.visitor, self.page, self._service = visitor, visitor.page, service
        self.alive: list[str] = []
        self.asked: list[str] = []
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)

    def _dialog(self, dialog: Dialog) -> None:
        self.alive.append(dialog.message)
        dialog.dismiss()

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)

    def opens(self, address: str) -> Page:
        self.page.goto(self._service.url + address)
        return self.page

    def is_unharmed(self) -> None:
        """Nothing but the page's own is there, no dialog came, nobody else was asked, and all can be seen."""
        strange = self.page.evaluate(
            """() => [...document.querySelectorAll('*')].filter((element) =>
                [...element.attributes].some(({ name }) => name.startsWith('on'))
                || (element.localName === 'script' && !element.src.startsWith(location.origin + '/'))
                || (element.localName === 'img' && !element.src.startsWith(location.origin + '/badge/')
                    && !element.src.startsWith(location.origin + '/static/'))
                || (element.href && !['http:', 'data:'].includes(new URL(element.href, location.href).protocol))
                || (element.localName === 'a' && new URL(element.href || location.href).origin !== location.origin)
            ).map((element) => element.outerHTML)"""
        )
        assert strange == []
        assert UNSEEN.isdisjoint(self.page.locator("body").inner_text() + self.page.title())
        assert [url for url in self.asked if not url.startswith(self._service.url)] == []
        assert (self.alive, self.visitor.complaints) == ([], [])


@pytest.fixture
def watched(planted: Service, visitor: Callable[..., Visitor]) -> Watched:
    return Watched(visitor(timezone_id="UTC"), planted)


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/paths/",
        "/tree/",
        "/tree/?prefix=/api/",
        "/tree/?prefix=//evil.example/",
        "/by/consumer/",
        "/by/route/",
        "/by/referrer/",
        "/by/referrer_url/",
    ],
)
def test_what_is_planted_in_the_counts_is_text_on_every_page(watched, address):
    page = watched.opens(address)
    assert page.locator("tbody tr").count() > 0
    watched.is_unharmed()


@pytest.mark.parametrize("name", hostile.PATHS)
def test_the_page_of_a_planted_path_is_as_harmless(watched, name):
    page = watched.opens(f"/path/?path={quote(hostile.PATHS[name], safe='')}")
    assert page.locator("dl.figures").count() == 1
    watched.is_unharmed()


def test_a_script_in_a_path_is_shown_decoded_and_once_more_as_it_was_sent(watched):
    page = watched.opens(f"/path/?path={quote(hostile.PATHS['script'], safe='')}")
    assert page.locator("h1").inner_text() == "/api/<script>alert(1)</script>/"
    assert page.locator(".raw").inner_text() == hostile.PATHS["script"]
    assert hostile.PATHS["script"] in page.locator("#count").inner_text()
    watched.is_unharmed()


def test_two_paths_that_decode_alike_are_told_apart(watched):
    names = watched.opens("/paths/").locator("tbody bdi").all_inner_texts()
    assert len(names) == len(set(names)) == len(hostile.PATHS)
    assert {hostile.PATHS["script"], hostile.PATHS["raw"]} <= set(names)


def test_marks_of_direction_are_written_out(watched):
    assert hostile.PATHS["bidi"] in watched.opens("/paths/").locator("tbody bdi").all_inner_texts()
    names = watched.opens("/by/consumer/").locator("tbody bdi").all_inner_texts()
    assert r"\u202egpj.\u2066exe" in names


@pytest.mark.parametrize("text", hostile.TEXTS)
def test_what_an_address_asks_is_text_on_the_page_that_answers(watched, text):
    for address in (
        "/paths/?search={}",
        "/?tz={}",
        "/?prefix={}",
        "/?prefix=/{}",
        "/?consumer={}",
        "/?{}=1",
        "/by/consumer/?route={}",
        "/path/?path={}",
        "/paths/?cursor={}",
    ):
        page = watched.opens(address.format(quote(text, safe="")))
        assert page.locator("h1").count() == 1
        # The browser says so itself of each answer that is an error.
        complaints = watched.visitor.complaints
        complaints[:] = [said for said in complaints if "responded with a status of 400" not in said]
        watched.is_unharmed()


def test_the_live_page_writes_text(watched, planted):
    page = watched.opens("/live/")
    expect(page.locator("[data-live=now]")).not_to_have_text("–")
    hostile.plant(planted)
    expect(page.locator("[data-live=paths] tr")).to_have_count(len(hostile.PATHS))
    watched.is_unharmed()


def test_the_admin_shows_it_as_text(watched, planted):
    page = watched.opens("/admin/login/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", (planted.data_dir / "admin-password").read_text().strip())
    page.click("[type=submit]")
    for address in (
        "/admin/counters/counter/",
        "/admin/counters/counter/?q=%3Cscript%3E",
        "/admin/counters/counter/?q=/api/",
    ):
        watched.opens(address)
        watched.is_unharmed()
    assert hostile.PATHS["script"] in page.locator("#result_list").inner_text()
    page.get_by_role("link", name=hostile.PATHS["bidi"]).first.click()
    watched.is_unharmed()


@pytest.mark.parametrize("form", ["csv", "json", "ndjson"])
@pytest.mark.parametrize("address", ["/stats/", "/stats/by/consumer/", "/stats/by/route/"])
def test_exports_are_no_pages(planted, address, form):
    answer = planted.get(address, params={"format": form})
    assert answer.status_code == 200
    assert "html" not in answer.headers["Content-Type"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    cells = answer.text.replace("\r\n", "\n").split("\n")
    assert form != "csv" or not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
