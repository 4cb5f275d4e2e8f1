"""Importing log files: each line of a log is counted once, however often and under whichever name it is brought.

A log is known by its first line and by what precedes the offset up to which it was imported, which is written in the
transaction of the hits themselves. So an import that was cut short goes on where it ended, and so does one of a file
that has grown, been renamed or compressed. One thread reads while another commits what was read before.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass
from datetime import date, datetime
from fnmatch import translate
from functools import cache
from hashlib import blake2b
from operator import add
from threading import Event
from typing import NamedTuple, Self, TypeVar

from django.db import connection

from counters import bulk, maintenance
from counters.accesslog import NO_REQUEST, REFUSED, UNPARSED, Entry, LogFormat, Moment, Sender, Target, Unread
from counters.bulk import MOST_DAYS, Load
from counters.dimensions import Origin
from counters.hits import HitRefused, PathTooLong, check_path, check_time, now
from counters.logfiles import WINDOW_BYTES, LogFile
from counters.models import ImportedLog

K = TypeVar("K")
V = TypeVar("V")

#: Tells where a request comes from: by its method, its headers and its peer (origins.Origins.of).
OriginOf = Callable[[str, Sequence[tuple[bytes, bytes]], str | None], Origin]

#: Times, paths and origins that are remembered; when there are more, it begins anew.
MOST_REMEMBERED = 100_000
LOOK_SECONDS = 1
#: A server goes on writing to a log that was renamed until it opens the new one: it must be quiet for so many looks.
QUIET_LOOKS = 5
_DIGEST_BYTES = 32


class ImportFailed(Exception):
    """A log cannot be imported, or not any further; the message says why."""


class Misfit(NamedTuple):
    """A line that gave no hit though it should have, and its number in the log, from 1."""

    line: int
    reason: str
    text: bytes


class Choice:
    """Which lines are counted, and under which paths.

    `only` and `skip` are globs of paths as they stand in the log; `statuses` are like "404" or "2xx", none means all;
    `prefix` is put before each path.
    """

    def __init__(
        self, *, prefix: str = "", only: Sequence[str] = (), skip: Sequence[str] = (), statuses: Sequence[str] = ()
    ) -> None:
        self._prefix = prefix
        self._only, self._skip = _globs(only or ["*"]), _globs(skip)
        self._statuses = frozenset(statuses)

    def path(self, target: Target) -> str:
        """The path under which a request counts, "" when it does not. Raises HitRefused."""
        if not self._only.match(target.path) or self._skip.match(target.path):
            return ""
        return check_path(self._prefix + target.path)

    def wants(self, status: int | None) -> bool:
        """Whether requests that were answered so are counted."""
        return not self._statuses or bool(self._statuses & {str(status), f"{(status or 0) // 100}xx"})


def _globs(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")


@dataclass
class Summary:
    """What became of new lines: `left_out` were not chosen, `no_request` tell of none."""

    lines: int = 0
    hits: int = 0
    left_out: int = 0
    no_request: int = 0
    misfits: int = 0

    def __add__(self, other: "Summary") -> "Summary":
        return Summary(*map(add, astuple(self), astuple(other)))


class _Remembered(dict[K, V]):
    """What was worked out, for as many keys as fit."""

    def __init__(self, work_out: Callable[[K], V]) -> None:
        self._work_out = work_out

    def __missing__(self, key: K) -> V:
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        value = self[key] = self._work_out(key)
        return value


class _Part(NamedTuple):
    """What one transaction takes in: the hits of so many lines and bytes of a block; `end`: what ends the import."""

    load: Load
    lines: int
    size: int
    end: Misfit | None = None


class _Reach(NamedTuple):
    """How far a log is imported; `window` precedes the offset. `marks`: see models.ImportedLog."""

    offset: int
    window: bytes
    marks: bytes
    lines: int
    hits: int

    def after(self, part: _Part, text: bytes) -> "_Reach":
        """How far it is imported with one part more, which has this text."""
        reached, end = self.window + text, self.offset + len(text)
        marks = [
            _digest(_before(reached, power - end + len(reached)))
            for power in (1 << exponent for exponent in range(self.offset.bit_length(), end.bit_length()))
        ]
        window = _before(reached, len(reached))
        return _Reach(end, window, self.marks + b"".join(marks), self.lines + part.lines, self.hits + part.load.hits)


def _before(text: bytes, offset: int) -> bytes:
    return text[max(0, offset - WINDOW_BYTES) : offset]


class Importer:
    """Imports one log after another into Django's database.

    `recognise` tells the format of a log from its beginning, `origin_of` and `salt` what its hits need. Told are each
    misfit, and the file after each step with the new lines that were read in it. `strict`: the first misfit ends it, as
    `stopped` does after the transaction under way.
    """

    def __init__(
        self,
        *,
        recognise: Callable[[bytes], LogFormat],
        origin_of: OriginOf,
        salt: Callable[[date], bytes],
        choice: Choice,
        strict: bool,
        stopped: Event,
        tell_misfit: Callable[[LogFile, Misfit], object],
        tell_progress: Callable[[LogFile, int], object],
    ) -> None:
        self._recognise, self._origin_of, self._salt = recognise, origin_of, cache(salt)
        self._choice, self._strict, self._stopped = choice, strict, stopped
        self._tell_misfit, self._tell_progress = tell_misfit, tell_progress
        self._times = _Remembered(_time)
        self._paths = _Remembered(choice.path)
        self._origins = _Remembered(self._origin)
        self._committing = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._committing.submit(_close_connection).result()
        self._committing.shutdown()

    def read(self, file: LogFile) -> Summary:
        """Import what is new in a log, to its end. Maintenance, and other imports, wait meanwhile.

        Raises LogUnreadable, accesslog.FormatUnknown, ImportFailed, django.db.Error: what was read before that is
        imported, in whole transactions.
        """
        summary = Summary()
        beginning = file.beginning()
        if beginning:
            log_format = self._recognise(beginning)
            with maintenance.kept_out():
                log = _known(file, beginning)
                self._commit_all(log, self._parts(file, log, log_format, summary))
        return summary

    def _commit_all(self, log: ImportedLog, parts: Iterator[tuple[_Part, _Reach]]) -> None:
        """Commit the parts one after the other, each while the next is gathered."""
        under_way: Future[None] | None = None
        try:
            for part, reach in parts:
                if under_way:
                    under_way.result()
                under_way = self._committing.submit(_commit, part.load, log, reach)
        finally:
            if under_way:
                under_way.result()

    def follow(self, file: LogFile) -> Iterator[tuple[LogFile, Summary]]:
        """Import what is written to a log until `stopped`; yields what is new after each look at it.

        When the log was renamed or emptied, the file that has its name by then is next.
        """
        quiet = 0
        while not self._stopped.is_set():
            summary = self.read(file) if file.size != file.position else Summary()
            yield file, summary
            if file.replaced():
                quiet = 0 if summary.lines else quiet + 1
                if quiet == QUIET_LOOKS:
                    file.grows = False
                    yield file, self.read(file)
                    file.close()
                    file, quiet = LogFile.open(file.name), 0
            self._stopped.wait(LOOK_SECONDS)

    def _parts(
        self, file: LogFile, log: ImportedLog, log_format: LogFormat, summary: Summary
    ) -> Iterator[tuple[_Part, _Reach]]:
        """What is new in a log, a transaction at a time, with how far the log is imported after it."""
        reach = _Reach(log.offset, file.window(log.offset) or b"", bytes(log.marks), log.lines, log.hits)
        for block in file.blocks(log.offset):
            while block and not self._stopped.is_set():
                part = self._gather(file, log_format, block, reach.lines, summary)
                if part.size:
                    reach = reach.after(part, block[: part.size])
                    yield part, reach
                    self._tell_progress(file, part.lines)
                if part.end:
                    raise ImportFailed(f"{file.name}, line {part.end.line:,}: {part.end.reason}")
                block = block[part.size :]
            if self._stopped.is_set():
                return

    def _gather(self, file: LogFile, log_format: LogFormat, block: bytes, lines_before: int, summary: Summary) -> _Part:
        """Gather the hits of a block, up to its end or to where a transaction must end."""
        load, lines = Load(self._salt), 0
        times, paths, origins = self._times, self._paths, self._origins
        for lines, item in enumerate(log_format.read(block), start=1):
            try:
                if isinstance(item, Unread):
                    summary.no_request += _no_request(item)
                elif item:
                    moment, target, sender = item
                    at, path, origin = times[moment], paths[target], origins[target.method, sender]
                    if path and origin:
                        load.count(at, path, origin)
                    else:
                        summary.left_out += 1
            except HitRefused as refusal:
                misfit = Misfit(lines_before + lines, str(refusal), _excerpt(item))
                if self._strict:
                    return _finished(_Part(load, lines - 1, _size(block, lines - 1), misfit), summary)
                summary.misfits += 1
                self._tell_misfit(file, misfit)
            if len(load.days) >= MOST_DAYS:
                return _finished(_Part(load, lines, _size(block, lines)), summary)
        return _finished(_Part(load, lines, len(block)), summary)

    def _origin(self, request: tuple[str, Sender]) -> Origin | None:
        """Where requests with this method and sender come from; None when they are left out. Raises HitRefused."""
        method, sender = request
        if not self._choice.wants(sender.status):
            return None
        origin = self._origin_of(method, sender.headers, sender.peer)
        return Origin(origin.dimensions._replace(status=sender.status), origin.identity)


def _time(moment: Moment) -> datetime:
    """When a hit came. Raises TimeInvalid."""
    return check_time(moment.at, now())


def _finished(part: _Part, summary: Summary) -> _Part:
    summary.lines += part.lines
    summary.hits += part.load.hits
    return part


class _NoHit(HitRefused):
    """A line that has not the log's format."""


