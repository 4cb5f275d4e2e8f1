"""Importing log files: each line of a log is counted once, however often and under whichever name it is brought.

A log is known by its first line and by what precedes the offset up to which it was imported, which is written in the
transaction of the hits themselves. So an import that was cut short goes on where it ended, and so does one of a file
that has grown, been renamed or compressed. One thread reads while another commits what was read before.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, dataclass
from datetime import date, datetime
from fnmatch import translate
from functools import cache
from hashlib import blake2b
from itertools import count
from operator import add
from typing import NamedTuple, Self, TypeVar
from uuid import UUID

from django.db import Error, connection

from counters import bulk, maintenance
from counters.accesslog import (
    NO_REQUEST,
    REFUSED,
    UNPARSED,
    Entry,
    FormatUnknown,
    LogFormat,
    Moment,
    Sender,
    Target,
    Unread,
)
from counters.bulk import MOST_DAYS, Load
from counters.dimensions import Origin
from counters.hits import HitRefused, PathTooLong, check_path, check_time, now
from counters.logfiles import WINDOW_BYTES, LogFile, LogUnreadable
from counters.models import ImportedLog

K = TypeVar("K")
V = TypeVar("V")

#: The logs that begin alike: how far each is imported.
Logs = dict[UUID, int]
#: Tells where a request comes from: by its method, its headers and its peer (origins.Origins.of).
OriginOf = Callable[[str, Sequence[tuple[bytes, bytes]], str | None], Origin]

#: Times, paths and origins that are remembered; when there are more, it begins anew.
MOST_REMEMBERED = 100_000
WAIT_SECONDS = 0.2
LOOK_SECONDS = 1
#: A server goes on writing to a log that was renamed until it opens the new one: it must be quiet for so many looks.
QUIET_LOOKS = 5
#: After something went wrong with a log that is followed.
RECOVER_SECONDS = 5
_DIGEST_BYTES = 16
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('counters import ' || %s, 0))"


class ImportFailed(Exception):
    """A log cannot be imported, or not any further; the message says why."""


class Misfit(NamedTuple):
    """A line that gave no hit though it should have, and its number in the log, from 1."""

    line: int
    reason: str
    text: bytes


class Stopped(ImportFailed):
    """A line could not be read, and was to stop the import; `summary` is what was imported before it."""

    def __init__(self, message: str, summary: "Summary") -> None:
        super().__init__(message)
        self.summary = summary


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
    """What became of new lines: `left_out` were not chosen, `no_request` tell of none.

    `copy_of` names the log of which the file is an earlier copy, when that is why nothing is new.
    """

    lines: int = 0
    hits: int = 0
    left_out: int = 0
    no_request: int = 0
    misfits: int = 0
    copy_of: str = ""

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
        begins = end - len(reached)
        marks = [_digest(_before(reached, at - begins)) for at in marked(self.offset, end)]
        window = _before(reached, len(reached))
        return _Reach(end, window, self.marks + b"".join(marks), self.lines + part.lines, self.hits + part.load.hits)


def marked(start: int, end: int) -> Iterator[int]:
    """The offsets after `start`, and up to `end`, that have a mark: sixteen from one power of two to the next."""
    at = start
    while True:
        step = 1 << max(0, (at + 1).bit_length() - 5)
        at = (at // step + 1) * step
        if at > end:
            return
        yield at


def _before(text: bytes, offset: int) -> bytes:
    return text[max(0, offset - WINDOW_BYTES) : offset]


class Importer:
    """Imports one log after another into Django's database.

    `recognise` tells the format of a log from its beginning, `origin_of` and `salt` what its hits need. Told are each
    misfit, the file after each step with the new lines that were read in it, and what else there is to say of it.
    `strict`: the first misfit ends it.
    """

    def __init__(
        self,
        *,
        recognise: Callable[[bytes], LogFormat],
        origin_of: OriginOf,
        salt: Callable[[date], bytes],
        choice: Choice,
        strict: bool,
        tell_misfit: Callable[[LogFile, Misfit], object],
        tell_progress: Callable[[LogFile, int], object],
        tell: Callable[[str], object],
    ) -> None:
        self._recognise, self._origin_of, self._make_salt = recognise, origin_of, salt
        self._choice, self._strict = choice, strict
        self._tell_misfit, self._tell_progress, self._tell = tell_misfit, tell_progress, tell
        self._committing = ThreadPoolExecutor(1)
        self._amiss = ""
        self._begin_day(now().date())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._committing.submit(_close_connection).result()
        self._committing.shutdown()

    def _begin_day(self, today: date) -> None:
        """Forget whose visitors were whose: no address, and no salt, is kept when the day is over."""
        self._today = today
        self._salt = cache(self._make_salt)
        self._times, self._paths = _Remembered(_time), _Remembered(self._choice.path)
        self._origins = _Remembered(self._origin)

    def read(self, file: LogFile) -> Summary:
        """Import what is new in a log, to its end. Maintenance, and other imports, wait meanwhile.

        Raises LogUnreadable, accesslog.FormatUnknown, ImportFailed, django.db.Error: what was read before that is
        imported, in whole transactions.
        """
        if now().date() != self._today:
            self._begin_day(now().date())
        summary = Summary()
        beginning = file.beginning()
        if beginning:
            log_format = self._recognised(file, beginning)
            # Who writes to a pipe may take their time: while they are waited for, nobody else waits.
            with nullcontext() if file.piped else self._alone():
                log, logs = _known(file, beginning)
                window = file.window(log.offset)
                if window is None:
                    summary.copy_of = log.name
                    return summary
                reach = _Reach(log.offset, window, bytes(log.marks), log.lines, log.hits)
                self._commit_all(file.path, log, logs, self._parts(file, reach, log_format, summary))
        return summary

    def _recognised(self, file: LogFile, beginning: bytes) -> LogFormat:
        try:
            return self._recognise(beginning)
        except FormatUnknown as error:
            raise FormatUnknown(f"{file.name}: {error}") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep maintenance out, and other imports."""
        waits = count()

        def wait() -> None:
            if not next(waits):
                self._tell("Waiting for maintenance, or another import, to end.")
            time.sleep(WAIT_SECONDS)

        with maintenance.kept_out(wait):
            yield

    def _commit_all(self, name: str, log: ImportedLog, logs: Logs, parts: Iterator[tuple[_Part, _Reach]]) -> None:
        """Commit the parts one after the other, each while the next is gathered."""
        under_way: Future[None] | None = None
        try:
            for part, reach in parts:
                if under_way:
                    under_way.result()
                under_way = self._committing.submit(_commit, part.load, name, log, logs, reach)
        finally:
            if under_way:
                under_way.result()

    def _parts(
        self, file: LogFile, reach: _Reach, log_format: LogFormat, summary: Summary
    ) -> Iterator[tuple[_Part, _Reach]]:
        """What is new in a log, a transaction at a time, with how far the log is imported after it."""
        for block in file.blocks(reach.offset):
            with self._alone() if file.piped else nullcontext():
                while block:
                    part = self._gather(file, log_format, block, reach.lines, summary)
                    if part.size:
                        reach = reach.after(part, block[: part.size])
                        yield part, reach
                        self._tell_progress(file, part.lines)
                    if part.end:
                        raise Stopped(f"{file.name}, line {part.end.line:,}: {part.end.reason}", summary)
                    block = block[part.size :]

    def follow(self, name: str) -> Iterator[tuple[LogFile, Summary]]:
        """Import what is written to a log, for ever; yields what is new after each look at it.

        When another file has its name, that is next, after what comes late to the one before. Whatever is amiss (no
        such file yet, no line of a known format yet, no database) is told, and tried again; not if `strict`.
        """
        files: deque[LogFile] = deque()
        quiet, failed = 0, False
        while True:
            new = Summary()
            try:
                if not files or files[-1].replaced():
                    files.append(LogFile.open(name))
                if files[0].size < files[0].position:
                    self._tell(f"{name} was emptied; if it was copied before, import the copy as well.")
                if failed or files[0].size != files[0].position:
                    new, failed = self.read(files[0]), False
                    self._amiss = ""
                yield files[0], new
            except (LogUnreadable, FormatUnknown, ImportFailed, Error) as error:
                if self._strict:
                    raise
                failed = True
                self._recover(error)
            quiet = quiet + 1 if len(files) > 1 and not new.lines else 0
            if quiet == QUIET_LOOKS:
                files.popleft().close()
                quiet = 0
            time.sleep(LOOK_SECONDS)

    def _recover(self, error: Exception) -> None:
        """Tell what is amiss, once while it lasts, and give a database time to come back."""
        reason = " ".join(str(error).split())
        if reason != self._amiss:
            self._tell(reason)
        self._amiss = reason
        if isinstance(error, Error):
            connection.close()
            self._committing.submit(_close_connection).result()
            time.sleep(RECOVER_SECONDS)

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


