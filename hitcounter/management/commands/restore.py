"""Restore: put what a backup holds into the database, bring it up to date, and verify the books."""

import sys
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from django.db import connection

from counters import books, days
from counters.hits import now
from counters.models import Hit
from hitcounter.backup import BackupError, restore
from hitcounter.management.commands.serve import MIGRATION_LOCK, MIGRATION_UNLOCK
from hitcounter.management.ending import end_on_signals

#: For all that follows: a server or a role may have a limit that is meant for questions.
_NO_LIMIT = "SET statement_timeout = 0"


class Command(BaseCommand):
    help = (
        "Put what a backup holds into a database without counts, in one transaction; then migrate, and verify the "
        "books. Exit status 1 when it cannot be restored, and nothing was changed, or when the books do not balance."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="a file that backup wrote; - for standard input")
        parser.add_argument("--replace", action="store_true", help="replace what the database holds, for good")

    def handle(self, *args: Any, **options: Any) -> None:
        end_on_signals()
        try:
            if options["file"] == "-":
                restore(sys.stdin.buffer, replace=options["replace"])
            else:
                with open(Path(options["file"]), "rb") as source:
                    restore(source, replace=options["replace"])
        except BackupError as error:
            raise CommandError(f"Nothing was restored: {error}") from error
        except OSError as error:
            raise CommandError(f"Nothing was restored: {options['file']}: {error.strerror}.") from error
        self.stdout.write("Restored; verifying the books.")
        self.stdout.flush()
        _bring_up_to_date()
        self.verify()

    def verify(self) -> None:
        """Raises CommandError when the books do not balance."""
        begun = now()
        verdict = books.verify(lambda _: None)
        books.keep(verdict, begun)
        if not verdict.balance:
            raise CommandError(str(verdict))
        self.stdout.write(f"{verdict.checked:,} path{'' if verdict.checked == 1 else 's'} checked: the books balance.")


def _bring_up_to_date() -> None:
    with connection.cursor() as cursor:
        cursor.execute(_NO_LIMIT)
        cursor.execute(MIGRATION_LOCK)
        call_command("migrate", verbosity=0)
        cursor.execute(MIGRATION_UNLOCK)
        cursor.execute("ANALYZE")  # a backup has no statistics for the planner
    Hit.objects.make_days(*days.due(now().date()))
