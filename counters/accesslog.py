"""From the lines of an access log to the requests that they tell of. Pure, streaming; docs/importing.md has the rules.

A log holds what clients sent, so anything: whatever a line is, it gives one item and stops nothing.

A format splits a block into the fields of its lines, by one regular expression where lines are text. What the fields
mean is worked out once for each value, since most of them come again within a few thousand lines. *Measured* on one
core: 600,000 lines/s of the combined format where values come again, 200,000 where every other is new. Cutting lines at
their quotes takes two thirds of the expression's time, but lines with escaped quotes would need it all the same.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from operator import itemgetter
from typing import NamedTuple, TypeVar

from counters.hits import MAX_PATH_BYTES, HitRefused, check_path

K = TypeVar("K", bound=bytes | tuple[bytes, ...])
V = TypeVar("V")

# Why a line gives no hit.
UNPARSED = "unparsed"  # it has not the format, or what should be its time is none
NO_REQUEST = "no request"  # what should be a request is none for a path: "-", a TLS handshake, CONNECT host:443
REFUSED = "refused"  # its path is too long to be counted

#: Values of each kind that are remembered, at up to some 4 kB each; when there are more, it begins anew.
MOST_REMEMBERED = 8192
#: Values longer than this are not remembered, so that a log of huge lines does not fill the memory.
LONGEST_REMEMBERED = 2048

_COMBINED = (
    '$remote_addr $ident $remote_user [$time_local] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent"'
)
_VHOST_COMBINED = f"$host:$server_port {_COMBINED}"

_HEADER = "header:"
_USER_AGENT = f"{_HEADER}user-agent"
#: What json_format calls what it reads, but for headers.
_JSON_NAMES = {
    **{name: name for name in ("at", "request", "path", "method", "status", "address")},
    "user_agent": _USER_AGENT,
    "referrer": f"{_HEADER}referer",
}
#: The variables of nginx that say something about a hit. `uri` is a path that has been decoded.
_NGINX_NAMES = {
    "time_local": "at",
    "time_iso8601": "at",
    "msec": "at",
    "request": "request",
    "request_method": "method",
    "request_uri": "path",
    "uri": "uri",
    "document_uri": "uri",
    "status": "status",
    "remote_addr": "address",
}
#: What tells the target, of which the first is enough.
_TARGET_NAMES = ("request", "method", "path", "uri")
#: What must be whole for a line to count, though the line may be cut off after it.
_NEEDED = ("at", "status", *_TARGET_NAMES)
#: What is taken as far as it goes where a line is cut off: a status has three digits, and the beginning of a user agent
#: tells who it is. That of a referrer or an address may be another one's.
_GOOD_WITHOUT_AN_END = ("status", _USER_AGENT)
#: Variables that need not be followed by what a value of theirs cannot hold.
_NGINX_VALUES = {"time_local": rb"[\w/:.]++ [+-]\d++", "status": rb"(?:\d{3}|-)(?!\w)"}

_NGINX_VARIABLE = re.compile(r"\$(?:\w+|\{\w+\})", re.ASCII)
_NGINX_DIRECTIVE = re.compile(r"(?:log_format\s+\S+\s+)?(?:escape=(\w+)\s+)?(.*)", re.DOTALL)
_NGINX_STRINGS = re.compile(r"(?:'(?:[^'\\]|\\.)*'\s*)+;?")
_NGINX_STRING = re.compile(r"'((?:[^'\\]|\\.)*)'")
_NGINX_ESCAPE = re.compile(r"\\([\\'\"t])")

# Apache writes \" \\ \n \t \xHH and the like, nginx \xHH, and \u00HH as well with escape=json.
_ESCAPE = re.compile(rb'\\(?:(?:x|u00)([0-9A-Fa-f]{2})|(["\\bfnrtv]))')
_ESCAPED = dict(zip(b'"\\bfnrtv', b'"\\\b\f\n\r\t\v', strict=True))

_EPOCH = re.compile(rb"(\d{1,10})(?:\.(\d+))?")
_COMMON_TIME = re.compile(rb"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\S+) ([+-]\d{4})")
_MONTHS = {
    name: b"%02d" % number
    for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)
}

_METHOD = re.compile(rb"[A-Z]{0,20}")
_BEFORE_THE_TARGET = re.compile(rb"[A-Z]{1,20} ++")
_VERSION = re.compile(rb"\d(?:\.\d)?")
_QUERY_OR_FRAGMENT = re.compile(rb"[?#]")
_SCHEME_AND_HOST = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*+://[^/]*+")
_NOT_IN_A_TARGET = re.compile(rb"[^\x21-\x7e]")
# nginx's $uri has been decoded: what these stand for there was sent encoded.
_NOT_IN_A_DECODED_PATH = re.compile(rb"[%?#]")
_STATUS = re.compile(rb"[1-9]\d\d")
_UNKNOWN = (b"", b"-")


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """When a request came, in UTC. Equal times of a log are one object as long as it is remembered, which may be told
    by its identity; so are Targets and Senders."""

    at: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What was asked for: a path that can be counted, and the method, empty where the log does not tell it."""

    method: str
    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Sender:
    """Who asked, and what came of it: the peer as the log names it, and headers as `Origins.of` takes them."""

    status: int | None
    peer: str | None
    headers: tuple[tuple[bytes, bytes], ...]