def _known(file: LogFile, beginning: bytes) -> tuple[ImportedLog, Logs]:
    """The log that a file holds or is a copy of, a new one if it is none of those that there are; and these."""
    head = _digest(beginning.splitlines()[0])
    known = list(ImportedLog.objects.filter(head=head).order_by("-offset"))
    logs = {log.id: log.offset for log in known}
    for log in known:
        window = file.window(log.offset)
        if _is_copy(file, log) if window is None else _digest(window) == bytes(log.tail):
            return log, logs
    return ImportedLog(head=head, offset=0, marks=b"", lines=0, hits=0), logs


def _is_copy(file: LogFile, log: ImportedLog) -> bool:
    """Whether a file that ends before the offset of a log is an earlier copy of it, by the last mark in its reach."""
    *_, (number, at) = enumerate(marked(0, file.length))
    return _digest(file.window(at) or b"") == bytes(log.marks)[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]


def _commit(load: Load, name: str, log: ImportedLog, logs: Logs, reach: _Reach) -> None:
    """Count a part of a log, and note how far it is imported, in one transaction.

    An import that was killed may still be committing, and a lock can be lost with its session. So the logs that begin
    as this one are locked and looked at again, in this very transaction. Raises ImportFailed.
    """

    def note() -> None:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK, [log.head.hex()])
        if dict(ImportedLog.objects.filter(head=log.head).values_list("id", "offset")) != logs:
            raise ImportFailed(f"{name}: another import has read on in it meanwhile; run this again.")
        log.name, log.offset, log.tail, log.marks = name, reach.offset, _digest(reach.window), reach.marks
        log.lines, log.hits = reach.lines, reach.hits
        log.save()

    bulk.record(load, note)
    logs[log.id] = reach.offset


def _close_connection() -> None:
    connection.close()  # that of the thread that runs this


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=_DIGEST_BYTES).digest()
