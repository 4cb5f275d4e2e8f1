"""Check that the books balance: every path's counter = its hour buckets = its hit rows = its days rolled up."""

import sys
from typing import Any

from django.core.management import BaseCommand

from counters.books import Difference, RollupDifference, keep, verify
from counters.hits import now


class Command(BaseCommand):
    help = (
        "Compare every path's counter with the sums of its hour buckets, of its hit rows and of its days rolled up, "
        "and the figures rolled up of all paths with those of the paths, while hits keep arriving. "
        "Prints a line for each that differs; then the exit status is 1."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        begun = now()
        verdict = verify(lambda difference: self.stdout.write(_line(difference)))
        keep(verdict, begun)
        checked, differing, rollups = verdict
        paths = "1 path" if checked == 1 else f"{checked:,} paths"
        if not differing and not rollups:
            self.stdout.write(f"{paths} checked: the books balance.")
            return
        if differing:
            self.stdout.write(f"{differing:,} of {paths} {'differs' if differing == 1 else 'differ'}.")
        if rollups:
            self.stdout.write(
                f"Rolled up of all paths, {rollups:,} {'figure differs' if rollups == 1 else 'figures differ'}."
            )
        sys.exit(1)


def _line(difference: Difference | RollupDifference) -> str:
    if isinstance(difference, RollupDifference):
        day, figure, rolled_up, expected = difference
        return f"{day}, {figure}: {rolled_up:,} rolled up, {expected:,} in the days of the paths"
    name = difference.path if difference.path is not None else f"(no counter) {difference.id}"
    figures = (
        ("counter", difference.counter),
        ("hourly", difference.hourly),
        ("hit rows", difference.hit_rows),
        ("daily", difference.daily),
    )
    return f"{name}: " + ", ".join(f"{label} {'none' if n is None else f'{n:,}'}" for label, n in figures)
