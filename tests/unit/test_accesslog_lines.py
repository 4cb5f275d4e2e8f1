"""Access logs: lines that are cut off, broken, hostile or many, and what is remembered of them."""

import gzip
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counters import accesslog
from counters.accesslog import LONGEST_REMEMBERED, NO_REQUEST, REFUSED, UNPARSED, LogFormat, Unread, recognised
from tests.unit.test_accesslog import AGENT, REFERRER, combined, entry, line


def test_a_line_counts_if_it_is_cut_off_after_its_status():
    whole = line()
    after_status = whole.index(b" 2326")
    for length in range(1, len(whole)):
        (found,) = combined().read(whole[:length])
        if length < after_status:
            assert found == Unread(UNPARSED, whole[:length])
            continue
        moment, asked, sender = found
        assert (moment.at.minute, asked.path, sender.status, sender.peer) == (5, "/x", 200, "192.0.2.1")
        headers = dict(sender.headers)
        assert headers.get(b"referer", REFERRER) == REFERRER
        assert AGENT.startswith(headers.get(b"user-agent", b""))


@pytest.mark.parametrize(
    "user", [b"a [b", b"[", b"a [01/Jan/2020:00:00:00 +0000] b", b"a [01/Jan/2020:00:00:00 +0000]"]
)
def test_a_client_keeps_itself_out_by_no_name(user):
    """nginx logs whatever name a request says, even where nobody asked for one; quotes in it are escaped."""
    named = line().replace(b" - - [", b" - " + user + b" [", 1)
    assert named != line()
    moment, asked, sender = entry(named)
    assert (moment.at, asked.path, sender.peer) == (entry(line())[0].at, "/x", "192.0.2.1")


def test_what_is_there_of_a_user_agent_tells_who_it_is_and_half_a_referrer_does_not():
    assert entry(line()[:-20])[2].headers == ((b"referer", REFERRER), (b"user-agent", AGENT[:-19]))
    assert entry(line().partition(b"/from")[0])[2].headers == ()


def test_lines_may_end_as_on_windows():
    unix, windows = entry(line()), entry(line() + b"\r\n")
    assert windows[2].headers == unix[2].headers
    assert [*combined().read(b"\r\n\n\r\n")] == [None, None, None]
    assert entry(line(agent=b"cut off")[:-1] + b"\r\n")[2].headers[1] == (b"user-agent", b"cut off")


def test_the_last_line_may_lack_its_line_feed():
    assert len([*combined().read(line() + b"\n" + line())]) == 2
    assert len([*combined().read(line() + b"\n" + line() + b"\n")]) == 2
    assert [*combined().read(b"")] == []


def test_a_line_that_cannot_be_read_does_not_touch_its_neighbours():
    odd = [
        b"",
        b"nonsense",
        line()[:40],
        line(rb"\x16\x03\x01"),
        b"\x00" * 100,
        line(b"-", status=b"408"),
        b'"' * 50,
        line(b"GET /" + b"a" * 3000),
        b'[]"\\',
    ]
    reasons = [None, UNPARSED, UNPARSED, NO_REQUEST, UNPARSED, NO_REQUEST, UNPARSED, REFUSED, UNPARSED]
    block = b"\n".join(text for each in odd for text in (each, line()))
    items = [*combined().read(block)]
    assert [item and item.reason for item in items[::2]] == reasons
    assert [asked.path for _, asked, _ in items[1::2]] == ["/x"] * len(odd)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([line(), line()[:70], line(b"-")])))
def test_any_bytes_give_one_item_for_each_line(pieces):
    block = b"\n".join(pieces)
    lines = block.split(b"\n") if not block.endswith(b"\n") else block[:-1].split(b"\n")
    items = [*combined().read(block)]
    assert len(items) == (len(lines) if block else 0)
    for text, item in zip(lines, items, strict=False):
        assert (item is None) == (text.strip(b"\r") == b"")
        if isinstance(item, Unread):
            assert item.line == text.rstrip(b"\r")