_REASONS = {
    UNPARSED: "The line has not the format of the log.",
    REFUSED: str(PathTooLong.__doc__),
}


def _no_request(line: Unread) -> bool:
    """Whether a line tells of no request, as real logs do; raises HitRefused when it should."""
    if line.reason == NO_REQUEST:
        return True
    raise HitRefused(_REASONS[line.reason])


def _excerpt(item: Entry | Unread | None) -> bytes:
    """What to show of a line."""
    if isinstance(item, Unread):
        return item.line
    return item[1].path.encode() if item else b""


def _size(block: bytes, lines: int) -> int:
    """How many bytes so many lines of a block have."""
    size = 0
    for _ in range(lines):
        size = block.index(b"\n", size) + 1
    return size


def _known(file: LogFile, beginning: bytes) -> ImportedLog:
    """The log that a file holds, with how far it has been imported; a new one if it has not."""
    head = _digest(beginning.splitlines()[0])
    for log in ImportedLog.objects.filter(head=head).order_by("-offset"):
        window = file.window(log.offset)
        if _is_beginning(file, log) if window is None else _digest(window) == bytes(log.tail):
            log.name = file.name
            return log
    return ImportedLog(name=file.name, head=head, offset=0, tail=_digest(b""), marks=b"", lines=0, hits=0)


def _is_beginning(file: LogFile, log: ImportedLog) -> bool:
    """Whether a file that ends before the offset of a log is an earlier copy of it, by the last mark in its reach."""
    exponent, last = 0, b""
    while (window := file.window(1 << exponent)) is not None:
        exponent, last = exponent + 1, window
    return _digest(last) == bytes(log.marks)[(exponent - 1) * _DIGEST_BYTES : exponent * _DIGEST_BYTES]


def _commit(load: Load, log: ImportedLog, reach: _Reach) -> None:
    """Count a part of a log, and note how far it is imported, in one transaction."""

    before = log.offset

    def note() -> None:
        if before and not ImportedLog.objects.filter(id=log.id, offset=before).exists():
            raise ImportFailed(f"{log.name}: something else has changed how far it is imported; try again.")
        log.offset, log.tail, log.marks = reach.offset, _digest(reach.window), reach.marks
        log.lines, log.hits = reach.lines, reach.hits
        log.save()

    bulk.record(load, note)


def _close_connection() -> None:
    connection.close()  # that of the thread that runs this


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=_DIGEST_BYTES).digest()
