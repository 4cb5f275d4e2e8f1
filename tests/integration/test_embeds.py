"""The pixel, the script and the badge as Django answers them."""

import gzip
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.test import Client

from counters import pixel
from counters.access import SERVICE_HEADER, service_token
from counters.api import embeds
from counters.models import Counter, Hit

pytestmark = pytest.mark.django_db

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def opened(settings: Any) -> None:
    settings.HITCOUNTER_OPEN = True


@pytest.fixture
def closed(opened: None, settings: Any) -> None:
    settings.HITCOUNTER_OPEN = False


def badge(client: Client, path: str, **headers: str) -> Any:
    """The badge of a path, whose bytes go into the address as they are."""
    return client.generic("GET", "/badge/", RAW_URI=f"/badge{path}.svg", headers=headers)


def drawn(answer: Any) -> tuple[str, list[str]]:
    """The title and the other texts of a badge."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
    root = ElementTree.fromstring(answer.text)  # noqa: S314 (our own)
    assert (root.tag, root.get("role")) == (f"{SVG}svg", "img")
    return root.findtext(f"{SVG}title") or "", [text.text or "" for text in root.iter(f"{SVG}text")]


def test_a_view_is_counted_for_the_page_and_not_for_the_pixel(client):
    answer = client.get("/pixel.gif", {"path": "/blog/"}, headers={"Referer": "https://page.example/blog/"})
    assert (answer.status_code, answer.content) == (200, pixel.GIF)
    assert list(Counter.objects.values_list("path", "hits")) == [("/blog/", 1)]
    assert list(Hit.objects.values_list("dimensions__method", "dimensions__referrer")) == [("GET", "")]


def test_a_beacon_needs_no_token(client):
    assert Client(enforce_csrf_checks=True).post("/pixel.gif?path=/blog/", "body", "text/plain").status_code == 204
    assert Counter.objects.get().hits == 1


@pytest.mark.usefixtures("closed")
def test_pages_are_counted_where_statistics_are_closed(client):
    assert client.get("/pixel.gif?path=/blog/").status_code == 200
    assert client.get("/count.js").status_code == 200


def test_the_script_is_kept_for_a_day_and_may_be_loaded_by_any_site(client):
    answer = client.get("/count.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=86400"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_script_takes_a_few_hundred_bytes_in_a_browser_and_is_the_same_elsewhere(client):
    packed = client.get("/count.js", headers={"Accept-Encoding": "gzip, deflate, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.content) == int(packed.headers["Content-Length"]) < 700
    plain = client.get("/count.js")
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(packed.content) == plain.content
    assert packed.headers["ETag"] == plain.headers["ETag"]
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"


def test_the_script_is_its_source_without_what_is_for_readers(client):
    source = Path(embeds.__file__).with_name("count.js").read_text().splitlines()
    code = [line.strip() for line in source if line and not line.lstrip().startswith("//")]
    assert 0 < len(code) < len(source)
    assert client.get("/count.js").text.splitlines() == code


def test_a_script_or_badge_that_is_known_is_not_sent_again(client):
    for address in ("/count.js", "/badge/api/a/.svg"):
        first = client.get(address)
        again = client.get(address, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        for name in ("ETag", "Cache-Control", "Cross-Origin-Resource-Policy", "Vary"):
            assert again.headers.get(name) == first.headers.get(name)
        assert client.get(address, headers={"If-None-Match": 'W/"another"'}).status_code == 200


@pytest.mark.parametrize("address", ["/count.js", "/badge/api/a/.svg"])
@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_script_and_badge_are_only_read(client, address, method):
    answer = getattr(client, method)(address)
    assert (answer.status_code, list(answer.json())) == (405, ["detail"])
    assert {"GET", "HEAD"} <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    ("hits", "number", "said"), [(1, "1", "1 hit"), (999, "999", "999 hits"), (1234567, "1,234,567", "1,234,567 hits")]
)
def test_a_badge_tells_the_count_to_eyes_and_to_screen_readers(client, hits, number, said):
    Counter.objects.increment("/api/a/", by=hits)
    assert drawn(badge(client, "/api/a/")) == (f"{said} of /api/a/", ["hits", number])


def test_a_path_without_hits_has_a_badge_with_0(client):
    assert drawn(badge(client, "/api/none/")) == ("0 hits of /api/none/", ["hits", "0"])


def test_a_badge_changes_its_etag_with_the_count(client):
    before = badge(client, "/api/a/").headers["ETag"]
    Counter.objects.increment("/api/a/")
    after = badge(client, "/api/a/", **{"If-None-Match": before})
    assert after.status_code == 200
    assert after.headers["ETag"] != before


@pytest.mark.parametrize(
    "path", ["/", "/api/a", "/api/a/", "/api/a%2F", "/api/%0A", "/a.svg", "/a/.svg/b", "/api/a+b&c=d"]
)
def test_a_badge_is_of_its_path_byte_for_byte(client, path):
    Counter.objects.increment(path, by=7)
    Counter.objects.increment("/api/other/")
    assert drawn(badge(client, path)) == (f"7 hits of {path}", ["hits", "7"])


@pytest.mark.parametrize(
    "path",
    [
        "/api/<script>alert(1)</script>/",
        "/api/%3Cscript%3Ealert(1)%3C/script%3E/",
        "/api/</title></svg><img/src=x/onerror=alert(1)>",
        "/api/\"'&amp;{{count}}{%load%}]]><!--",
        "/api/%E2%80%AEgnp.exe/",
        "/api/%00%EF%BF%BF",
    ],
)
def test_a_hostile_path_is_nothing_but_text_in_its_badge(client, path):
    answer = badge(client, path)
    assert drawn(answer) == (f"0 hits of {path}", ["hits", "0"])
    assert [element.tag.removeprefix(SVG) for element in ElementTree.fromstring(answer.text).iter()] == [  # noqa: S314
        "svg",
        "title",
        "rect",
        "path",
        "g",
        "text",
        "text",
    ]
    assert answer.text.isascii()


def test_a_badge_brings_nothing_along_and_may_do_nothing(client):
    answer = badge(client, "/api/a/")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert not re.search(r"<style|style=|href|url\(|@import|<script|\son\w+=", answer.text)


@pytest.mark.parametrize(("accept", "query"), [("image/png", ""), ("text/html", ""), ("*/*", "?v=2&format=json")])
def test_a_badge_is_a_picture_whatever_is_asked_for(client, accept, query):
    drawn(client.get(f"/badge/api/a/.svg{query}", headers={"Accept": accept}))


@pytest.mark.parametrize(
    "target", ["/badge/", "/badge/api/a", "/badge/api/a.svg/", "/badge/api.svgz", "/badge/a%2Esvg"]
)
def test_what_is_no_address_of_a_badge_is_not_found(client, target):
    answer = client.generic("GET", "/badge/", RAW_URI=target)
    assert (answer.status_code, list(answer.json())) == (404, ["detail"])


@pytest.mark.parametrize(
    ("path", "status"), [("/" + "x" * 2047, 200), ("/" + "x" * 2048, 414), ("/ü", 400), ("/a b", 400)]
)
def test_a_path_that_cannot_be_counted_has_no_badge(client, path, status):
    assert badge(client, path).status_code == status


def test_a_badge_may_be_kept_by_all_for_a_minute(client):
    assert badge(client, "/api/a/").headers["Cache-Control"] == "public, max-age=60"


@pytest.mark.usefixtures("closed")
def test_where_statistics_are_closed_strangers_see_no_badge(client, django_user_model):
    django_user_model.objects.create_user("bob", password="pw")
    assert badge(client, "/api/a/").status_code == 401
    assert list(badge(client, "/api/a/").json()) == ["detail"]
    client.force_login(django_user_model.objects.get())
    assert badge(client, "/api/a/").status_code == 200


@pytest.mark.usefixtures("closed")
def test_where_statistics_are_closed_a_badge_is_kept_by_who_may_see_it_alone(client):
    answer = badge(client, "/api/a/", **{SERVICE_HEADER: service_token()})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "private, max-age=60")


def test_a_badge_takes_one_query(client, django_assert_num_queries):
    with django_assert_num_queries(1):
        badge(client, "/api/a/")
