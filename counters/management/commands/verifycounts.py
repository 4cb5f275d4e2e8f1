"""Check that the books balance: every path's counter = its hour buckets = its hit rows."""

import sys
from typing import Any

from django.core.management import BaseCommand

from counters.books import Difference, verify


class Command(BaseCommand):
    help = (
        "Compare every path's counter with the sum of its hour buckets and of its hit rows, while hits keep arriving. "
        "Prints a line for each path that differs; then the exit status is 1."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        checked, differing = verify(lambda difference: self.stdout.write(_line(difference)))
        paths = "1 path" if checked == 1 else f"{checked:,} paths"
        if not differing:
            self.stdout.write(f"{paths} checked: the books balance.")
            return
        self.stdout.write(f"{differing:,} of {paths} {'differs' if differing == 1 else 'differ'}.")
        sys.exit(1)


def _line(difference: Difference) -> str:
    name = difference.path if difference.path is not None else f"(no counter) {difference.id}"
    figures = (("counter", difference.counter), ("hourly", difference.hourly), ("hit rows", difference.hit_rows))
    return f"{name}: " + ", ".join(f"{label} {'none' if n is None else f'{n:,}'}" for label, n in figures)
