"""Bytes that no well-meaning client sends: an answer that is no 5xx, and what is accepted is counted byte for byte."""

import contextlib
import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hitcounter.postgres import PrivatePostgres
from tests.acceptance import test_schema as described
from tests.faults.conftest import Trial, assert_books_balance
from tests.faults.trials import Outcome
from tests.service import Service

#: Within this time, in seconds, whoever has sent a request and the next one has all answers, and the connection's end.
PATIENCE_SECONDS = 10
VISIBLE = bytes(range(0x21, 0x7F))
LAST = b"GET /api/last/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n")
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n", re.IGNORECASE)


class Sent(NamedTuple):
    """A request, and the path that it must be counted for, None if that is not known."""

    raw: bytes
    path: str | None = None
    method: bytes = b"GET"


class Answer(NamedTuple):
    status: int
    body: bytes


def visible(without: bytes = b"", **sizes: int) -> st.SearchStrategy[bytes]:
    letters = [letter for letter in VISIBLE if letter not in without]
    return st.lists(st.sampled_from(letters), **sizes).map(bytes)


ODD_PIECES = [
    *(b"%2F", b"%2f", b"%00", b"%", b"%zz", b"%25", b"%C3%A9", b"%FF", b"%0d%0a", b"%2e%2e"),
    *(b"..", b".", b"/", b"//", b"/../", b"/./", b"\\", b";a=b", b"#", b"?", b"&", b"+", b"@", b":", b'"', b"<>", b"'"),
    *(b" ", b"\t", b"\r", b"\n", b"\r\n", b"\x00", b"\x0b", b"\x0c", b"\x1b", b"\x7f", b"\x80", b"\xa0", b"\xff"),
    *("é€\U0001f600".encode(), "\N{RIGHT-TO-LEFT OVERRIDE}".encode(), b"\xed\xa0\x80", b"\xc0\xaf"),
]
PIECES = st.one_of(st.sampled_from(ODD_PIECES), visible(max_size=8), st.binary(max_size=8))
SAFE_PIECES = st.one_of(
    st.sampled_from([piece for piece in ODD_PIECES if set(piece) <= {*VISIBLE}]), visible(max_size=8)
)
QUERIES = st.one_of(st.just(b""), visible(max_size=20).map(b"?".__add__))
#: Round the lengths at which paths, and request lines, are refused.
LENGTHS = st.one_of(st.integers(2_030, 2_060), st.integers(8_100, 8_250))
LONG = st.builds(
    lambda length, letter: b"/api/" + letter * (length - 5), LENGTHS, visible(b"?#", min_size=1, max_size=1)
)
PREFIXES = st.sampled_from(
    [
        b"/api/",
        b"/api/",
        b"/api/",
        b"/api",
        b"/",
        b"//",
        b"/stats/",
        b"/API/",
        b"/%61pi/",
        b"/pixel.gif?path=/pixel/",
        b"",
    ]
)
FORMS = st.sampled_from([b"http://localhost", b"https://localhost:1", b"HTTP://[::1]", b"//localhost", b"javascript:"])
TARGETS = st.one_of(
    st.builds(lambda prefix, pieces: prefix + b"".join(pieces), PREFIXES, st.lists(PIECES, max_size=8)),
    st.builds(lambda form, pieces: form + b"/api/" + b"".join(pieces), FORMS, st.lists(PIECES, max_size=4)),
    st.sampled_from([b"*", b"", b"localhost:80", b"/api/" * 500]),
    st.binary(max_size=40),
    LONG,
)
SAFE_TARGETS = st.one_of(
    st.builds(
        lambda pieces, query: b"/api/" + b"".join(pieces).replace(b"?", b"") + query, st.lists(SAFE_PIECES), QUERIES
    ),
    st.builds(lambda length, query: b"/api/" + b"a" * (length - 5) + query, st.integers(2_000, 2_048), QUERIES),
)
KNOWN_HEADERS = [
    *(b"Host", b"User-Agent", b"Referer", b"X-Consumer", b"X-Forwarded-For", b"Forwarded", b"X-Forwarded-Proto"),
    *(b"Accept", b"Accept-Language", b"Cookie", b"Authorization", b"X-Request-ID", b"Range", b"If-Modified-Since"),
    *(b"Connection", b"Upgrade", b"Expect", b"Content-Type", b"Accept-Encoding", b"Origin", b"DNT", b"Sec-GPC"),
]
TOKENS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!#$%&'*+.^_`|~-", min_size=1, max_size=20).map(str.encode)
SAFE_HEADERS = st.builds(lambda name, value: b"X-" + name + b": " + value + b"\r\n", TOKENS, visible(max_size=40))
VALUES = st.one_of(
    st.binary(max_size=60),
    visible(max_size=60),
    st.lists(PIECES, max_size=6).map(b"".join),
    st.sampled_from([b"close", b"keep-alive", b"upgrade", b"websocket", b"h2c", b"100-continue", b"1.2.3.4, ::1, x"]),
    st.integers(8_100, 8_250).map(lambda length: b"a" * length),
)
NAMES = st.one_of(st.sampled_from(KNOWN_HEADERS), TOKENS, st.binary(max_size=10))
LINE_ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r"])
#: What may be read in two ways: of these none promises a body that does not come.
FRAMING = [
    *(
        b"Content-Length: 0",
        b"Content-Length: -1",
        b"Content-Length: +0",
        b"Content-Length: 0, 0",
        b"Content-Length: x",
    ),
    *(b"Content-Length: 0\r\nContent-Length: 0", b"Content-Length:", b"Content-Length: 0x0", b"Content-Length : 0"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, gzip"),
    *(b"Transfer-Encoding: chunked\r\nContent-Length: 0", b"Transfer-Encoding : chunked", b"Transfer-Encoding:"),
]
FOLDED = st.builds(lambda name, value: name + b": a\r\n " + value, TOKENS, visible(max_size=20))
HEADERS = st.one_of(
    st.builds(lambda name, value, end: name + b": " + value + end, NAMES, VALUES, LINE_ENDS),
    st.sampled_from(FRAMING).map(lambda header: header + b"\r\n"),
    FOLDED.map(lambda header: header + b"\r\n"),
    st.binary(max_size=60).map(lambda header: header + b"\r\n"),
    st.integers(90, 110).map(lambda number: b"X-Many: 1\r\n" * number),
)
METHODS = st.one_of(
    st.sampled_from(
        [b"GET"] * 6 + [b"HEAD", b"POST", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"get", b"G\x00T", b""]
    ),
    TOKENS,
    st.binary(max_size=5),
    st.integers(20, 9_000).map(lambda length: b"A" * length),
)
VERSIONS = st.sampled_from(
    [b" HTTP/1.1"] * 8
    + [b" HTTP/1.0", b" HTTP/0.9", b" HTTP/2.0", b" HTTP/1.2", b" http/1.1", b" HTTP/11", b" x", b"", b" "]
)


@st.composite
def safe_requests(draw: st.DrawFn) -> Sent:
    """A request that must be counted, for the bytes of its target up to the query."""
    target = draw(SAFE_TARGETS)
    headers = b"".join(draw(st.lists(SAFE_HEADERS, max_size=4)))
    path = target.partition(b"?")[0].decode("ascii")
    return Sent(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n", path)


@st.composite
def odd_requests(draw: st.DrawFn) -> Sent:
    """A request that may be refused."""
    method, target, end = draw(METHODS), draw(TARGETS), draw(LINE_ENDS)
    host = draw(st.sampled_from([b"Host: localhost\r\n"] * 4 + [b"", b"Host: a\r\nHost: b\r\n", b"Host: \xff\r\n"]))
    headers = b"".join(draw(st.lists(HEADERS, max_size=5)))
    return Sent(method + b" " + target + draw(VERSIONS) + end + host + headers + b"\r\n", method=method)


PIPELINES = st.builds(
    lambda safe, odd: [*safe, *odd],
    st.lists(safe_requests(), max_size=3),
    st.lists(odd_requests(), min_size=1, max_size=1) | st.just([]),
).filter(bool)


def exchange(service: Service, request: bytes) -> bytes:
    """All that is answered until the connection is closed; raises TimeoutError for one that hangs."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS) as connection:
        with contextlib.suppress(ConnectionError):  # what is refused need not be read to its end
            connection.sendall(request)
        return b"".join(received(connection))


def received(connection: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(ConnectionResetError):
        while some := connection.recv(65_536):
            yield some


def answers(raw: bytes, methods: list[bytes]) -> Iterator[Answer]:
    """The answers that these bytes are, to requests with these methods and others with GET."""
    for number in range(len(raw)):
        if not raw:
            return
        line = STATUS_LINE.match(raw)
        assert line, raw
        head, _, raw = raw.partition(b"\r\n\r\n")
        status = int(line[1])
        method = methods[number] if number < len(methods) else b"GET"
        # HEAD has no body, unless the request could not be read as far as that.
        unread = method == b"HEAD" and (not raw or STATUS_LINE.match(raw))
        body, raw = split_body(head + b"\r\n", raw, empty=unread or status in (204, 304))
        yield Answer(status, body)


def split_body(head: bytes, rest: bytes, *, empty: object) -> tuple[bytes, bytes]:
    if empty:
        return b"", rest
    if CHUNKED.search(head):
        body, _, rest = rest.partition(b"0\r\n\r\n")
        return body, rest
    length = LENGTH.search(head)
    end = int(length[1]) if length else len(rest)
    assert len(rest) >= end, "an answer ends before its end"
    return rest[:end], rest[end:]


def counted(answer: Answer) -> str | None:
    """The path that an answer says was counted."""
    if answer.status == 200 and answer.body.startswith(b'{"path": '):
        path: str = json.loads(answer.body)["path"]
        return path
    return None


class Tally:
    """What was sent, and the paths that were said to be counted."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.requests = 0
        self.statuses: Counter[int] = Counter()
        self.acknowledged: Counter[str] = Counter()

    def send(self, pipeline: list[Sent]) -> None:
        """Send requests at once, and one more: each that must be counted is, and no answer is a fault of the service.

        A path that another request was counted for is one of those bytes.
        """
        raw = exchange(self._service, b"".join(sent.raw for sent in pipeline) + LAST)
        got = list(answers(raw, [sent.method for sent in pipeline]))
        self.requests += len(pipeline) + 1
        self.statuses.update(answer.status for answer in got)
        self.acknowledged.update(path for path in map(counted, got) if path is not None)
        assert not [answer for answer in got if answer.status >= 500 and not permitted(answer, pipeline)]
        assert len(got) >= len(pipeline), "a request was not answered"
        for sent, answer in zip(pipeline, got, strict=False):
            if sent.path is not None:
                assert counted(answer) == sent.path
            elif path := counted(answer):
                assert sent.raw.startswith(b"GET " + path.encode("ascii")), path
        if all(sent.path is not None for sent in pipeline):
            assert counted(got[-1]) == "/api/last/"


def permitted(answer: Answer, pipeline: list[Sent]) -> bool:
    """Whether a 5xx says that HTTP leaves it to servers to know this (RFC 9110, sections 15.6.2 and 15.6.6)."""
    raw = pipeline[-1].raw
    first, *headers = raw.split(b"\r\n\r\n")[0].split(b"\n")
    if answer.status == 505:
        return not first.rstrip().endswith((b" HTTP/1.0", b" HTTP/1.1"))
    return answer.status == 501 and any(header.lower().startswith(b"transfer-encoding") for header in headers)


@pytest.mark.long
def test_odd_bytes_are_answered_and_accepted_paths_are_counted_byte_for_byte(
    tmp_path: Path, database: PrivatePostgres, trial: Trial
):
    times = trial.times(300, 10_000)
    with Service(tmp_path, DATABASE_URL=database.url, HITCOUNTER_WORKERS="2") as service:
        tally = Tally(service)

        @hypothesis.seed(trial.draw.getrandbits(64))
        @settings(max_examples=times, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(PIPELINES)
        def send(pipeline: list[Sent]) -> None:
            tally.send(pipeline)

        send()
        # An answer of the pixel does not tell its path.
        counts = {path: hits for path, hits in service.counts().items() if not path.startswith("/pixel/")}
        statuses = ", ".join(f"{number:,} × {status}" for status, number in sorted(tally.statuses.items()))
        trial.note(
            Outcome.of(
                "bad input: raw bytes",
                times,
                sent=tally.acknowledged,
                acknowledged=tally.acknowledged,
                at_most=tally.acknowledged,
                counts=counts,
                besides=f"{tally.requests:,} requests: {statuses}",
            )
        )
        assert counts == tally.acknowledged
        assert_books_balance(service)


@pytest.mark.long
def test_requests_drawn_from_the_description_are_answered_as_it_says(service: Service, trial: Trial):
    """As tests/acceptance/test_schema.py has it for each operation, with another seed and more examples."""
    drawn = settings(described.unhurried, derandomize=False, database=None, max_examples=trial.times(3, 100))
    requests = described.ask(described.answers, service, drawn, seed=trial.draw.getrandbits(64))
    trial.note(
        Outcome("bad input: drawn from the description", requests, requests, besides="each answered as described")
    )
    assert_books_balance(service)
