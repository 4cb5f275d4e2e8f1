"""Formats of access logs: those that are recognised, nginx's log_format, and JSON."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters.accesslog import (
    NO_REQUEST,
    REFUSED,
    UNPARSED,
    Entry,
    FormatUnknown,
    LogFormat,
    Unread,
    json_format,
    nginx_format,
    recognised,
)

COMMON = b'192.0.2.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'
COMBINED = COMMON + b' "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"'
TRAEFIK = COMBINED + b' 17 "web@docker" "http://10.0.0.2:80" 3ms'
BOTH = ((b"referer", b"http://www.example.com/start.html"), (b"user-agent", b"Mozilla/4.08 [en] (Win98; I ;Nav)"))
NGINX_JSON = """
    log_format json_log escape=json '{"time":"$time_iso8601", "addr":"$remote_addr",'
                                    '"method":"$request_method","uri":"$request_uri",  '
                                    '"status":$status,"for":"$http_x_forwarded_for","ua":"$http_user_agent",'
                                    '"took":$request_time}';
"""
CADDY = {
    "at": "ts",
    "path": "request.uri",
    "method": "request.method",
    "status": "status",
    "address": "request.remote_ip",
    "user_agent": "request.headers.User-Agent",
    "referrer": "request.headers.Referer",
    "header:X-Consumer": "request.headers.X-Consumer",
}


def entry(log: LogFormat, text: bytes) -> Entry:
    (found,) = log.read(text)
    assert isinstance(found, tuple) and not isinstance(found, Unread), found
    return found


def read(log: LogFormat, text: bytes) -> tuple:
    moment, target, sender = entry(log, text)
    return moment.at, target.method, target.path, sender.status, sender.peer, sender.headers


def reasons(log: LogFormat, *lines: bytes) -> list[str]:
    return [item.reason for item in log.read(b"\n".join(lines))]


# Recognised.


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        (COMMON, ()),
        (COMMON + b" 0.012 extra", ()),
        (COMBINED, BOTH),
        (COMBINED + b' "192.0.2.7, 10.0.0.1" 0.012', BOTH),
        (TRAEFIK, BOTH),
        (b"www.example.org:443 " + COMBINED, BOTH),
        (b"[2001:db8::2]:443 " + COMBINED, BOTH),
        (b"example.org:80 " + COMMON, ()),
        (COMBINED.replace(b"- frank", b"user-identifier frank"), BOTH),
        (COMBINED.replace(b"2326", b"-"), BOTH),
    ],
)
def test_common_combined_and_vhost_combined_are_recognised(text, headers):
    at = datetime(2000, 10, 10, 20, 55, 36, tzinfo=UTC)
    expected = (at, "GET", "/apache_pb.gif", 200, "192.0.2.1", headers)
    assert read(recognised(text), text) == expected


@pytest.mark.parametrize("address", [b"2001:db8::1", b"::ffff:192.0.2.1", b"client.example.org"])
@pytest.mark.parametrize("user", [b"-", b"John Smith"])
@pytest.mark.parametrize("host", [b"", b"example.org:80 "])
def test_an_address_with_colons_is_no_virtual_host(address, user, host):
    text = (host + COMBINED).replace(b"192.0.2.1", address)
    log = recognised(text)
    assert entry(log, text.replace(b"frank", user))[2].peer == address.decode()


def test_the_format_that_most_lines_have_is_the_logs():
    sample = [b"nonsense", COMBINED.replace(b"192.0.2.1 -", b"::1 - a"), COMBINED, COMBINED, COMBINED[:30]]
    assert entry(recognised(b"\n".join(sample)), COMBINED)[2].peer == "192.0.2.1"


def test_a_log_of_scans_alone_has_a_format_too():
    assert reasons(recognised(COMBINED.replace(b"GET /", b"-")), COMBINED.replace(b"GET /", b"-")) == [NO_REQUEST]


@pytest.mark.parametrize("sample", [b"", b"\n\n", b"nonsense", b'{"ts": 1}', COMBINED[:40], b"\x1f\x8b\x08\x00"])
def test_a_log_of_another_format_is_told_what_to_do(sample):
    with pytest.raises(FormatUnknown, match="log_format"):
        recognised(sample)


# nginx.


def test_a_log_format_is_read_as_it_stands_in_the_configuration():
    text = (
        b'{"time":"2024-05-17T12:05:03+02:00", "addr":"2001:db8::1","method":"GET","uri":"/a?b",  '
        b'"status":200,"for":"192.0.2.1, 10.0.0.1","ua":"a \\"b\\" \\u0007 \xd0\xb6","took":0.001}'
    )
    assert read(nginx_format(NGINX_JSON), text) == (
        datetime(2024, 5, 17, 10, 5, 3, tzinfo=UTC),
        "GET",
        "/a",
        200,
        "2001:db8::1",
        ((b"x-forwarded-for", b"192.0.2.1, 10.0.0.1"), (b"user-agent", 'a "b" \x07 ж'.encode())),
    )


@pytest.mark.parametrize(
    ("log_format", "text"),
    [
        ('$remote_addr - $remote_user [$time_local] "$request" $status', COMMON[:-5]),
        ('$remote_addr - ${remote_user} [${time_local}] "${request}" ${status} $bytes', COMMON),
        ("$msec|$remote_addr|$status|$request_method $request_uri", b"971211336|192.0.2.1|200|GET /apache_pb.gif"),
        ("$time_local $status $remote_addr $request", COMMON[19:45] + b" 200 192.0.2.1 GET /apache_pb.gif HTTP/1.0"),
        (
            r"log_format ltsv 'time:$time_iso8601\tmethod:$request_method\t' 'uri:$request_uri\t'"
            r" 'status:$status\thost:$remote_addr';",
            b"time:2000-10-10T20:55:36Z\tmethod:GET\turi:/apache_pb.gif\tstatus:200\thost:192.0.2.1",
        ),
        ("'$msec' '|$remote_addr·$status·$request'", "971211336|192.0.2.1·200·GET /apache_pb.gif".encode()),
        (
            '$http_host [$foo] "$request" $upstream_addr $status [$time_iso8601] $remote_addr',
            b'"a.b" [x y] "GET /apache_pb.gif HTTP/1.1" 10.0.0.1:80 200 [2000-10-10T20:55:36Z] 192.0.2.1',
        ),
    ],
)
def test_variables_may_stand_in_any_order_with_anything_between(log_format, text):
    at, method, path, status, peer, _ = read(nginx_format(log_format), text)
    assert (at, method, path, status) == (datetime(2000, 10, 10, 20, 55, 36, tzinfo=UTC), "GET", "/apache_pb.gif", 200)
    assert peer == "192.0.2.1"
    assert read(nginx_format(log_format), text + b"\r\n") == read(nginx_format(log_format), text)


@pytest.mark.parametrize(
    ("variable", "written", "path"),
    [
        ("uri", b"/caf\xc3\xa9", "/caf%C3%A9"),
        ("uri", rb"/caf\xC3\xA9", "/caf%C3%A9"),
        ("uri", b"/100%?a#b", "/100%25%3Fa%23b"),
        ("document_uri", b"/a b", "/a%20b"),
        ("request_uri", b"/100%25?a#b", "/100%25"),
        ("request_uri", b"http://example.org/x", "/x"),
    ],
)
def test_a_decoded_path_is_encoded_anew(variable, written, path):
    assert read(nginx_format(f'"${variable}" $msec'), b'"%b" 1.5' % written)[1:3] == ("", path)


def test_the_path_as_it_was_sent_goes_before_the_decoded_one():
    log = nginx_format('$msec "$uri" "$request_uri" "$request"')
    assert read(log, b'1 "/index.html" "/b" "POST /%61 HTTP/1.1"')[1:3] == ("POST", "/%61")
    log = nginx_format('$msec "$uri" "$request_uri"')
    assert read(log, b'1 "/index.html" "/%61"')[1:3] == ("", "/%61")


@pytest.mark.parametrize(
    ("time", "microsecond"),
    [(b"1715940303.25", 250_000), (b"1715940303", 0), (b"1715940303.1234567", 123_456), (b"1715940303.000001", 1)],
)
def test_seconds_since_1970_keep_their_fraction(time, microsecond):
    at = entry(nginx_format("$msec $request_uri"), time + b" /")[0].at
    assert at == datetime(2024, 5, 17, 10, 5, 3, microsecond, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "utc"),
    [
        (b"2024-05-17T10:05:03Z", (2024, 5, 17, 10, 5, 3)),
        (b"2024-05-17T10:05:03+0000", (2024, 5, 17, 10, 5, 3)),
        (b"2024-05-17 12:05:03.250+02:00", (2024, 5, 17, 10, 5, 3, 250_000)),
        (b"2024-05-17T10:05:03.123456789Z", (2024, 5, 17, 10, 5, 3, 123_456)),
    ],
)
def test_iso_times_are_utc_whatever_their_offset(time, utc):
    assert entry(nginx_format("[$time_iso8601] $uri"), b"[%b] /" % time)[0].at == datetime(*utc, tzinfo=UTC)


@pytest.mark.parametrize(
    "time",
    [
        b"2024-05-17T10:05:03",
        b"2024-05-17",
        b"2023-02-29T10:05:03Z",
        b"17151403031234",
        b"-1",
        b"1e9",
        b"99999999999",
        b"nan",
        "١٧١٥١٤٠٣٠٣".encode(),
    ],
)
def test_a_time_that_is_none_or_has_no_offset_is_unparsed(time):
    assert reasons(nginx_format("[$time_iso8601] $uri"), b"[%b] /" % time) == [UNPARSED]


def test_what_is_not_escaped_is_taken_as_it_is():
    log = nginx_format("""escape=none '$msec "$request" $status "$http_user_agent"'""")
    assert read(log, b'1 "GET /\\x41" 200 "a\\"')[2:] == ("/\\x41", 200, None, ((b"user-agent", b"a\\"),))
    assert read(log, b'1 "GET /a"b HTTP/1.1" 200 ""')[2] == '/a"b'


def test_headers_are_named_as_they_are_sent():
    log = nginx_format('$msec $uri "$http_x_consumer" "$http_CF_IPCountry" $sent_http_x "$http_referer"')
    assert entry(log, b'1 / "acme" "DE" y "-"')[2].headers == ((b"x-consumer", b"acme"), (b"cf-ipcountry", b"DE"))


def test_a_line_may_be_cut_off_after_what_is_needed_in_any_format():
    log = nginx_format('$http_x $status "$request" [$time_local] $remote_addr "$http_user_agent" "$http_y"')
    text = b'x 200 "GET / HTTP/1.1" [17/May/2015:10:05:03 +0000] 192.0.2.1 "agent" "y"'
    assert reasons(log, text.partition(b"]")[0], text[:20], text[2:]) == [UNPARSED] * 3
    assert read(log, text.partition(b"2.1")[0])[3:] == (200, None, ((b"x", b"x"),))
    assert read(log, text.partition(b"nt")[0])[4:] == ("192.0.2.1", ((b"x", b"x"), (b"user-agent", b"age")))
    assert read(log, text[:-2])[4:] == ("192.0.2.1", ((b"x", b"x"), (b"user-agent", b"agent")))


@pytest.mark.parametrize(
    ("log_format", "sentence"),
    [
        ("", "no time"),
        ("no variables", "no time"),
        ("$request $status", "no time"),
        ("$time_local $status", "no path"),
        ("$time_local $request_method", "no path"),
        ("$msec $scheme$request_uri", r"between \$scheme and \$request_uri"),
    ],
)
def test_a_log_format_that_tells_no_hit_is_refused(log_format, sentence):
    with pytest.raises(ValueError, match=sentence):
        nginx_format(log_format)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", [b'","', b'"', b"\\", b'{"time":"', b","])
def test_the_time_for_a_line_of_any_format_grows_with_its_length_alone(text):
    start = b'{"time":"2024-05-17T10:05:03+00:00", "addr":"'
    assert reasons(nginx_format(NGINX_JSON), start + text * (1_000_000 // len(text))) == [UNPARSED]


# JSON.


def caddy(**changes: object) -> bytes:
    request = {
        "remote_ip": "192.0.2.1",
        "remote_port": "41342",
        "proto": "HTTP/2.0",
        "method": "GET",
        "host": "localhost",
        "uri": "/a%2Fb?c",
        "headers": {"User-Agent": ["curl/7.82.0", "second"], "X-Consumer": ["acme"], "Accept": ["*/*"]},
    }
    record = {"level": "info", "ts": 1646861401.5241024, "msg": "handled request", "request": request, "status": 200}
    return json.dumps({**record, **changes}).encode()


def test_a_line_of_caddy_is_read_by_the_names_of_its_fields():
    assert read(json_format(CADDY), caddy()) == (
        datetime(2022, 3, 9, 21, 30, 1, 524_102, tzinfo=UTC),
        "GET",
        "/a%2Fb",
        200,
        "192.0.2.1",
        ((b"user-agent", b"curl/7.82.0"), (b"x-consumer", b"acme")),
    )


def test_a_line_of_traefik_is_read_by_the_names_of_its_fields():
    fields = {
        "at": "StartUTC",
        "path": "RequestPath",
        "method": "RequestMethod",
        "status": "DownstreamStatus",
        "address": "ClientHost",
        "user_agent": "request_User-Agent",
    }
    text = (
        b'{"ClientAddr":"192.0.2.1:50000","ClientHost":"192.0.2.1","DownstreamStatus":404,"Duration":1234567,'
        b'"RequestMethod":"POST","RequestPath":"/x?y=1","StartUTC":"2024-05-17T10:05:03.123456789Z",'
        b'"level":"info","msg":"","request_User-Agent":"curl/8","time":"2024-05-17T10:05:03Z"}'
    )
    at = datetime(2024, 5, 17, 10, 5, 3, 123_456, tzinfo=UTC)
    expected = (at, "POST", "/x", 404, "192.0.2.1", ((b"user-agent", b"curl/8"),))
    assert read(json_format(fields), text) == expected


def test_a_request_line_in_json_goes_before_path_and_method():
    log = json_format({"at": "t", "request": "r", "path": "p", "method": "m"})
    assert read(log, b'{"t":1,"r":"PUT /r HTTP/1.1","p":"/p","m":"GET"}')[1:3] == ("PUT", "/r")
    assert read(log, b'{"t":1,"p":"/p","m":"GET"}')[1:3] == ("GET", "/p")


def test_a_method_that_is_not_told_is_unknown():
    assert read(json_format({"at": "t", "path": "p"}), b'{"t":"17/May/2015:10:05:03 +0000","p":"/"}')[1] == ""
    log = json_format({"at": "t", "path": "p", "method": "m"})
    assert [entry(log, text)[1].method for text in (b'{"t":1,"p":"/"}', b'{"t":1,"p":"/","m":"-"}')] == ["", ""]
    assert reasons(log, b'{"t":1,"p":"/","m":"get"}') == [NO_REQUEST]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", UNPARSED),
        (b"[]", UNPARSED),
        (b"null", UNPARSED),
        (b'"ts"', UNPARSED),
        (b"{}", UNPARSED),
        (b'{"ts": null}', UNPARSED),
        (b'{"ts": true}', UNPARSED),
        (b'{"ts": NaN}', UNPARSED),
        (b'{"ts": %b}' % (b"9" * 9999), UNPARSED),
        (b"[" * 100_000, UNPARSED),
        (caddy()[:-1], UNPARSED),
        (b"\xff\xfe{}", UNPARSED),
        (b"192.0.2.1 - -", UNPARSED),
        (b'{"ts": 1}', NO_REQUEST),  # such as the server's own messages
        (caddy(request=None), NO_REQUEST),
        (caddy(request={"uri": 1.5}), NO_REQUEST),
        (caddy(request={"uri": []}), NO_REQUEST),
        (caddy(request=[]), NO_REQUEST),
        (caddy(request={"uri": "*", "method": "OPTIONS"}), NO_REQUEST),
        (caddy(request={"uri": "/" + "ж" * 2048}), REFUSED),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_json_that_tells_no_hit_says_why(text, reason):
    assert reasons(json_format(CADDY), text) == [reason]


def test_what_is_not_there_is_unknown():
    assert read(json_format(CADDY), b'{"ts":1,"request":{"uri":"/","headers":{"User-Agent":[]}},"status":"-"}')[1:] == (
        "",
        "/",
        None,
        None,
        (),
    )


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        (rb"/caf\u00e9", "/caf%C3%A9"),
        ("/café".encode(), "/caf%C3%A9"),
        (b"/caf\xe9", "/caf%E9"),
        (rb"/\ud83d\ude00", "/%F0%9F%98%80"),
        (rb"/\ud83d", "/%ED%A0%BD"),
        (rb"/\u0000\n", "/%00%0A"),
        (rb"\/a\/b", "/a/b"),
    ],
)
def test_any_bytes_in_json_are_a_path(uri, path):
    assert read(json_format({"at": "t", "path": "p"}), b'{"t":1,"p":"%b"}' % uri)[2] == path


def test_lines_of_json_are_told_in_their_order():
    items = [*json_format(CADDY).read(caddy() + b"\r\n\nnonsense\n" + caddy(status=500))]
    assert items[1:3] == [None, Unread(UNPARSED, b"nonsense")]
    assert [item[2].status for item in (items[0], items[3])] == [200, 500]
    assert items[0][0] is items[3][0] and items[0][1] is items[3][1]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "no time"),
        ({"path": "p"}, "no time"),
        ({"at": "t", "method": "m"}, "no path"),
        ({"at": "t", "path": "p", "agent": "a"}, "agent is none of at, request,"),
        ({"at": "t", "path": "p", "header:": "a"}, "header: is none of"),
    ],
)
def test_names_of_fields_that_tell_no_hit_are_refused(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        json_format(fields)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("/x"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["t", "p", "m", "s"]), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("log", [nginx_format(NGINX_JSON), json_format({"at": "t", "path": "p.m", "status": "s"})])
@given(st.lists(st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()), min_size=1))
def test_any_bytes_give_one_item_for_each_line(log, pieces):
    lines = [line for piece in pieces for line in piece.split(b"\n")]
    items = [*log.read(b"".join(line + b"\n" for line in lines))]
    assert [item is None for item in items] == [line.strip(b"\r") == b"" for line in lines]