#: One request.
Entry = tuple[Moment, Target, Sender]


class Unread(NamedTuple):
    """A line that gives no hit, and why: UNPARSED, NO_REQUEST or REFUSED."""

    reason: str
    line: bytes


class FormatUnknown(ValueError):
    """The lines have none of the formats that are recognised; the message says what to do."""


class _NoHit(Exception):
    """This line gives no hit, for the reason given."""


class _Memory(dict[K, V]):
    """What `read` made of values, for as many of them as fit."""

    def __init__(self, read: Callable[[K], V]) -> None:
        self._read = read

    def __missing__(self, value: K) -> V:
        meaning = self._read(value)
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        if (len(value) if isinstance(value, bytes) else sum(map(len, value))) <= LONGEST_REMEMBERED:
            self[value] = meaning
        return meaning


class LogFormat:
    """How to read the lines of a log. Made by `recognised`, `nginx_format` and `json_format`."""

    def __init__(
        self,
        split: Callable[[bytes], Iterable[Sequence[bytes]]],
        names: Sequence[str],
        plain: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """`split` takes a block to its lines: each is followed by the values that `names` lists, empty ones where it
        has not the format, and by one more that is always empty. `plain` undoes the escapes of a value."""
        place = {name: number for number, name in enumerate(names, start=1)}
        headers = [name for name in place if name.startswith(_HEADER)]
        self._split, self._plain = split, plain
        self._headers = [name.removeprefix(_HEADER).encode() for name in headers]
        self._at, self._target_in, self._sender_in = (
            itemgetter(*(place.get(name, -1) for name in wanted))
            for wanted in (["at"], _TARGET_NAMES, ["status", "address", *headers])
        )
        self._moments, self._targets, self._senders = _Memory(_moment), _Memory(self._target), _Memory(self._sender)

    def read(self, block: bytes) -> Iterator[Entry | Unread | None]:
        """What each line tells, in their order; None for an empty line.

        `block` holds whole lines, of which the last may lack its line feed.
        """
        at_in, target_in, sender_in = self._at, self._target_in, self._sender_in
        moments, targets, senders = self._moments, self._targets, self._senders
        for fields in self._split(block):
            try:
                entry = moments[at_in(fields)], targets[target_in(fields)], senders[sender_in(fields)]
            except _NoHit as error:
                line = fields[0].rstrip(b"\r")
                yield Unread(str(error), line) if line else None
            else:
                yield entry

    def _target(self, values: tuple[bytes, ...]) -> Target:
        request, method, path, uri = map(self._plain, values)
        if request:
            return _target(*_method_and_target(request))
        return _target(b"" if method == b"-" else method, path or _NOT_IN_A_DECODED_PATH.sub(_percent_encoded, uri))

    def _sender(self, values: tuple[bytes, ...]) -> Sender:
        status, address, *headers = map(self._plain, values)
        return Sender(
            int(status) if _STATUS.fullmatch(status) else None,
            None if address in _UNKNOWN else address.decode("latin-1"),
            tuple((name, value) for name, value in zip(self._headers, headers, strict=True) if value not in _UNKNOWN),
        )


def recognised(sample: bytes) -> LogFormat:
    """The format that most lines of a log's beginning have: common, combined or vhost_combined, with whatever further
    fields. Raises FormatUnknown if no line has one of them."""
    # A user's name may hold spaces, so that combined reads nearly every line of a log with virtual hosts as well.
    formats = [nginx_format(_VHOST_COMBINED), nginx_format(_COMBINED)]
    read = [sum(_has_format(item) for item in one.read(sample)) for one in formats]
    if not any(read):
        raise FormatUnknown(
            "No line has the common, combined or vhost_combined format; give the log's own, as nginx's log_format or "
            "by the names of its JSON fields."
        )
    return formats[read.index(max(read))]


def _has_format(item: Entry | Unread | None) -> bool:
    return item is not None and not (isinstance(item, Unread) and item.reason == UNPARSED)


def nginx_format(log_format: str) -> LogFormat:
    """The format that nginx's directive of that name describes: the format alone, or all that stands in nginx.conf.

    Variables that say nothing about a hit are read and left alone; `$http_<name>` is the header of that name. Of a
    variable that stands there twice, and of several times, the last counts. Raises ValueError with a sentence.
    """
    escape, text = _directive(log_format.strip())
    literals = [literal.encode() for literal in _NGINX_VARIABLE.split(text)]
    variables = [variable.strip("${}") for variable in _NGINX_VARIABLE.findall(text)]
    names = [_nginx_name(variable) for variable in variables]
    if "at" not in names:
        raise ValueError("The log_format has no time: $time_local, $time_iso8601 or $msec.")
    if not {"request", "path", "uri"}.intersection(names):
        raise ValueError("The log_format has no path: $request, $request_uri or $uri.")
    for variable, literal, following in zip(variables, literals[1:], variables[1:], strict=False):
        if not literal:
            raise ValueError(f"In the log_format, nothing stands between ${variable} and ${following}.")
    pattern = _pattern(literals, variables, names, escaped=escape != "none")
    plain = bytes if escape == "none" else _unescaped
    return LogFormat(partial(_split_text, pattern), [name for name in names if name], plain)


def _directive(text: str) -> tuple[str, str]:
    """How a log_format escapes, and the format itself, whose pieces nginx.conf has in single quotes."""
    directive = _NGINX_DIRECTIVE.fullmatch(text)
    assert directive  # it matches any text
    escape, written = directive[1] or "default", directive[2]
    if _NGINX_STRINGS.fullmatch(written):
        written = "".join(_NGINX_STRING.findall(written))
    return escape, _NGINX_ESCAPE.sub(lambda found: "\t" if found[1] == "t" else found[1], written)


def _nginx_name(variable: str) -> str:
    """What a variable says; nothing that matters if empty."""
    if variable.startswith("http_"):
        return _HEADER + variable.removeprefix("http_").replace("_", "-").lower()
    return _NGINX_NAMES.get(variable, "")


def _pattern(
    literals: Sequence[bytes], variables: Sequence[str], names: Sequence[str], escaped: bool
) -> re.Pattern[bytes]:
    """What matches a line and its line feed: the first group is the line, the last is empty, the others hold the
    values, nothing where the line has not the format.

    A line may be cut off after what is needed. No repetition gives back what it took, and no line is tried twice:
    the time is proportional to the length, whatever the line holds.
    """
    needed = max(number for number, name in enumerate(names) if name in _NEEDED)
    rest = b""
    for number in reversed(range(len(names))):
        variable, name, literal = variables[number], names[number], literals[number + 1]
        end = re.escape(literal)
        if variables[number + 1 : number + 2] == ["time_local"]:
            # A client can call itself "a [b": what ends its name is the bracket with a time in it.
            end += _NGINX_VALUES["time_local"] + re.escape(literals[number + 2])
        value = _NGINX_VALUES.get(variable) or _up_to(literal, end, escaped)
        value = b"(%b)" % value if name else value
        whole = name not in _GOOD_WITHOUT_AN_END or number < needed
        rest = re.escape(literal) + rest
        rest = value + (rest if whole else b"(?:%b|)" % rest)
        if number > needed:
            rest = b"(?:%b|)" % rest
    return re.compile(rb"(?!\Z)(%b%b[^\n]*+|[^\n]*+)\n?()" % (re.escape(literals[0]), rest))


def _up_to(literal: bytes, end: bytes, escaped: bool) -> bytes:
    """What matches a value up to the text that follows it in the format (and that begins what `end` matches), or up to
    the line's end."""
    if not literal:
        return rb"[^\r\n]*+"
    first = re.escape(literal[:1])
    quoted = escaped and first == b'"'  # quotes within quotes are escaped; elsewhere, a backslash does not matter
    # Nothing is taken before it is known to belong to the value: until 3.11.5, Python did not give it back here.
    within = rb"(?!%b)%b" % (end, first)
    within, others = (rb"\\[^\r\n]?+|" + within, rb"\\") if quoted else (within, b"")
    others = rb"[^%b%b\r\n]*+" % (first, others)
    return rb"%b(?:(?:%b)%b)*+" % (others, within, others)


def _split_text(pattern: re.Pattern[bytes], block: bytes) -> Iterator[Sequence[bytes]]:
    for line in pattern.finditer(block):
        yield line.groups(b"")


def json_format(fields: Mapping[str, str]) -> LogFormat:
    """The format of a log with a JSON object in each line: from our names to those of its fields.

    Ours are `at`, `request` (the line) or `path` and `method`, `status`, `address`, `user_agent`, `referrer`, and
    `header:<name>` for other headers. Theirs are dotted where they are nested (`request.headers.User-Agent`); of
    a list, the first element counts. Numbers as times are seconds since 1970. Raises ValueError with a sentence.
    """
    names = [_JSON_NAMES.get(name) or _header_name(name) for name in fields]
    if "at" not in names:
        raise ValueError("The JSON fields have no time: at.")
    if not {"request", "path"}.intersection(names):
        raise ValueError("The JSON fields have no path: path or request.")
    return LogFormat(partial(_split_json, [theirs.split(".") for theirs in fields.values()]), names)


def _header_name(name: str) -> str:
    if not name.startswith(_HEADER) or name == _HEADER:
        raise ValueError(f"{name} is none of {', '.join(_JSON_NAMES)}, {_HEADER}<name>.")
    return name.lower()


def _split_json(fields: Sequence[Sequence[str]], block: bytes) -> Iterator[Sequence[bytes]]:
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    for line in lines:
        record = _json(line)
        yield (line, *(_field(record, keys) for keys in fields), b"")


def _json(line: bytes) -> object:
    """A line's JSON, with numbers as they are written; None if it is none, or nested too deep."""
    try:
        return json.loads(line.decode(errors="surrogateescape"), parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None


def _field(record: object, keys: Sequence[str]) -> bytes:
    found = record
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, list):
            found = found[0] if found else None
    return _encoded(found) if isinstance(found, str) else b""


def _encoded(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can write
        return text.encode(errors="surrogatepass")


def _unescaped(value: bytes) -> bytes:
    return _ESCAPE.sub(_character, value) if b"\\" in value else value


def _character(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1], 16) if escape[1] else _ESCAPED[ord(escape[2])]])