@given(st.data())
def test_a_line_with_any_bytes_in_its_place_gives_one_item(data):
    text = bytearray(line())
    start = data.draw(st.integers(0, len(text)))
    text[start : start + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    assert len([*combined().read(bytes(text).replace(b"\n", b""))]) == 1


# What is remembered.


def test_equal_inputs_are_the_same_object():
    log = combined()
    first, second = log.read(line() + b"\n" + line())
    (third,) = log.read(line())
    assert all(a is b is c for a, b, c in zip(first, second, third, strict=True))


def test_requests_that_differ_by_their_query_have_one_target():
    first, second = combined().read(line(b"GET /x?a HTTP/1.1") + b"\n" + line(b"GET /x?b HTTP/1.0"))
    assert first[1] is second[1]


def test_other_inputs_are_other_objects():
    first, second = combined().read(
        line() + b"\n" + line(b"POST /x HTTP/1.1", b"17/May/2015:10:05:04 +0000", agent=b"other")
    )
    assert all(a is not b for a, b in zip(first, second, strict=True))


def read_again(log: LogFormat, text: bytes, between: bytes = b"") -> list[bool]:
    """Of moment, target and sender: whether the second time that a line is read gives the same object."""
    (first,) = log.read(text)
    for _ in log.read(between):
        pass
    (second,) = log.read(text)
    return [one is other for one, other in zip(first, second, strict=True)]


def test_what_is_remembered_is_bounded(monkeypatch):
    others = [line(b"GET /%d HTTP/1.1" % n, b"17/May/2015:10:06:%02d +0000" % n, agent=b"%d" % n) for n in range(20)]
    assert read_again(combined(), line(), b"\n".join(others)) == [True, True, True]
    monkeypatch.setattr(accesslog, "MOST_REMEMBERED", 10)
    log = combined()
    assert [asked.path for _, asked, _ in log.read(b"\n".join(others))] == [f"/{n}" for n in range(20)]
    assert read_again(log, line(), b"\n".join(others))[::2] == [False, False]


def test_huge_values_are_read_and_not_remembered():
    huge = b"a" * LONGEST_REMEMBERED
    assert dict(entry(line(agent=huge))[2].headers)[b"user-agent"] == huge
    assert read_again(combined(), line(agent=huge)) == [True, True, False]


# Lines that are meant to take long.

MEGABYTE = 1_000_000


@pytest.mark.timeout(20)  # quadratic time would be hours
@pytest.mark.parametrize(
    "text",
    [
        b" " * MEGABYTE,
        b'"' * MEGABYTE,
        b"\\" * MEGABYTE,
        b'\\"' * (MEGABYTE // 2),
        b" [" * (MEGABYTE // 2),
        b'a - - [17/May/2015:10:05:03 +0000] "' + b'" ' * (MEGABYTE // 2),
        line(b"GET /" + b" HTTP/" * (MEGABYTE // 6)),
        line(b"GET" + b" " * MEGABYTE + b"x"),
        line(b"GET /" + b" " * MEGABYTE),
        line(b"GET " + b"a:" * (MEGABYTE // 2)),
        line(b"GET a" + b"+" * MEGABYTE),
        line(b"A" * MEGABYTE),
        line(at=b"1" * MEGABYTE),
        line(at=b"17/May/2015:" + b"1" * MEGABYTE + b" +0000"),
        line(agent=b'" "' * (MEGABYTE // 3))[:-1],
        line(agent=rb"\x41" * (MEGABYTE // 4)),
        line(referrer=b'" ' * (MEGABYTE // 2)),
    ],
    ids=lambda text: repr(text[:5] + b".." + text[len(text) // 2 :][:8]),
)
def test_the_time_for_a_line_grows_with_its_length_alone(text):
    items = [*combined().read(text + b"\n" + line())]
    assert len(items) == 2
    assert items[1][1].path == "/x"


# A real log.


def test_a_real_log_gives_the_figures_that_were_counted_by_other_means(shared):
    log = gzip.decompress((shared / "data" / "access-2015.log.gz").read_bytes())
    entries = [*recognised(log[:65_536]).read(log)]
    paths = Counter(asked.path for _, asked, _ in entries)
    assert (len(entries), len(paths)) == (10_000, 1_368)
    assert paths.most_common(5) == [
        ("/favicon.ico", 807),
        ("/", 575),
        ("/style2.css", 546),
        ("/reset.css", 538),
        ("/images/jordan-80.png", 533),
    ]
    assert Counter(asked.method for _, asked, _ in entries) == {"GET": 9952, "HEAD": 42, "OPTIONS": 1, "POST": 5}


def test_blocks_of_any_size_tell_the_same(shared):
    log = gzip.decompress((shared / "data" / "access-2015.log.gz").read_bytes())
    lines = log.splitlines(keepends=True)
    whole, parts = recognised(log[:65_536]), recognised(log[:65_536])
    blocks, chosen = [], random.Random(4)
    while lines:
        size = chosen.randint(1, 999)
        blocks.append(b"".join(lines[:size]))
        del lines[:size]
    assert [
        (moment.at, asked.path, sender.headers) for block in blocks for moment, asked, sender in parts.read(block)
    ] == [(moment.at, asked.path, sender.headers) for moment, asked, sender in whole.read(log)]
