"""Share links: the pages of one prefix, and nothing else, to somebody without a login."""

import re
from datetime import timedelta
from html import unescape
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.core import signing
from django.test import Client

from counters import sharing
from counters.dimensions import Dimensions, Origin
from counters.hits import now
from counters.models import Counter, ShareLink

pytestmark = pytest.mark.django_db

WITHIN = {"/shop/a": 5, "/shop/b/c": 3, "/shop/b/d": 2}
SECRETS = {"/secret/x": 50, "/shopping": 40, "/shop": 30, "/SHOP/a": 20, "/api/shop/a": 10}
OUTSIDE = (
    "/",
    "/s",
    "/shop",
    "/shopping",
    "/secret/",
    "/SHOP/",
    "/api/shop/",
    "/secret/../shop/",
    "//shop/",
    "/%73hop/",
)
NARROWED = ("/", "/paths/", "/tree/", "/by/country/", "/by/consumer/")


@pytest.fixture(autouse=True)
def _hits(settings):
    settings.HITCOUNTER_OPEN = False
    for path, hits in {**WITHIN, **SECRETS}.items():
        consumer = "undisclosed" if path in SECRETS else "acme"
        origin = Origin(Dimensions(method="GET", consumer=consumer, country="DE"), identity=consumer.encode())
        Counter.objects.increment(path, hits, origin=origin)


@pytest.fixture
def link():
    return ShareLink.objects.create(name="for Bob", prefix="/shop/")


@pytest.fixture
def bob(client, link):
    """A browser that has followed the link."""
    client.get(address_of(link))
    return client


def address_of(link: ShareLink) -> str:
    return f"/share/{sharing.token(link)}/"


def with_query(page: str, query: str) -> str:
    return f"{page}{'&' if '?' in page else '?'}{query}"


def links(page: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'(?:href|src)="([^"]*)"', page)]


def tells_a_secret(page: str) -> bool:
    return any(secret in page for secret in ("secret", "shopping", "SHOP", "api/shop", "undisclosed"))


# The link


def test_a_link_leads_to_the_overview_of_its_prefix_by_a_cookie_that_scripts_cannot_read(client, link):
    answer = client.get(address_of(link))
    assert (answer.status_code, answer.headers["Location"]) == (302, "/?prefix=%2Fshop%2F")
    assert "no-store" in answer.headers["Cache-Control"]
    [cookie] = answer.cookies.values()
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"], cookie["path"]) == (True, "Lax", "", "/")
    page = client.get(answer.headers["Location"]).text
    assert "<dd>10</dd>" in page and "/shop/b/c" in page
    assert not tells_a_secret(page)


def test_the_cookie_is_secure_where_sessions_are(client, link, settings):
    settings.SESSION_COOKIE_SECURE = True
    assert client.get(address_of(link)).cookies[sharing.COOKIE]["secure"]


def test_HEAD_is_GET_and_other_methods_are_refused(client, link):
    assert client.head(address_of(link)).status_code == 302
    for method in ("post", "put", "delete"):
        assert getattr(client, method)(address_of(link)).status_code == 405


