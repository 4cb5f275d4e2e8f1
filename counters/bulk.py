"""Many hits in one transaction, each with a time and an origin of its own: what log files and `POST /hits/` bring.

A `Load` gathers them as rows; `record` writes those with COPY, adds them up per path and hour in the database, and
commits. What belongs to the hits (an answer to remember, how far a file was read) is written in the same transaction.
Counters are locked in the order of their keys, after everything that takes long and before dimensions, as in
record_batch.sql: so nobody deadlocks, and live hits of these paths wait for a moment only.
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TypeVar

from django.db import DatabaseError, Error, InterfaceError, OperationalError, connection, transaction
from psycopg import errors

from counters.dimensions import Origin, visitor
from counters.hits import counter_ids, now
from counters.models import Hit, VisitorSalt
from counters.sql import load
from counters.sqlstates import lacks_partition, refuses_value

T = TypeVar("T")

#: Each takes a partition, and a lock on it.
MOST_DAYS = 366
#: The salts of days that are over are kept for so long after a load that brought hits of them: the rest of a log, which
#: is mostly rotated once a week at the latest, then finds the same visitors, and so does an import that was cut short.
SALTS_KEPT = timedelta(days=8)
ATTEMPTS = 5
_CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure)

_SESSION = load("bulk_session")
_TABLE = load("bulk_table")
_COPY = "COPY bulk_hits FROM STDIN"
_NULL = r"\N"  # in COPY's text format
_HITS = load("bulk_hits")
_COUNTERS = load("bulk_counters")
_HOURS = load("bulk_hours")
_NEW_SETS = load("bulk_new_sets")
_SETS = load("bulk_sets")


class InTheWay(OperationalError):
    """Other transactions were in the way each time; nothing was counted."""


class InDoubt(OperationalError):
    """The connection to the database broke during the commit: nobody can tell whether the hits were counted."""


class Load:
    """Hits to be counted together. What is worked out for a time, a path or an origin is worked out once.

    `salt` gives the salt of a UTC day's visitors.
    """

    def __init__(self, salt: Callable[[date], bytes]) -> None:
        self._salt = cache(salt)
        self._rows: list[str] = []
        self._times: dict[datetime, tuple[str, date]] = {}
        self._ids: dict[str, str] = {}
        self._origins: dict[tuple[date, Origin], str] = {}
        self.hits = 0
        self.days: set[date] = set()

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def count(self, at: datetime, path: str, origin: Origin, hits: int = 1) -> None:
        """Add `hits` like hits of a path, at a time (aware), both of which have been checked."""
        text, day = self._times.get(at) or self._learn_time(at)
        known = self._origins.get((day, origin)) or self._learn_origin(day, origin)
        self._rows.append(f"{text}\t{self._ids.get(path) or self._learn_path(path)}\t{hits}\t{known}\n")
        self.hits += hits

    def _learn_time(self, at: datetime) -> tuple[str, date]:
        utc = at.astimezone(UTC)
        time = self._times[at] = utc.isoformat(), utc.date()
        self.days.add(utc.date())
        return time

    def _learn_path(self, path: str) -> str:
        [id] = counter_ids([path])
        self._ids[path] = id
        return id

    def _learn_origin(self, day: date, origin: Origin) -> str:
        number = _NULL if origin.identity is None else visitor(origin, self._salt(day))
        known = self._origins[day, origin] = f"{origin.id}\t{number}"
        return known

    def write(self) -> None:
        """Write all of it in the transaction under way."""
        if not self._rows:
            return
        seen = max(now().date(), *self.days)
        with connection.cursor() as cursor:
            cursor.execute(_SESSION)
            cursor.execute(_TABLE)
            # Of what a cursor does, Django's own does not know this, nor what it raises.
            with connection.wrap_database_errors, cursor.copy(_COPY) as copy:
                copy.write("".join(self._rows))
            cursor.execute(_HITS)
            cursor.execute(_COUNTERS, {"ids": "\n".join(self._ids.values()), "paths": "\n".join(self._ids)})
            cursor.execute(_HOURS)
            sets = {origin.id: origin.dimensions for _, origin in self._origins}
            cursor.execute(_NEW_SETS, {"ids": " ".join(map(str, sets)), "seen": seen})
            new = [{"id": id, **sets[id]._asdict()} for [id] in cursor.fetchall()]
            if new:
                cursor.execute(_SETS, {"sets": json.dumps(new), "seen": seen})


def record(load: Load, first: Callable[[], T]) -> T:
    """Commit a load together with what `first` writes, and return what it returns.

    What `first` raises undoes all, and is raised. Other transactions may be in the way, or maintenance may have
    dropped the partition of a day long past: then both are done again. Raises django.db.Error, of which InTheWay
    and InDoubt are two.
    """
    for _ in range(ATTEMPTS):
        written = False
        try:
            Hit.objects.make_days(*sorted(load.days))
            with transaction.atomic():
                result = first()
                load.write()
                written = True
        except Error as error:
            if _is_conflict(error.__cause__):
                conflict = error
            elif written and _leaves_doubt(error):
                raise InDoubt(InDoubt.__doc__) from error
            else:
                raise
        else:
            return result
    raise InTheWay(InTheWay.__doc__) from conflict


def _is_conflict(cause: BaseException | None) -> bool:
    return lacks_partition(cause) or isinstance(cause, _CONFLICTS)


def _leaves_doubt(error: Error) -> bool:
    """Whether a commit may have been made though it raised this."""
    return isinstance(error, OperationalError | InterfaceError) and not refuses_value(error.__cause__)


def is_refused(load: Load) -> bool:
    """Whether the database refuses a value of this load. It is written, and undone. Raises django.db.Error."""
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic():
                load.write()
                with connection.cursor() as cursor:
                    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                transaction.set_rollback(True)
        except DatabaseError as error:
            if refuses_value(error.__cause__):
                return True
            if not _is_conflict(error.__cause__):
                raise
            conflict = error
        else:
            return False
    raise InTheWay(InTheWay.__doc__) from conflict


def salt_of(day: date) -> bytes:
    """The salt of a day's visitors, as live hits have it; that of a day that is over is kept for SALTS_KEPT."""
    today = now().date()
    return VisitorSalt.objects.salt(day, until=None if day >= today else today + SALTS_KEPT)


def kept_salt_of(day: date) -> bytes:
    """The salt of a day's visitors, which is kept for SALTS_KEPT from now even if the day is not over."""
    return VisitorSalt.objects.salt(day, until=now().date() + SALTS_KEPT)
