"""Access logs: from lines as servers and strangers write them to requests, or to why there is none."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters.accesslog import (
    NO_REQUEST,
    REFUSED,
    UNPARSED,
    Entry,
    LogFormat,
    Moment,
    Unread,
    recognised,
)

AGENT = b"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
REFERRER = b"https://example.org/from?here=1"
AT = b"17/May/2015:10:05:03 +0000"
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def line(
    request: bytes = b"GET /x HTTP/1.1",
    at: bytes = AT,
    address: bytes = b"192.0.2.1",
    status: bytes = b"200",
    referrer: bytes = REFERRER,
    agent: bytes = AGENT,
) -> bytes:
    return b'%b - - [%b] "%b" %b 2326 "%b" "%b"' % (address, at, request, status, referrer, agent)


def combined() -> LogFormat:
    return recognised(line())


def entry(text: bytes) -> Entry:
    (found,) = combined().read(text)
    assert isinstance(found, tuple) and isinstance(found[0], Moment), found
    return found


def reason(text: bytes) -> str:
    (found,) = combined().read(text)
    assert isinstance(found, Unread), found
    assert found.line == text
    return found.reason


def target(request: bytes) -> tuple[str, str]:
    asked = entry(line(request))[1]
    return asked.method, asked.path


def path(request: bytes) -> str:
    return target(request)[1]


def test_a_line_tells_when_what_and_who():
    moment, asked, sender = entry(line(b"GET /a/b?c=d HTTP/1.1", status=b"404"))
    assert moment.at == datetime(2015, 5, 17, 10, 5, 3, tzinfo=UTC)
    assert (asked.method, asked.path) == ("GET", "/a/b")
    assert (sender.status, sender.peer) == (404, "192.0.2.1")
    assert sender.headers == ((b"referer", REFERRER), (b"user-agent", AGENT))


# Times.


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        (b"17/May/2015:10:05:03 +0000", (2015, 5, 17, 10, 5, 3)),
        (b"01/Jan/2024:00:30:00 +0530", (2023, 12, 31, 19, 0, 0)),
        (b"31/Dec/2023:23:30:00 -0100", (2024, 1, 1, 0, 30, 0)),
        (b"29/Feb/2024:12:00:00 +0000", (2024, 2, 29, 12, 0, 0)),
        (b"17/May/2015:10:05:03.250 +0000", (2015, 5, 17, 10, 5, 3, 250_000)),
    ],
)
def test_times_are_utc_whatever_their_offset(text, utc):
    at = entry(line(at=text))[0].at
    assert at == datetime(*utc, tzinfo=UTC)
    assert at.utcoffset() == timedelta()


@pytest.mark.parametrize("number", range(1, 13))
def test_months_have_english_names(number):
    assert entry(line(at=f"02/{MONTHS[number - 1]}/2015:10:05:03 +0000".encode()))[0].at.month == number


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-",
        b"30/Feb/2015:10:05:03 +0000",
        b"17/Mai/2015:10:05:03 +0000",
        b"17/May/2015:25:05:03 +0000",
        b"17/May/2015:10:05:03 +9900",
        b"17/May/2015:10:05:03",
        b"01/Jan/0001:00:00:00 +0100",
        b"00/00/0000:00:00:00 +0000",
        b"17/May/2015 10:05:03 +0000",
    ],
)
def test_a_line_whose_time_is_none_is_unparsed(text):
    assert reason(line(at=text)) == UNPARSED


# Requests.


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        (b"GET /x HTTP/1.1", "/x"),
        (b"GET /x HTTP/2.0", "/x"),
        (b"GET /x HTTP/3", "/x"),
        (b"GET /x", "/x"),  # HTTP/0.9
        (b"GET  /x  HTTP/1.1 ", "/x"),
        (b"GET / HTTP/1.1", "/"),
        (b"GET //host/x HTTP/1.1", "//host/x"),
        (b"GET /x?a=/b?c HTTP/1.1", "/x"),
        (b"GET /? HTTP/1.1", "/"),
        (b"GET /x#part HTTP/1.1", "/x"),
        (b"GET /a%2Fb%2f%zz HTTP/1.1", "/a%2Fb%2f%zz"),
        (b"GET http://example.org/x?y HTTP/1.1", "/x"),
        (b"GET http://example.org HTTP/1.1", "/"),
        (b"GET http://example.org?/y HTTP/1.1", "/"),
        (b"GET https://user@[2001:db8::1]:443/x HTTP/1.1", "/x"),
        (b"GET /go/http://example.org/x HTTP/1.1", "/go/http://example.org/x"),
        (b"GET /a b HTTP/1.1", "/a%20b"),
        (b"GET /a b", "/a%20b"),
        (b"GET /a HTTP/1.1 b HTTP/1.1", "/a%20HTTP/1.1%20b"),
        (b"GET /a HTTP/x", "/a%20HTTP/x"),
        (b"GET /<a>'{b}|^`\\\\ HTTP/1.1", "/<a>'{b}|^`\\"),
        (rb"GET /say\"hello\" HTTP/1.1", '/say"hello"'),
        (rb"GET /say\x22hello\x22 HTTP/1.1", '/say"hello"'),
        (rb"GET /caf\xc3\xA9 HTTP/1.1", "/caf%C3%A9"),
        ("GET /café HTTP/1.1".encode(), "/caf%C3%A9"),
        (b"GET /caf\xe9 HTTP/1.1", "/caf%E9"),
        (rb"GET /a\tb\n\x00\x7f HTTP/1.1", "/a%09b%0A%00%7F"),
        (b"GET /a\x00b\x1b HTTP/1.1", "/a%00b%1B"),
        (rb"GET /a\q\x4 HTTP/1.1", r"/a\q\x4"),  # no escape that a server writes
    ],
)
def test_the_path_is_what_was_asked_for_without_the_query(request_line, expected):
    assert path(request_line) == expected


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PROPFIND", "M" * 20])
def test_every_method_is_told(method):
    assert target(f"{method} /x HTTP/1.1".encode()) == (method, "/x")


@pytest.mark.parametrize(
    "request_line",
    [
        b"",
        b"-",
        b" ",
        b"GET",
        b"GET ",
        b"GET HTTP/1.1",
        b"GET ?a HTTP/1.1",
        b"GET x HTTP/1.1",
        b"get /x HTTP/1.1",
        b"GET\t/x HTTP/1.1",
        b" /x HTTP/1.1",
        b"/x",
        b"M" * 21 + b" /x HTTP/1.1",
        b"CONNECT example.org:443 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"SSH-2.0-OpenSSH_9.6",
        rb"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03/ \"GET /",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\xff\x80",
    ],
)
def test_what_is_no_request_for_a_path_gives_no_hit(request_line):
    assert reason(line(request_line)) == NO_REQUEST


def test_a_path_is_refused_from_2049_bytes():
    assert len(path(b"GET /%b HTTP/1.1" % (b"a" * 2047))) == 2048
    assert reason(line(b"GET /%b HTTP/1.1" % (b"a" * 2048))) == REFUSED
    assert path(b"GET /x?%b HTTP/1.1" % (b"a" * 9000)) == "/x"


def test_a_path_is_measured_as_it_is_encoded():
    assert len(path(b"GET /%b HTTP/1.1" % (b" x" * 511))) == 2045
    assert reason(line(b"GET /%b HTTP/1.1" % (b" x" * 512))) == REFUSED


# Who sent it.


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::1", "client.example.org", "unix:"])
def test_the_peer_is_what_the_log_says(address):
    assert entry(line(address=address.encode()))[2].peer == address


def test_a_hyphen_is_unknown():
    sender = entry(line(address=b"-", status=b"-", referrer=b"-", agent=b"-"))[2]
    assert (sender.status, sender.peer, sender.headers) == (None, None, ())


def test_an_empty_value_is_unknown():
    assert entry(line(referrer=b"", agent=b""))[2].headers == ()


@pytest.mark.parametrize("status", [b"000", b"009"])
def test_a_status_that_is_none_is_unknown(status):
    assert entry(line(status=status))[2].status is None


@pytest.mark.parametrize("status", [b"", b"20", b"2000", b"OK", b"-1"])
def test_a_line_without_status_is_unparsed(status):
    assert reason(line(status=status)) == UNPARSED


@pytest.mark.parametrize(
    ("written", "agent"),
    [
        (rb"a \"quoted\" word", b'a "quoted" word'),
        (rb"a \x22quoted\x22 word", b'a "quoted" word'),
        (rb"back\\slash\\", b"back\\slash\\"),
        (rb"\xd0\xb6", "ж".encode()),
        ("ж".encode(), "ж".encode()),
        (b"\xff\xfe", b"\xff\xfe"),
        (rb"\\x41", rb"\x41"),
    ],
)
def test_escapes_of_the_log_are_undone_and_bytes_kept(written, agent):
    assert dict(entry(line(agent=written))[2].headers)[b"user-agent"] == agent


@pytest.mark.parametrize("user", [b"-", b"frank", b"John Smith", b"a@b", rb"a\"b"])
def test_whoever_was_logged_in_may_be_called_anything(user):
    moment, asked, sender = entry(line().replace(b"- - [", b"- %b [" % user))
    assert (moment.at.year, asked.path, sender.peer) == (2015, "/x", "192.0.2.1")


# What servers write.

VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
PATHS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?#"), max_size=40)
VALUES = st.binary(min_size=1, max_size=40).filter(lambda value: value != b"-")


def apache_escaped(value: bytes) -> bytes:
    """As Apache's ap_escape_logitem writes it."""
    names = {0x08: rb"\b", 0x0A: rb"\n", 0x0D: rb"\r", 0x09: rb"\t", 0x0B: rb"\v", 0x22: rb"\"", 0x5C: rb"\\"}
    return b"".join(names.get(byte) or (b"%c" % byte if 0x20 <= byte < 0x7F else rb"\x%02x" % byte) for byte in value)


