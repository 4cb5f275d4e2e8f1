"""Forget for good: a path, all below a prefix, a consumer, what was before a day."""

import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db.models import QuerySet

from counters import days
from counters.forget import (
    WAIT_SECONDS,
    Gone,
    NotRolledUp,
    forget_before,
    forget_consumer,
    forget_leftovers,
    forget_paths,
    knows_consumer,
)
from counters.hits import HitRefused, check_path, counter_id, now
from counters.management.asking import confirm
from counters.models import Counter, path_begins_with


class NothingThere(Exception):
    """There is nothing to forget, perhaps since one that was cut short has got so far."""


class Command(BaseCommand):
    help = (
        "Delete hits for good, with all that was rolled up of them, and counters that have none left, while new hits "
        "keep arriving and stay. Asks before it begins. Cut short and done again, it comes to the same."
    )

    waits = False

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--path", help="exactly this path, as it was requested: /api/hello/")
        which.add_argument("--prefix", help="all paths that begin with this: /api/shop/")
        which.add_argument("--consumer", help="the hits and the name of this consumer")
        parser.add_argument("--before", type=_day, help="only what was before this UTC day: 2026-01-31")
        parser.add_argument("--yes", action="store_true", help="do not ask, for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        before = options["before"]
        try:
            what, forget = self.chosen(options)
        except NothingThere as nothing:
            forget_leftovers(self.wait)
            raise CommandError(str(nothing)) from None
        if before and before > now().date():
            raise CommandError(f"--before {before} is in the future: what there is was all before it.")
        if not options["yes"]:
            confirm(f"{what} are to be forgotten", "Nothing was forgotten")
        counters = hits = 0
        try:
            for gone in forget(before, self.wait):
                counters += gone.counters
                hits += gone.hits
        except NotRolledUp as stopped:
            raise CommandError(f"{stopped} {_summary(counters, hits)}") from stopped
        self.stdout.write(_summary(counters, hits))

    def chosen(self, options: dict[str, Any]) -> tuple[str, Callable[..., Iterator[Gone]]]:
        """What goes, in words, and what does it. Raises NothingThere, and CommandError for no choice."""
        before, consumer = options["before"], options["consumer"]
        when = f" before {before}" if before else ""
        if consumer is not None:
            if not consumer or not knows_consumer(consumer):
                raise NothingThere(f"There is no consumer {consumer!r}.")
            return f"The hits of the consumer {consumer}{when}", lambda *rest: forget_consumer(consumer, *rest)
        if options["path"] is not None or options["prefix"] is not None:
            counters = _counters(options)
            return f"{_told(counters, before)}{when}", lambda *rest: forget_paths(counters, *rest)
        if before is None:
            raise CommandError("Say what to forget: --path, --prefix, --consumer or --before.")
        return f"All hits{when}", forget_before

    def wait(self) -> None:
        """Called again and again while maintenance or an import runs."""
        if not self.waits:
            self.waits = True
            self.stderr.write("Waiting for maintenance, or an import, to end.")
            self.stderr.flush()
        time.sleep(WAIT_SECONDS)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day like 2026-01-31.") from None


def _counters(options: dict[str, Any]) -> QuerySet[Counter]:
    """Raises NothingThere when there are none."""
    if options["path"] is not None:
        counters = Counter.objects.filter(id=counter_id(_checked("--path", options["path"])))
        nothing = f"There is no counter of {options['path']}"
    else:
        counters = Counter.objects.filter(path_begins_with(_checked("--prefix", options["prefix"])))
        nothing = f"There is no counter whose path begins with {options['prefix']}"
    if not counters.exists():
        raise NothingThere(nothing)
    if options["before"] and not counters.filter(first_hit__lt=days.midnight(options["before"])).exists():
        raise NothingThere(f"There are no hits of it before {options['before']}.")
    return counters


def _told(counters: QuerySet[Counter], before: date | None) -> str:
    if before:
        counters = counters.filter(first_hit__lt=days.midnight(before))
    number = counters.count()
    return f"The hits of {_number(number, 'counter')}"


def _checked(option: str, path: str) -> str:
    try:
        return check_path(path)
    except HitRefused as refusal:
        raise CommandError(f"{option} {path!r} is no counted path: {refusal}") from refusal


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _summary(counters: int, hits: int) -> str:
    forgot = f"Forgot {_number(hits, 'hit')}"
    if not counters:
        return f"{forgot}."
    return f"{forgot}; {_number(counters, 'counter')} had none left and {'is' if counters == 1 else 'are'} gone."