def _moment(text: bytes) -> Moment:
    try:
        return Moment(_time(text))
    except (ValueError, KeyError, OverflowError):
        raise _NoHit(UNPARSED) from None


def _time(text: bytes) -> datetime:
    """The time in UTC. Raises ValueError, KeyError, OverflowError."""
    epoch = _EPOCH.fullmatch(text)
    if epoch:
        microsecond = int((epoch[2] or b"")[:6].ljust(6, b"0"))
        return datetime.fromtimestamp(int(epoch[1]), UTC).replace(microsecond=microsecond)
    common = _COMMON_TIME.fullmatch(text)
    if common:  # names of months are read here, since strptime expects the locale's
        day, month, year, clock, offset = common.groups()
        text = b"%b-%b-%bT%b%b" % (year, _MONTHS[month], day, clock, offset)
    at = datetime.fromisoformat(text.decode("ascii"))
    if at.tzinfo is None:
        raise ValueError("no offset")
    return at.astimezone(UTC)


def _method_and_target(request: bytes) -> tuple[bytes, bytes]:
    """The parts of a request line, which may lack its end: HTTP/0.9 has no version."""
    before = _BEFORE_THE_TARGET.match(request)
    if not before:
        raise _NoHit(NO_REQUEST)
    rest = request[before.end() :].rstrip(b" ")
    target, _, version = rest.rpartition(b" HTTP/")
    return before[0].rstrip(b" "), (target if _VERSION.fullmatch(version) else rest).rstrip(b" ")


def _target(method: bytes, target: bytes) -> Target:
    """The path in a request target: of an absolute one what follows the host, without query and fragment."""
    path = _QUERY_OR_FRAGMENT.split(target, maxsplit=1)[0]
    absolute = _SCHEME_AND_HOST.match(path)
    if absolute:
        path = path[absolute.end() :] or b"/"
    if not path.startswith(b"/") or not _METHOD.fullmatch(method):
        raise _NoHit(NO_REQUEST)
    # One byte too many is enough to refuse it, and need not be encoded a million times.
    path = _NOT_IN_A_TARGET.sub(_percent_encoded, path[: MAX_PATH_BYTES + 1])
    return _distinct_target(method.decode(), path.decode())


@lru_cache(MOST_REMEMBERED)  # many requests differ by their query alone
def _distinct_target(method: str, path: str) -> Target:
    try:
        return Target(method, check_path(path))
    except HitRefused:
        raise _NoHit(REFUSED) from None


def _percent_encoded(byte: re.Match[bytes]) -> bytes:
    return b"%%%02X" % ord(byte[0])