def nginx_escaped(value: bytes) -> bytes:
    """As nginx's ngx_http_log_escape writes it."""
    return b"".join(rb"\x%02X" % byte if byte in b'"\\' or not 0x20 <= byte < 0x7F else b"%c" % byte for byte in value)


@pytest.mark.parametrize("escaped", [apache_escaped, nginx_escaped])
@given(
    at=st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)),
    offset=st.integers(-14 * 60, 14 * 60),
    method=st.from_regex(r"[A-Z]{1,20}", fullmatch=True),
    path=PATHS,
    query=st.text(VISIBLE, max_size=20),
    status=st.integers(100, 599),
    referrer=VALUES,
    agent=VALUES,
)
def test_what_a_server_writes_is_read_back_the_same(escaped, at, offset, method, path, query, status, referrer, agent):
    at = at.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=offset)))
    text = line(
        escaped(f"{method} /{path}?{query} HTTP/1.1".encode()),
        f"{at.day:02}/{MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S %z}".encode(),
        status=b"%d" % status,
        referrer=escaped(referrer),
        agent=escaped(agent),
    )
    moment, asked, sender = entry(text)
    assert (moment.at, asked.method, asked.path) == (at, method, f"/{path}")
    assert (sender.status, sender.headers) == (status, ((b"referer", referrer), (b"user-agent", agent)))