@pytest.mark.parametrize(
    "made_up",
    [
        lambda link: link.id.hex,
        lambda link: f"{link.id.hex}:",
        lambda link: sharing.token(link)[:-1],
        lambda link: sharing.token(link) + "x",
        lambda link: sharing.token(link).upper(),
        lambda link: signing.Signer(salt="other").sign(link.id.hex),
        lambda _: signing.Signer(salt="counters.share").sign("0" * 32),
        lambda _: "%00",
        lambda _: "x" * 5000,
    ],
    ids=["unsigned", "no signature", "cut", "longer", "upper", "other purpose", "deleted", "NUL", "long"],
)
def test_a_link_that_there_is_not_is_a_page_that_says_so_and_opens_nothing(client, link, made_up):
    answer = client.get(f"/share/{quote(made_up(link))}/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such share link." in answer.text
    assert "Books" not in answer.text
    client.cookies[sharing.COOKIE] = made_up(link)
    assert client.get("/").status_code == 302


@pytest.mark.parametrize("over", [{"revoked": True}, {"expires": now()}], ids=["revoked", "expired"])
def test_a_link_that_is_over_is_a_page_that_says_so_and_ends_what_it_opened(bob, link, over):
    assert bob.get("/").status_code == 200
    ShareLink.objects.update(**over)
    for page in ("/", "/paths/", "/path/?path=/shop/a", "/tree/", "/by/country/"):
        assert urlsplit(bob.get(page).headers["Location"]).path == "/login/"
    answer = bob.get(address_of(link))
    assert (answer.status_code, answer.headers["Content-Type"]) == (410, "text/html; charset=utf-8")
    assert "expired, or has been revoked" in answer.text
    assert not Client().get(address_of(link)).cookies


def test_a_link_holds_until_its_end(bob):
    ShareLink.objects.update(expires=now() + timedelta(minutes=1))
    assert bob.get("/").status_code == 200


def test_who_is_logged_in_is_led_to_the_prefix_and_keeps_all_there_is(client, link, django_user_model):
    client.force_login(django_user_model.objects.create_user("ann"))
    answer = client.get(address_of(link))
    assert (answer.headers["Location"], answer.cookies) == ("/?prefix=%2Fshop%2F", {})
    client.cookies[sharing.COOKIE] = sharing.token(link)
    assert "/secret/x" in client.get("/paths/?period=all").text


def test_an_open_service_leads_to_the_prefix_and_hides_nothing(client, link, settings):
    settings.HITCOUNTER_OPEN = True
    assert not client.get(address_of(link)).cookies
    client.cookies[sharing.COOKIE] = sharing.token(link)
    assert "/secret/x" in client.get("/paths/?period=all").text


# What its holder sees


@pytest.mark.parametrize("page", NARROWED)
@pytest.mark.parametrize(
    "query",
    ["", "prefix=", "prefix=/shop/", "prefix=/shop/b", "prefix=/secret/&prefix=", "period=today", "utm_source=a"],
)
def test_whatever_a_page_is_asked_for_it_is_within_the_prefix(bob, page, query):
    found = bob.get(with_query(page, query) if "period" in query else with_query(page, f"{query}&period=all"))
    assert found.status_code == 200
    assert not tells_a_secret(found.text)


@pytest.mark.parametrize("page", NARROWED)
@pytest.mark.parametrize("prefix", OUTSIDE)
def test_another_prefix_is_refused_with_a_page(bob, page, prefix):
    answer = bob.get(with_query(page, f"prefix={quote(prefix, safe='')}"))
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "the paths below its own prefix" in answer.text
    assert not re.search(r"secret/x|shopping<|Books", answer.text)


@pytest.mark.parametrize("page", ["/path/", "/by/country/"])
@pytest.mark.parametrize("path", ["/secret/x", "/shop", "/shopping", "/", "/SHOP/a", "/api/shop/a", "/%73hop/a"])
def test_another_path_is_refused_with_a_page(bob, page, path):
    assert bob.get(f"{page}?path={quote(path, safe='')}").status_code == 403


@pytest.mark.parametrize("page", ["/path/", "/by/country/"])
@pytest.mark.parametrize(
    "query",
    [
        "path=/shop/a&path=/secret/x",
        "path=/secret/x&path=/shop/a",
        "path=/secret/x&prefix=/shop/",
        "path=/shop/a&prefix=/secret/",
        "prefix=/shop/&prefix=/secret/",
        "path=/secret/x&path=",
        "path=/shop/a%00",
        "path=",
    ],
)
def test_two_answers_to_what_is_asked_for_are_none(bob, page, query):
    answer = bob.get(f"{page}?{query}")
    assert answer.status_code in (400, 403)
    assert "50" not in re.sub(r"<[^>]*>", "", answer.text)


def test_a_path_within_is_shown_without_its_place_among_all_badge_and_snippets(bob):
    page = bob.get("/path/?path=/shop/b/c&period=all").text
    assert "<dd>3</dd>" in page
    for hidden in ("Place", "/badge/", "curl", "/stats/", "/secret"):
        assert hidden not in page


@pytest.mark.parametrize("search", ["secret", "shop", "/secret", "/shop/", "", " "])
def test_there_is_no_search(bob, search):
    answer = bob.get(f"/paths/?search={quote(search)}")
    assert answer.status_code == 403
    assert not re.search("secret/x|shopping", answer.text)


def test_the_cursor_of_another_list_leads_to_nothing_else(bob):
    from counters.api.queries import PositionField
    from counters.stats import Position

    for position in (Position(50, "/secret/x"), Position(10**9, "/secret/"), Position(4, "/")):
        cursor = PositionField().to_representation(position)
        for page in ("/paths/", "/tree/"):
            answer = bob.get(f"{page}?period=all&cursor={quote(cursor)}")
            assert answer.status_code == 200
            assert not tells_a_secret(answer.text.replace(quote(cursor), ""))


@pytest.mark.parametrize(
    "page", ["/live/", "/loadtests/", "/docs/", "/loadtests/00000000-0000-0000-0000-000000000000/", "/admin/"]
)
def test_other_pages_ask_to_log_in(bob, page):
    assert bob.get(page).status_code == 302


@pytest.mark.parametrize(
    "address", ["/stats/?prefix=/shop/", "/stats/path/?path=/shop/a", "/badge/shop/a.svg", "/live/events/", "/schema/"]
)
def test_of_REST_there_is_nothing(bob, address):
    assert bob.get(address).status_code == 401


@pytest.mark.parametrize("path", ["/hits/", "/test/1/", "/loadtests/"])
def test_nothing_is_sent_or_begun(bob, path):
    assert bob.post(path).status_code in (302, 401)


def test_a_page_answers_to_no_other_method(bob):
    assert bob.post("/").status_code == 405


def test_every_link_on_every_page_leads_to_a_page_that_may_be_seen(bob):
    """Three levels deep; but for files, which are everybody's."""
    seen: set[str] = set()
    waiting = ["/?period=all"]
    for _ in range(3):
        found: list[str] = []
        for target in waiting:
            if target in seen:
                continue
            seen.add(target)
            answer = bob.get(target)
            assert answer.status_code == 200, target
            assert not tells_a_secret(answer.text), target
            found += [link for link in links(answer.text) if link.startswith("/") and not link.startswith("/static/")]
        # Filters by other values make the same pages again and again.
        waiting = [target for target in dict.fromkeys(found) if len(parse_qs(urlsplit(target).query)) <= 4][:60]
    assert {urlsplit(target).path for target in seen} >= {"/", "/paths/", "/path/", "/tree/", "/by/country/"}


def test_parents_outside_are_named_and_lead_nowhere(bob):
    page = bob.get("/tree/?prefix=/shop/b/").text
    trail = re.search(r'<h1 class="path">(.*?)</h1>', page)[1]
    assert [parse_qs(urlsplit(link).query)["prefix"] for link in links(trail)] == [["/shop/"]]


def test_the_prefix_itself_cannot_be_taken_away_and_a_narrower_one_can(bob):
    page = bob.get("/paths/").text
    assert "Without Begins with" not in page
    page = bob.get("/paths/?prefix=/shop/b/").text
    assert "Without Begins with /shop/b/" in page


def test_nobody_elses_first_hit_makes_an_empty_prefix_less_empty(client):
    link = ShareLink.objects.create(name="a", prefix="/none/")
    client.get(address_of(link))
    page = client.get("/?period=all")
    assert page.status_code == 200
    assert "No hits in this period" in page.text and "curl" not in page.text


def test_a_prefix_without_a_slash_is_the_beginning_of_a_segment(client):
    link = ShareLink.objects.create(name="a", prefix="/shop")
    client.get(address_of(link))
    page = client.get("/tree/?period=all").text
    assert "shopping" in page and "secret" not in page and "SHOP" not in page


def test_the_link_that_was_followed_last_counts(bob):
    other = ShareLink.objects.create(name="b", prefix="/secret/")
    bob.get(address_of(other))
    assert "/secret/x" in bob.get("/paths/?period=all").text
    assert bob.get("/paths/?prefix=/shop/").status_code == 403
