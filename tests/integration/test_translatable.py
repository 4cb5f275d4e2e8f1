"""Every word of every page can be translated: under a translation that marks its messages, no other words are left."""

import re
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from django.utils import translation

from counters import stats
from counters.dimensions import Dimensions, Origin
from counters.models import Counter, Hit, LoadTestRun

pytestmark = pytest.mark.django_db

PAGES = [
    "/",
    "/?first=2026-03-01&last=2026-03-01&country=DE&bot=false&prefix=/api/",
    "/paths/",
    "/paths/?search=planted",
    "/paths/?search=nothing",
    "/path/?path=/planted/&tz=Europe/Berlin",
    "/path/?path=/planted/never",
    "/tree/",
    "/tree/?prefix=/planted/never/",
    "/by/country/",
    "/by/bot/",
    "/by/referrer_url/?path=/planted/",
    "/live/",
    "/loadtests/",
    "/?tz=Mars",
]
#: Names of things, units and what is typed; data is planted in words of its own.
NAMES = {"Hit Counter", "API", "CSV", "JSON", "UTC", "p50", "p95", "p99", "max", "ms"}
DATA = re.compile(r"planted|https?://|^(DE|GET|Firefox|Linux)$|^[\d/]")
READ = ("aria-label", "title", "placeholder", "alt", "data-waiting", "data-away", "data-refused", "data-other")


REPORT = {
    "requested": 10, "succeeded": 10, "failed": 0, "errors": {}, "seconds": 0.5, "requests_per_second": 20.0,
    "latency_ms": {"p50": 1.25, "p95": 2.5, "p99": 3.75, "max": 9.0}, "histogram": [{"ms": 2, "count": 10}],
    "unique_paths": 1, "paths": [{"path": "/planted/", "count": 10}], "counted": 10,
}  # fmt: skip


class Marked:
    """A catalogue that has a translation of every message: itself in ⟦brackets⟧, its placeholders kept."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧" if message else message

    def ngettext(self, one: str, more: str, number: int) -> str:
        return f"⟦{one if number == 1 else more}⟧"


class Words(HTMLParser):
    """The texts and readable attributes of a page, but for what is code or a value to be chosen by."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._within: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in READ]
        if tag not in ("input", "img", "meta", "link", "br", "line", "rect", "path"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"code", "bdi", "time", "script"} & set(self._within):
            self.found.append(" ".join(data.split()))


def unmarked(page: str) -> list[str]:
    """The texts that hold words outside of any mark."""
    # A message may hold markup, which parts its text: a mark lasts until it is closed.
    words = Words()
    words.feed(page)
    left, depth = [], 0
    for text in words.found:
        outside = ""
        for character in text:
            depth += (character == "⟦") - (character == "⟧")
            outside += character if depth == 0 and character not in "⟦⟧" else " "
        left += [part for part in re.split(r"\s{2,}|·", outside) if re.search(r"[^\W\d_]", part)]
    parts = [part.strip(" ,") for part in left]
    return [part for part in parts if part not in NAMES and not DATA.search(part)]


@pytest.fixture
def planted(settings, monkeypatch) -> None:
    settings.HITCOUNTER_OPEN = True
    now = datetime(2026, 3, 3, 12, tzinfo=UTC)
    monkeypatch.setattr("counters.hits.now", lambda: now)
    for path, at in (("/planted/", now), ("/planted/a", datetime(2026, 3, 1, 9, tzinfo=UTC))):
        Hit.objects.make_days(at.date())
        for bot in (False, True):
            known = Dimensions(method="GET", country="DE", referrer="planted", browser="Firefox", os="Linux", bot=bot)
            Counter.objects.increment(path, 3, at=at, origin=Origin(known, b"ann"))


@pytest.fixture
def marked(monkeypatch) -> None:
    """Translates everything from here on."""
    catalogue = Marked()
    functions = {
        "gettext": catalogue.gettext,
        "ngettext": catalogue.ngettext,
        "pgettext": lambda _, message: catalogue.gettext(message),
        "npgettext": lambda _, *messages: catalogue.ngettext(*messages),
    }
    for name, function in functions.items():
        monkeypatch.setattr(translation._trans, name, function)


@pytest.mark.usefixtures("planted", "marked")
@pytest.mark.parametrize("address", PAGES)
def test_every_word_of_a_page_can_be_translated(client, address):
    answer = client.get(address)
    assert answer.status_code == (400 if "Mars" in address else 200)
    assert answer.text.count("⟦") > 10
    assert unmarked(answer.text) == []


@pytest.mark.usefixtures("planted", "marked")
@pytest.mark.parametrize(("zones", "status"), [({"Asia/Kolkata"}, 200), ({"Asia/Kolkata", "UTC"}, 422)])
def test_every_word_about_what_is_not_kept_can_be_translated(client, monkeypatch, zones, status):
    scope = stats._scope

    def some(question: stats.Question) -> Any:
        if question.period.tz.key in zones:
            raise stats.NotKept("Not kept.")
        return scope(question)

    monkeypatch.setattr(stats, "_scope", some)
    monkeypatch.setattr(stats, "single_hits_since", lambda: date(2026, 3, 1))
    answer = client.get("/?period=30d&tz=Asia/Kolkata&country=DE")
    assert answer.status_code == status
    for words in ("⟦Single hits and hours are not kept", "⟦Compared with") if status == 200 else ("⟦The same since",):
        assert words in answer.text
    assert unmarked(answer.text) == []


@pytest.mark.usefixtures("marked")
def test_every_word_of_the_empty_page_can_be_translated(client, settings):
    settings.HITCOUNTER_OPEN = True
    page = client.get("/").text
    assert "⟦Nothing has been counted yet⟧" in page
    assert unmarked(page) == []


@pytest.mark.usefixtures("planted", "marked")
@pytest.mark.parametrize("report", [None, REPORT, {**REPORT, "counted": 9}])
def test_every_word_of_a_load_test_can_be_translated(client, report):
    run = LoadTestRun.objects.create(url="https://planted", seed=1, concurrency=1, requested=10, report=report)
    for address in ("/loadtests/", f"/loadtests/{run.id}/"):
        assert unmarked(client.get(address).text) == []


@pytest.mark.usefixtures("planted", "marked")
@pytest.mark.parametrize("requests", ["0", "many"])
def test_what_is_wrong_with_a_form_can_be_translated(client, requests):
    answer = client.post("/loadtests/", {"requests": requests})
    assert answer.status_code == 400
    assert unmarked(answer.text) == []


def test_a_word_that_is_not_translated_would_be_found():
    assert unmarked('<p>⟦All ⟦3⟧ of them⟧ 12 <b>More</b> <i title="Why">⟦x⟧</i></p>') == ["More", "Why"]
