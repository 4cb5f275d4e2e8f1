"""Import access logs: what is new in them, each line once."""

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from threading import Event
from types import FrameType
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import Error
from tqdm import tqdm

from counters import accesslog, bulk
from counters.accesslog import FormatUnknown, LogFormat
from counters.clients import origins
from counters.hits import HitRefused, check_path
from counters.importing import Choice, Importer, ImportFailed, Misfit, Summary
from counters.logfiles import STANDARD_INPUT, LogFile, LogUnreadable

MISFITS_SHOWN = 10
_LONGEST_SHOWN = 120
_JSON = "json:"
_GOES_ON = "Run it again: it goes on where it ended."
_INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT
_STATUS = re.compile(r"[1-5](?:\d\d|xx)", re.ASCII)


class Command(BaseCommand):
    help = (
        "Count the requests of access logs, each line once however often and under whichever name its file is given. "
        "When it was cut short, or the log has grown, it goes on where it ended."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="plain or gzipped; - for standard input")
        parser.add_argument(
            "--format",
            help="an nginx log_format, or json: and names of fields, like json:at=ts,path=request.uri,status=status; "
            "common, combined and vhost_combined are recognised without it",
        )
        parser.add_argument("--prefix", default="", help="put before each path, like /blog.example")
        parser.add_argument(
            "--only", action="append", default=[], metavar="GLOB", help="only such paths; may be repeated"
        )
        parser.add_argument(
            "--skip", action="append", default=[], metavar="GLOB", help="no such paths; may be repeated"
        )
        parser.add_argument("--status", default="", help="only what was answered with these, like 200,304 or 2xx,3xx")
        parser.add_argument("--strict", action="store_true", help="stop at the first line that cannot be read")
        parser.add_argument(
            "--follow", action="store_true", help="go on with the last file while it is written, as tail -F"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # The thread that commits needs the interpreter seldom and briefly: it shall not wait 5 ms for it each time.
        sys.setswitchinterval(0.0005)
        stopped = Event()
        with _signals_setting(stopped):
            try:
                self._import(options, stopped)
            except (LogUnreadable, FormatUnknown, ImportFailed) as error:
                raise CommandError(str(error)) from None
            except Error as error:
                reason = " ".join(str(error).split()).rstrip(".")
                raise CommandError(f"The database cannot be used: {reason}. {_GOES_ON}") from error
        if stopped.is_set() and not options["follow"]:
            raise CommandError(f"The import was stopped. {_GOES_ON}", returncode=_INTERRUPTED)

    def _import(self, options: dict[str, Any], stopped: Event) -> None:
        names, follow = options["files"], options["follow"]
        progress = _Progress(_size_of(names, follow=follow))
        with (
            closing(progress),
            Importer(
                recognise=_recognise(options["format"]),
                origin_of=origins().of,
                # What is followed is read on the day of its hits; what is not, some of it later.
                salt=bulk.salt_of if follow else bulk.kept_salt_of,
                choice=_choice(options),
                strict=options["strict"],
                stopped=stopped,
                tell_misfit=progress.misfit,
                tell_progress=progress.read,
            ) as importer,
        ):
            for name in names[:-1] if follow else names:
                with closing(LogFile.open(name)) as file:
                    self._tell(file, importer.read(file), progress)
            if follow:
                self._follow(importer, LogFile.open(names[-1]), progress)

    def _follow(self, importer: Importer, file: LogFile, progress: "_Progress") -> None:
        summary = Summary()
        for current, new in importer.follow(file):
            file, summary = current, summary + new
        file.close()
        self._tell(file, summary, progress)

    def _tell(self, file: LogFile, summary: Summary, progress: "_Progress") -> None:
        progress.clear()
        self.stdout.write(f"{file.name}: {_figures(summary)}.")
        for misfit in progress.misfits:
            self.stdout.write(f"  line {misfit.line:,}: {misfit.reason} {_shown(misfit.text)}")
        if summary.misfits > len(progress.misfits):
            self.stdout.write(f"  and {summary.misfits - len(progress.misfits):,} more")
        if file.unfinished:
            self.stdout.write("  The last line has no end yet; it is read when it has one.")
        progress.misfits.clear()


class _Progress:
    """A bar on a terminal, and the first misfits of a log."""

    def __init__(self, size: int) -> None:
        self._bar = tqdm(total=size or None, unit="B", unit_scale=True, disable=None, leave=False)
        self._begun, self._lines, self._position = time.monotonic(), 0, 0
        self.misfits: list[Misfit] = []

    def misfit(self, file: LogFile, misfit: Misfit) -> None:
        if len(self.misfits) < MISFITS_SHOWN:
            self.misfits.append(misfit)

    def read(self, file: LogFile, lines: int) -> None:
        self._lines += lines
        self._bar.set_postfix_str(f"{self._lines / (time.monotonic() - self._begun):,.0f} lines/s", refresh=False)
        position = file.position
        self._bar.update(position - self._position if position > self._position else position)
        self._position = position

    def clear(self) -> None:
        """Make room for other output."""
        self._bar.clear()

    def close(self) -> None:
        self._bar.close()


def _size_of(names: list[str], *, follow: bool) -> int:
    """The bytes of all files. Raises LogUnreadable before the first is read if any cannot be."""
    if follow and names[-1] == STANDARD_INPUT:
        raise LogUnreadable("Standard input cannot be followed: give the file's name.")
    size = 0
    for name in names:
        if name != STANDARD_INPUT:
            with closing(LogFile.open(name)) as file:
                size += file.size
    return size


def _recognise(wanted: str | None) -> Callable[[bytes], LogFormat]:
    if wanted is None:
        return accesslog.recognised
    try:
        log_format = (
            accesslog.json_format(_fields(wanted.removeprefix(_JSON)))
            if wanted.startswith(_JSON)
            else accesslog.nginx_format(wanted)
        )
    except ValueError as error:
        raise CommandError(f"--format: {error}") from None
    return lambda _beginning: log_format


def _fields(text: str) -> dict[str, str]:
    """Our names of JSON fields and theirs, from `at=ts,path=request.uri`. Raises ValueError."""
    pairs = [pair.partition("=") for pair in text.split(",")]
    wrong = [name for name, equals, theirs in pairs if not (name and equals and theirs)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is not like path=request.uri.")
    return {name.strip(): theirs.strip() for name, _, theirs in pairs}


def _choice(options: dict[str, Any]) -> Choice:
    statuses = [status for status in options["status"].lower().split(",") if status]
    wrong = [status for status in statuses if not _STATUS.fullmatch(status)]
    if wrong:
        raise CommandError(f"--status: {wrong[0]!r} is neither a status like 404 nor a class like 4xx.")
    try:
        prefix = options["prefix"] and check_path(options["prefix"])
    except HitRefused as refusal:
        raise CommandError(f"--prefix: {refusal}") from None
    return Choice(prefix=prefix, only=options["only"], skip=options["skip"], statuses=statuses)


@contextmanager
def _signals_setting(stopped: Event) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end the work after the transaction under way; another Ctrl-C ends it at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _figures(summary: Summary) -> str:
    """What became of the new lines; of what there is none, there is no word."""
    figures = [
        _number(summary.lines, "new line"),
        _number(summary.hits, "hit"),
        f"{summary.left_out:,} left out" if summary.left_out else "",
        f"{summary.no_request:,} without a request" if summary.no_request else "",
        f"{summary.misfits:,} not read" if summary.misfits else "",
    ]
    return ", ".join(filter(None, figures)) if summary.lines else "0 new"


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _shown(text: bytes) -> str:
    """A line's beginning, in which no terminal finds a command."""
    return ascii(text[:_LONGEST_SHOWN].decode("latin-1")) + ("…" if len(text) > _LONGEST_SHOWN else "")
