"""Make an API key from the shell, for scripts as well: the key alone is printed."""

from datetime import timedelta
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from counters.hits import now
from counters.models import ApiKey, Scope

MOST_DAYS = 36_500
LONGEST_NAME = 50


class Command(BaseCommand):
    help = "Make an API key and print it: this once, since only its hash is kept. The admin lists and revokes keys."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help=f"what the key is for, at most {LONGEST_NAME} characters")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            help=f"what it may do, one of {', '.join(Scope.values)}; may be given several times",
        )
        parser.add_argument("--days", help="how long it is valid; without it, until it is revoked")

    def handle(self, *args: Any, **options: Any) -> None:
        _, text = ApiKey.objects.create_key(
            name=_name(options["name"]), scopes=_scopes(options["scope"]), expiry_date=_end(options["days"])
        )
        self.stdout.write(text)


def _name(name: str) -> str:
    if not name.isprintable() or not 1 <= len(name) <= LONGEST_NAME:
        raise CommandError(f"A key needs a name, of at most {LONGEST_NAME} characters.")
    return name


def _scopes(asked: list[str]) -> list[str]:
    wrong = [scope for scope in asked if scope not in Scope.values]
    if wrong or not asked:
        which = f"There is no scope {wrong[0]!r}; give" if wrong else "Give"
        raise CommandError(f"{which} --scope {', '.join(Scope.values[:-1])} or {Scope.values[-1]}, once or more.")
    return list(dict.fromkeys(asked))


def _end(days: str | None) -> Any:
    if days is None:
        return None
    if not (days.isascii() and days.isdecimal() and len(days) <= len(str(MOST_DAYS)) and 1 <= int(days) <= MOST_DAYS):
        raise CommandError(f"--days {days!r} is not a whole number from 1 to {MOST_DAYS:,}.")
    return now() + timedelta(days=int(days))
