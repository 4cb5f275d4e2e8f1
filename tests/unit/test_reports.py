"""Reports: from the body of a `POST /hits/` to hits, or to a refusal that says which of them cannot be counted."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters import reports
from counters.dimensions import Dimensions
from counters.hits import HitRefused, TimeInvalid, check_time
from counters.reports import BodyInvalid, ItemRefused, Report, TooManyHits, items_of_lines, items_of_list, reported

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
EVERYTHING = {
    "path": "/shop/cart",
    "at": "2026-02-28T23:59:59.5+01:00",
    "n": 3,
    "method": "POST",
    "status": 201,
    "consumer": "Müller & Söhne",
    "referrer": "https://user@www.example.com/find?q=secret#top",
    "user_agent": FIREFOX,
    "visitor": "ann",
    "country": "de",
    "route": "/shop/<name>",
}


def read(*items: Any) -> list[Report]:
    return list(reported(list(items), NOW))


def read_one(**fields: Any) -> Report:
    [report] = read({"path": "/a", **fields})
    return report


def refusal(**fields: Any) -> str:
    with pytest.raises(ItemRefused) as refused:
        read_one(**fields)
    assert (refused.value.index, refused.value.status) == (0, 400)
    return str(refused.value)


def test_an_item_reports_all_that_is_known_of_a_hit():
    [report] = read(EVERYTHING)
    assert (report.at, report.path, report.hits) == (datetime(2026, 2, 28, 22, 59, 59, 500_000, UTC), "/shop/cart", 3)
    assert report.origin.dimensions == Dimensions(
        method="POST",
        status=201,
        consumer="Müller & Söhne",
        country="DE",
        referrer="www.example.com",
        referrer_url="https://www.example.com/find",
        browser="Firefox",
        os="Linux",
        device="desktop",
        route="/shop/<name>",
    )


def test_a_path_is_enough():
    report = read_one()
    assert (report.at, report.path, report.hits) == (NOW, "/a", 1)
    assert (report.origin.dimensions, report.origin.identity) == (Dimensions(), None)


def test_null_is_left_out_and_an_empty_text_is_unknown():
    blank = dict.fromkeys(("method", "consumer", "referrer", "user_agent", "visitor", "country", "route"), "")
    for fields in (dict.fromkeys(EVERYTHING.keys() - {"path"}), blank):
        report = read_one(**fields)
        assert (report.at, report.hits, report.origin.dimensions, report.origin.identity) == (
            NOW,
            1,
            Dimensions(),
            None,
        )


def test_like_items_share_one_origin():
    first, second, other = read(EVERYTHING, EVERYTHING | {"path": "/b", "n": 1}, EVERYTHING | {"visitor": "ben"})
    assert first.origin is second.origin
    assert first.origin is not other.origin and first.origin.dimensions is other.origin.dimensions


class TestVisitor:
    def test_is_not_the_user_agent(self):
        assert read_one(user_agent=FIREFOX).origin.identity is None

    def test_is_never_one_of_live_hits_whose_identities_begin_with_an_address(self):
        assert read_one(visitor="192.0.2.1").origin.identity == b"\x00192.0.2.1"

    def test_may_have_255_bytes(self):
        assert read_one(visitor="ü" * 127 + "x").origin.identity == b"\x00" + "ü".encode() * 127 + b"x"


class TestTime:
    @pytest.mark.parametrize(
        ("text", "at"),
        [
            ("2026-03-01T14:30:00Z", datetime(2026, 3, 1, 14, 30, tzinfo=UTC)),
            ("2026-03-01 14:30+02:00", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
            ("2026-03-01T14:30:00+0200", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
            ("2026-03-01T12:00:00.123456789Z", datetime(2026, 3, 1, 12, 0, 0, 123_456, UTC)),
            ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
            ("2026-03-01T13:30:00Z", NOW + timedelta(hours=1)),
        ],
    )
    def test_is_iso_8601_with_an_offset(self, text, at):
        assert reports._time(text) == at

    @pytest.mark.parametrize(
        "text",
        ["", "now", "2026-03-01", "2026-03-01T12:00:00", "2026-03-01x12:00:00Z", "2026-02-30T12:00:00Z",
         "2026-03-01T25:00:00Z", "2026-03-01T12:00:00+24:00", "٢٠٢٦-03-01T12:00:00Z", "2026-03-01T12:00:00Z\n"],
    )  # fmt: skip
    def test_that_is_none_is_refused(self, text):
        assert refusal(at=text).startswith("Hit 0: at must be a time with its offset")

    @pytest.mark.parametrize(
        "text",
        ["1969-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-03-01T13:30:01Z", "9999-12-31T23:59:59-14:00"],
    )
    def test_before_1970_or_far_ahead_is_refused(self, text):
        assert "not before 1970" in refusal(at=text)

    @pytest.mark.parametrize(
        "at",
        [datetime(1970, 1, 1, tzinfo=UTC), NOW + timedelta(hours=1), NOW.astimezone(timezone(timedelta(hours=-9)))],
    )
    def test_that_can_be_counted_is_returned_as_it_is(self, at):
        assert check_time(at, NOW) is at

    @pytest.mark.parametrize(
        "at", [NOW.replace(tzinfo=None), NOW + timedelta(hours=1, microseconds=1), datetime(1969, 12, 31, tzinfo=UTC)]
    )
    def test_that_cannot_is_refused(self, at):
        with pytest.raises(TimeInvalid):
            check_time(at, NOW)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"path": None}, "There is no path."),
        ({"path": 1}, "path must be a text."),
        ({"path": ""}, "A path starts with a slash"),
        ({"path": "/ä"}, "A path starts with a slash"),
        ({"path": "/\x00"}, "A path starts with a slash"),
        ({"path": "/" + "x" * 2048}, "The path is longer than 2,048 bytes."),
        ({"at": 1772368200}, "at must be a text."),
        ({"n": 0}, "n must be from 1 to 2,147,483,647."),
        ({"n": 2**31}, "n must be from 1 to 2,147,483,647."),
        ({"n": True}, "n must be a whole number."),
        ({"n": 1.0}, "n must be a whole number."),
        ({"n": "1"}, "n must be a whole number."),
        ({"method": "get"}, "method must be"),
        ({"method": "G T"}, "method must be"),
        ({"method": "X" * 21}, "method must be"),
        ({"status": 99}, "status must be from 100 to 599."),
        ({"status": 600}, "status must be from 100 to 599."),
        ({"status": 200.0}, "status must be a whole number."),
        ({"consumer": "x" * 256}, "A consumer's name has at most 255 bytes"),
        ({"consumer": "ü" * 128}, "A consumer's name has at most 255 bytes"),
        ({"consumer": "a\x00"}, "A consumer's name has at most 255 bytes"),
        ({"route": "x" * 256}, "A route has at most 255 bytes"),
        ({"route": "/\x85"}, "A route has at most 255 bytes"),
        ({"visitor": "x" * 256}, "A visitor has at most 255 bytes"),
        ({"visitor": "a\nb"}, "A visitor has at most 255 bytes"),
        ({"country": "DEU"}, "country must be two letters."),
        ({"country": "T1"}, "country must be two letters."),
        ({"country": "ß"}, "country must be two letters."),
        ({"referrer": []}, "referrer must be a text."),
        ({"user_agent": {}}, "user_agent must be a text."),
        ({"useragent": "x"}, 'There is no field "useragent".'),
        ({"useragent": None}, 'There is no field "useragent".'),
        ({"\ud800": 1}, r'There is no field "\ud800".'),
        ({"x" * 1000: 1}, f'There is no field "{"x" * 100}".'),
        *[({name: "\ud800"}, "surrogate pair") for name in ("consumer", "referrer", "user_agent", "visitor", "route")],
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused_with_its_reason(fields, reason):
    assert reason in refusal(**fields)


@pytest.mark.parametrize("item", [None, 1, "/a", ["/a"], True])
def test_an_item_that_is_no_object_is_refused(item):
    with pytest.raises(ItemRefused, match="Hit 1: Must be a JSON object"):
        read({"path": "/a"}, item)


def test_a_value_is_refused_as_well_when_an_equal_one_was_taken():
    with pytest.raises(ItemRefused, match="Hit 1: status must be a whole number"):
        read({"path": "/a", "status": 200}, {"path": "/a", "status": 200.0})


def test_a_control_character_in_a_header_leaves_it_unknown():
    report = read_one(referrer="https://example.org/\x00", user_agent="curl/8\x00.0")
    assert (report.origin.dimensions.referrer, report.origin.dimensions.browser) == ("", "curl")


class TestBody:
    def test_is_a_list(self):
        assert items_of_list(b' [{"path": "/a"}, 7]\n') == [{"path": "/a"}, 7]

    def test_is_an_object_per_line_and_empty_lines_are_none(self):
        assert items_of_lines(b'\n{"path": "/a"}\r\n \t\n7\n\n') == [{"path": "/a"}, 7]

    def test_has_lines_that_end_with_line_feeds_alone(self):
        [item] = items_of_lines('{"consumer": "a\u2028b\x85c"}'.encode())
        assert item == {"consumer": "a\u2028b\x85c"}

    @pytest.mark.parametrize("read", [items_of_list, items_of_lines])
    @pytest.mark.parametrize("body", [b"[\xff]", "[]".encode("utf-16")])
    def test_that_is_not_utf_8_is_refused(self, read, body):
        with pytest.raises(BodyInvalid, match="not UTF-8"):
            read(body)

    @pytest.mark.parametrize(
        ("read", "body"), [(items_of_list, b"[]"), (items_of_lines, b""), (items_of_lines, b" \n")]
    )
    def test_without_hits_is_refused(self, read, body):
        with pytest.raises(BodyInvalid, match="no hits"):
            read(body)

    @pytest.mark.parametrize("body", [b"", b"{}", b'"[]"', b"7", b"null"])
    def test_that_is_no_list_is_refused(self, body):
        with pytest.raises(BodyInvalid):
            items_of_list(body)

    def test_may_have_10_000_hits_and_no_more(self):
        assert len(items_of_list(json.dumps([1] * 10_000).encode())) == len(items_of_lines(b"1\n" * 10_000)) == 10_000
        for refused in (
            lambda: items_of_list(json.dumps([1] * 10_001).encode()),
            lambda: items_of_lines(b"1\n" * 10_001),
        ):
            with pytest.raises(TooManyHits, match="10,000") as refusal:
                refused()
            assert refusal.value.status == 413

    @pytest.mark.parametrize(
        "item",
        [
            b"{",
            b"{'path': 1}",
            b"[NaN]",
            b"[-Infinity]",
            b"[" * 100_000,
            b"1" * 5000,
            b'"\n"',
            b"{}{}",
            b"\xef\xbb\xbf{}",
        ],
    )
    def test_that_is_no_json_is_refused_with_the_index_of_the_line(self, item):
        with pytest.raises(BodyInvalid):
            items_of_list(b"[" + item + b"]")
        if b"\n" not in item:
            with pytest.raises(ItemRefused, match=r"^Hit 2: ") as refusal:
                items_of_lines(b"1\n\n2\n" + item)
            assert refusal.value.index == 2


# Texts as JSON can have them, with halves of surrogate pairs.
TEXTS = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=5,
)
ITEMS = JSON | st.fixed_dictionaries(
    {"path": st.just("/a") | JSON},
    optional={name: st.just(value) | JSON for name, value in EVERYTHING.items() if name != "path"},
)


@given(st.lists(ITEMS, min_size=1))
def test_whatever_is_sent_becomes_hits_that_can_be_written_or_is_refused(items):
    try:
        found = list(reported(items_of_list(json.dumps(items).encode()), NOW))
    except HitRefused:
        return
    assert len(found) == len(items)
    for report in found:
        assert 1 <= report.hits < 2**31 and report.at.tzinfo
        for value in report.origin.dimensions:
            assert "\x00" not in str(value).encode().decode()


@given(st.binary() | TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_body_raises_anything_but_a_refusal(body):
    for read in (items_of_list, items_of_lines):
        try:
            list(reported(read(body), NOW))
        except HitRefused as refusal:
            str(refusal).encode()
