"""Reset counters from the shell: one path, all below a prefix, or all."""

from collections.abc import Iterable
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db.models import Count, QuerySet, Sum

from counters.hits import HitRefused, check_path, counter_id
from counters.management.asking import confirm
from counters.models import Counter, path_begins_with
from counters.reset import Gone, ResetBusy, reset, reset_all


class Command(BaseCommand):
    help = "Remove the hits and the history of counters, while new hits keep arriving and stay."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--path", help="the counter of exactly this path, as it was requested: /api/hello/")
        which.add_argument(
            "--prefix", help="all counters whose path begins with this: /api/shop/; asks before it begins"
        )
        which.add_argument("--all", action="store_true", help="all counters; asks before it begins")
        parser.add_argument("--yes", action="store_true", help="do not ask, for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["path"] is None and not options["yes"]:
            _confirm(options)
        counters = hits = 0
        try:
            for gone in _resets(options):
                counters += len(gone)
                hits += sum(counter.hits for counter in gone)
        except ResetBusy as busy:
            raise CommandError(f"{busy} {_summary(counters, hits)}") from busy
        if not counters and not options["all"]:
            raise CommandError(_nothing(options))
        self.stdout.write(_summary(counters, hits))


def _confirm(options: dict[str, Any]) -> None:
    """Raises CommandError unless there is something to remove and somebody types yes."""
    held = _several(options).aggregate(counters=Count("id"), hits=Sum("hits", default=0))
    if not held["counters"] and not options["all"]:
        raise CommandError(_nothing(options))
    confirm(f"{_figures(**held)} are to be removed", "Nothing was reset")


def _resets(options: dict[str, Any]) -> Iterable[list[Gone]]:
    if options["path"] is not None:
        return [reset([counter_id(_checked("--path", options["path"]))])]
    return reset_all(_several(options))


def _several(options: dict[str, Any]) -> QuerySet[Counter]:
    if options["all"]:
        return Counter.objects.all()
    return Counter.objects.filter(path_begins_with(_checked("--prefix", options["prefix"])))


def _checked(option: str, path: str) -> str:
    try:
        return check_path(path)
    except HitRefused as refusal:
        raise CommandError(f"{option} {path!r} is no counted path: {refusal}") from refusal


def _nothing(options: dict[str, Any]) -> str:
    if options["prefix"] is not None:
        return f"There is no counter whose path begins with {options['prefix']}"
    return f"There is no counter of {options['path']}"


def _figures(counters: int, hits: int) -> str:
    return f"{counters:,} counter{'' if counters == 1 else 's'} with {hits:,} hit{'' if hits == 1 else 's'}"


def _summary(counters: int, hits: int) -> str:
    return f"Reset {_figures(counters, hits)}."
