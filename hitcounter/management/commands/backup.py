"""Back up: all that the database holds, in one file, while hits arrive."""

import sys
import time
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from hitcounter.backup import BackupError, Held, back_up, written_aside
from hitcounter.management.ending import end_on_signals


class Command(BaseCommand):
    help = (
        "Write all that the database holds at one moment to a file in pg_dump's custom format, while hits keep "
        "arriving. Visitors' salts and sessions are left out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="the file to write; - for standard output")
        parser.add_argument("--force", action="store_true", help="replace a file of this name")

    def handle(self, *args: Any, **options: Any) -> None:
        end_on_signals()
        begun = time.monotonic()
        try:
            if options["file"] == "-":
                held = back_up(sys.stdout.buffer)
                sys.stdout.buffer.flush()
            else:
                with written_aside(Path(options["file"]), force=options["force"]) as target:
                    held = back_up(target)
        except BackupError as error:
            raise CommandError(f"No backup was made: {error}") from error
        except OSError as error:
            raise CommandError(f"No backup was made: {options['file']}: {error.strerror}.") from error
        (self.stderr if options["file"] == "-" else self.stdout).write(
            _told(held, options["file"], time.monotonic() - begun), self.style.SUCCESS
        )


def _told(held: Held, file: str, seconds: float) -> str:
    size = "" if file == "-" else f" in {Path(file).stat().st_size:,} bytes"
    paths = f"{held.paths:,} path{'' if held.paths == 1 else 's'}"
    return f"Backed up {paths} with {held.hits:,} hit{'' if held.hits == 1 else 's'}{size}, {seconds:.1f} s."
