"""Whether the books balance: a path's counter = the sum of its hour buckets = of its hit rows = of its days rolled up.

Each is summed up as far back as it is kept, with the days rolled up before that. What is rolled up of all paths is
compared with the paths' days.
"""

from collections.abc import Callable
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction

from counters.dimensions import ROLLED_UP
from counters.models import Verification
from counters.sql import load

#: So many verifications are kept.
MOST_KEPT = 100

_VERIFY = load("verify_books")
_VERIFY_ROLLUPS = load("verify_rollups")
_SIZE = load("books_size")
# Measured on a million paths with five million buckets: 14 s, and 29 s with PostgreSQL's default of 4 MB.
_ROOM = "SET LOCAL work_mem = '64MB'"
_ONE_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"


class Difference(NamedTuple):
    """A path whose figures differ; None is a figure that has no row. Without a counter, the path is not known."""

    id: UUID
    path: str | None
    counter: int | None
    hourly: int | None
    hit_rows: int | None
    daily: int | None


class RollupDifference(NamedTuple):
    """A figure of all paths, rolled up, that is not the sum of the paths' own."""

    day: date
    figure: str
    rolled_up: int
    expected: int


class Verdict(NamedTuple):
    """How many paths were checked, those without a counter too, how many of them differ, and how many rollups do."""

    checked: int
    differing: int
    rollups_differing: int

    @property
    def balance(self) -> bool:
        return not self.differing and not self.rollups_differing

    def __str__(self) -> str:
        """What there is to say where they do not balance."""
        return (
            f"The books do not balance: {self.differing:,} of {self.checked:,} paths differ, and "
            f"{self.rollups_differing:,} of the figures rolled up of all paths. `manage.py verifycounts` lists them."
        )


def verify(found: Callable[[Difference | RollupDifference], object]) -> Verdict:
    """Check every path in one snapshot, so that hits that arrive meanwhile do no harm; call `found` per difference."""
    checked = differing = 0
    outermost = not connection.in_atomic_block
    # A server-side cursor: if all of a million paths differ, they are still read some at a time.
    with transaction.atomic(), connection.chunked_cursor() as books, connection.cursor() as cursor:
        if outermost:
            cursor.execute(_ONE_SNAPSHOT)
        cursor.execute(_ROOM)
        books.execute(_VERIFY)
        for paths, *row in books:
            checked = paths
            if row[0] is not None:
                differing += 1
                found(Difference(*row))
        cursor.execute(_VERIFY_ROLLUPS, {"dimensions": ["", *ROLLED_UP]})
        rollups = [RollupDifference(*row) for row in cursor]
    for rollup in rollups:
        found(rollup)
    return Verdict(checked, differing, len(rollups))


def size() -> int:
    """How many bytes `verify` reads. Measured: 0.6 s for 96 MB of 100,000 paths, 12 s for 960 MB of a million."""
    with connection.cursor() as cursor:
        cursor.execute(_SIZE)
        return int(cursor.fetchone()[0])


def keep(verdict: Verdict, at: datetime) -> Verification:
    """Keep what `verify` found when it was called at this time (aware), and forget what is too long ago."""
    kept = Verification.objects.create(at=at, **verdict._asdict())
    newest = Verification.objects.order_by("-at").values("id")[:MOST_KEPT]
    Verification.objects.exclude(id__in=newest).delete()
    return kept


def last_verification() -> Verification | None:
    """What was found when all books were verified last."""
    return Verification.objects.order_by("-at").first()
