"""From a request to a hit: what is said of it, and that the service would take it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.test import AsyncRequestFactory, RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from counters.middleware.request import PathTooLong, consumer_header, hit_of
from tests.hits_stub import fault

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADDRESS = "203.0.113.7"


class Match:
    def __init__(self, route: str) -> None:
        self.route = route


def request(path="/a", method="GET", route=None, **meta):
    made = RequestFactory().generic(method, path, **{"REMOTE_ADDR": ADDRESS, **meta})
    made.resolver_match = None if route is None else Match(route)
    return made


def hit(made, status=200, consumer="", at=NOON):
    found = hit_of(made, status, consumer, at)
    assert fault(json.dumps(found).encode()) == ""
    return found


def test_a_plain_request():
    found = hit(request())
    assert found.pop("visitor")
    assert found == {"path": "/a", "at": "2026-03-01T12:00:00+00:00", "method": "GET", "status": 200}


def test_all_that_can_be_known():
    made = request(
        method="POST", route="a/<int:id>/", HTTP_USER_AGENT="curl/8.5.0", HTTP_REFERER="https://example.org/page"
    )
    found = hit(made, status=404, consumer="acme")
    assert len(found.pop("visitor")) == 32
    assert found == {
        "path": "/a",
        "at": "2026-03-01T12:00:00+00:00",
        "method": "POST",
        "status": 404,
        "route": "/a/<int:id>/",
        "consumer": "acme",
        "referrer": "https://example.org/page",
        "user_agent": "curl/8.5.0",
    }


def test_a_request_that_no_pattern_matches_has_no_route():
    assert "route" not in hit(request())
    assert hit(request(route=""))["route"] == "/"


def test_a_request_that_was_not_answered_has_no_status():
    assert "status" not in hit(request(), status=None)


@pytest.mark.parametrize(("status", "sent"), [(99, None), (100, 100), (599, 599), (600, None), (999, None)])
def test_a_status_that_is_none_is_left_out(status, sent):
    assert hit(request(), status=status).get("status") == sent


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a%2Fb?c=/d", "/a%2Fb"),
        ("/a//b/", "/a//b/"),
        ('/"<>\\^`{|}#', '/"<>\\^`{|}#'),
        ("/caf\u00c3\u00a9", "/caf%C3%A9"),  # UTF-8 as WSGI has it
        ("/a b", "/a%20b"),
        ("http://example.org/a", "/decoded%20/%C3%A9"),
        ("*", "/decoded%20/%C3%A9"),
        ("", "/decoded%20/%C3%A9"),
    ],
)
@pytest.mark.parametrize("variable", ["RAW_URI", "REQUEST_URI"])
def test_the_path_is_the_target_as_it_was_sent(variable, target, path):
    assert hit(request("/decoded /é", **{variable: target}))["path"] == path


def test_the_path_is_the_raw_path_under_asgi():
    made = AsyncRequestFactory().get("/a/b")
    made.scope["raw_path"] = b"/a%2Fb\xff"
    assert hit(made)["path"] == "/a%2Fb%FF"


def test_a_path_that_is_too_long_is_refused():
    assert hit(request(RAW_URI="/" + "x" * 2047))
    with pytest.raises(PathTooLong, match="2,048"):
        hit(request(RAW_URI="/" + "é" * 683))


@pytest.mark.parametrize(
    ("header", "sent"),
    [
        ("https://example.org/a?q=secret#part", "https://example.org/a"),
        ("https://user:password@example.org/", "https://example.org/"),
        ("android-app://com.example/", "android-app://com.example/"),
        ("https://example.org/" + "x" * 3000, "https://example.org/" + "x" * 2028),
        ("about:blank", None),
        ("", None),
    ],
)
def test_a_referrer_is_sent_without_user_query_and_fragment(header, sent):
    assert hit(request(HTTP_REFERER=header)).get("referrer") == sent


def test_a_user_agent_is_cut():
    assert hit(request(HTTP_USER_AGENT="x" * 600))["user_agent"] == "x" * 512


@pytest.mark.parametrize(
    ("consumer", "sent"),
    [
        ("acme", "acme"),
        ("  a\x00c\r\nme\x7f\x85 ", "acme"),
        ("ü" * 200, "ü" * 127),
        ("\ud800", "?"),
        ("\x00", None),
    ],
)
def test_a_consumer_is_made_to_fit(consumer, sent):
    assert hit(request(), consumer=consumer).get("consumer") == sent


@pytest.mark.parametrize(
    ("header", "read"),
    [("acme", "acme"), ("Ã¼".encode("latin-1").decode("latin-1"), "ü"), ("ü", "ü"), ("Ω", "Ω")],
)
def test_the_consumer_header_is_utf_8_if_it_can_be(header, read):
    assert consumer_header(request(HTTP_X_CONSUMER=header)) == read


@pytest.mark.parametrize("method", ["get", "G T", "", "X" * 21, "GET\n"])
def test_a_method_that_is_none_is_left_out(method):
    made = request()
    made.method = method
    assert "method" not in hit(made)


def visitor(at=NOON, agent="Firefox", **meta):
    return hit(request(**{"HTTP_USER_AGENT": agent, **meta}), at=at).get("visitor")


def test_a_visitor_is_the_same_all_day():
    assert visitor() == visitor(at=NOON + timedelta(hours=11))


def test_visitors_are_told_apart_by_address_user_agent_day_and_project(settings):
    day = NOON + timedelta(days=1)
    found = [visitor(), visitor(at=day), visitor(agent="Chrome"), visitor(REMOTE_ADDR="198.51.100.9")]
    settings.SECRET_KEY = "another"
    assert len({*found, visitor()}) == 5


def test_a_secret_key_may_be_of_bytes(settings):
    as_text = visitor()
    settings.SECRET_KEY = settings.SECRET_KEY.encode()
    assert visitor() == as_text


@pytest.mark.parametrize("wish", ["HTTP_SEC_GPC", "HTTP_DNT"])
def test_whoever_wishes_not_to_be_recognised_is_no_visitor(wish):
    assert visitor(**{wish: "1"}) is None
    assert visitor(**{wish: "0"})


def test_whose_address_is_unknown_is_no_visitor():
    assert visitor(REMOTE_ADDR="") is None


def test_no_address_is_in_a_hit():
    assert ADDRESS not in json.dumps(hit(request()))


LATIN_1 = st.text(st.characters(max_codepoint=255), max_size=3000)
ANYTHING = st.text(st.characters(categories=None), max_size=300)


@given(
    target=LATIN_1,
    referrer=LATIN_1,
    agent=LATIN_1,
    route=ANYTHING,
    consumer=ANYTHING,
    method=ANYTHING,
    status=st.none() | st.integers(),
)
def test_the_service_takes_whatever_comes_of_a_request(target, referrer, agent, route, consumer, method, status):
    made = request(RAW_URI="/" + target[:600], HTTP_REFERER=referrer, HTTP_USER_AGENT=agent, route=route)
    made.method = method
    hit(made, status=status, consumer=consumer)
