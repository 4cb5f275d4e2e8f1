"""Import access logs: what is new in them, each line once."""

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import Error
from tqdm import tqdm

from counters import accesslog, bulk
from counters.accesslog import FormatUnknown, LogFormat
from counters.clients import origins
from counters.hits import HitRefused, check_path
from counters.importing import Choice, Importer, ImportFailed, Misfit, Stopped, Summary
from counters.logfiles import STANDARD_INPUT, LogFile, LogUnreadable
from counters.sentences import reason_of

MISFITS_SHOWN = 10
_LONGEST_SHOWN = 120
_JSON = "json:"
_AGAIN = "To have them looked at again, delete the log among the imported logs in the admin."
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
        names, follow = options["files"], options["follow"]
        if follow and names[-1] == STANDARD_INPUT:
            raise CommandError("Standard input cannot be followed: give the file's name.")
        with _interrupted_by_sigterm():
            try:
                failures = self._import(names, follow, options)
            except Stopped as stopped:
                raise CommandError(f"{stopped} Imported before it: {_figures(stopped.summary)}.") from None
            except ImportFailed as error:
                raise CommandError(str(error)) from None
            except Error as error:
                raise CommandError(f"The database cannot be used: {reason_of(error)}. {_GOES_ON}") from error
            except KeyboardInterrupt:
                raise CommandError(f"The import was stopped. {_GOES_ON}", returncode=_INTERRUPTED) from None
        if failures:
            raise CommandError(failures[0] if len(names) == 1 else f"{len(failures)} of {len(names)} files failed.")

    def _import(self, names: list[str], follow: bool, options: dict[str, Any]) -> list[str]:
        """Import all files, and return what is wrong with those that could not be, or not to their end."""
        progress, failures = _Progress(sum(map(_size_of, names))), []
        with closing(progress), self._importer(options, progress) as importer:
            for name in names[:-1] if follow else names:
                try:
                    with closing(LogFile.open(name)) as file:
                        self._say(file.name, importer.read(file), progress, unfinished=file.unfinished)
                except (LogUnreadable, FormatUnknown) as error:
                    failures.append(str(error))
                    if len(names) > 1:
                        progress.clear()
                        self.stderr.write(str(error))
            if follow:
                self._follow(importer, names[-1], progress)
        return [] if follow else failures

    def _importer(self, options: dict[str, Any], progress: "_Progress") -> Importer:
        def tell(message: str) -> None:
            progress.clear()
            self.stderr.write(message)

        def tell_misfit(file: LogFile, misfit: Misfit) -> None:
            tell(f"{file.name}, {_misfit(misfit)}")

        follow = options["follow"]
        return Importer(
            recognise=_recognise(options["format"]),
            origin_of=origins().of,
            # What is followed is read on the day of its hits; what is not, some of it later.
            salt=bulk.salt_of if follow else bulk.kept_salt_of,
            choice=_choice(options),
            strict=options["strict"],
            tell_misfit=tell_misfit if follow else progress.misfit,
            tell_progress=progress.read,
            tell=tell,
        )

    def _follow(self, importer: Importer, name: str, progress: "_Progress") -> None:
        """Until Ctrl-C or SIGTERM, which is how this ends."""
        summary = Summary()
        try:
            with suppress(KeyboardInterrupt):
                for _, new in importer.follow(name):
                    summary += new
        except Stopped as stopped:
            stopped.summary += summary
            raise
        self._say(name, summary, progress)

    def _say(self, name: str, summary: Summary, progress: "_Progress", *, unfinished: bool = False) -> None:
        progress.clear()
        self.stdout.write(f"{name}: {_figures(summary)}.")
        for misfit in progress.misfits:
            self.stdout.write(f"  {_misfit(misfit)}")
        if progress.misfits and summary.misfits > len(progress.misfits):
            self.stdout.write(f"  and {summary.misfits - len(progress.misfits):,} more")
        if summary.left_out and not summary.hits:
            self.stdout.write(f"  No line was chosen. {_AGAIN}")
        if unfinished:
            self.stdout.write("  The last line has no end; it is read when it has one.")
        progress.misfits.clear()


class _Progress:
    """A bar on a terminal, and the first misfits of a log."""

    def __init__(self, size: int) -> None:
        self._bar = tqdm(total=size or None, unit="B", unit_scale=True, disable=None, leave=False)
        self._begun, self._lines = time.monotonic(), 0
        self._file: LogFile | None = None
        self._position = 0
        self.misfits: list[Misfit] = []

    def misfit(self, file: LogFile, misfit: Misfit) -> None:
        if len(self.misfits) < MISFITS_SHOWN:
            self.misfits.append(misfit)

    def read(self, file: LogFile, lines: int) -> None:
        self._lines += lines
        self._bar.set_postfix_str(f"{self._lines / (time.monotonic() - self._begun):,.0f} lines/s", refresh=False)
        if file is not self._file:
            self._file, self._position = file, 0
        self._bar.update(file.position - self._position)
        self._position = file.position

    def clear(self) -> None:
        """Make room for other output."""
        self._bar.clear()

    def close(self) -> None:
        self._bar.close()


def _size_of(name: str) -> int:
    """The bytes of a file, as far as they can be told without opening it: a pipe is opened once."""
    with suppress(OSError):
        return Path(name).stat().st_size
    return 0


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
    if prefix.endswith("/"):
        raise CommandError(f"--prefix: {prefix!r} ends with a slash, and paths begin with one.")
    # What matches nothing would leave all of a log out, for good.
    never = [glob for glob in [*options["only"], *options["skip"]] if not glob.startswith(("/", "*", "?", "["))]
    if never:
        raise CommandError(f"{never[0]!r} matches no path: paths begin with a slash.")
    return Choice(prefix=prefix, only=options["only"], skip=options["skip"], statuses=statuses)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end the work as Ctrl-C does: at once, but for a transaction that is being committed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _figures(summary: Summary) -> str:
    """What became of the new lines; of what there is none, there is no word."""
    figures = [
        _number(summary.lines, "new line"),
        _number(summary.hits, "hit"),
        f"{summary.left_out:,} left out" if summary.left_out else "",
        f"{summary.no_request:,} without a request" if summary.no_request else "",
        f"{summary.misfits:,} not read" if summary.misfits else "",
    ]
    if summary.copy_of:
        return f"0 new; it is taken for an earlier copy of {summary.copy_of}"
    return ", ".join(filter(None, figures)) if summary.lines else "0 new"


def _misfit(misfit: Misfit) -> str:
    return f"line {misfit.line:,}: {misfit.reason} {_shown(misfit.text)}"


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _shown(text: bytes) -> str:
    """A line's beginning, in which no terminal finds a command."""
    return ascii(text[:_LONGEST_SHOWN].decode("latin-1")) + ("…" if len(text) > _LONGEST_SHOWN else "")
