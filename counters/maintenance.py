"""Housekeeping: day partitions ahead, days that are over rolled up, and what need not be kept longer dropped.

Every step is a transaction of its own that replaces what was there: whatever is interrupted, or done twice, leaves the
same rows. One runs at a time (an advisory lock), and hits keep arriving meanwhile.
"""

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Max
from psycopg import errors, sql

from counters import books, days
from counters.dimensions import ROLLED_UP
from counters.models import (
    BatchLedger,
    DailyHits,
    DailyPaths,
    DimensionSet,
    Hit,
    HourlyHits,
    IdempotencyKey,
    LateDay,
    Retention,
    RolledDay,
    Rollup,
    VisitorSalt,
)
from counters.sentences import sentence_of
from counters.sql import load

logger = logging.getLogger(__name__)

#: A day is closed a little after its end, when the batches that were under way at midnight have been committed. One
#: that comes later still is noted (see counters_note_late in the migrations), and the day rolled up again.
GRACE = timedelta(minutes=5)
#: No writer is in doubt about a batch for so long.
LEDGER_KEPT = timedelta(days=7)
#: Nor is a client that sends a batch of hits again, which may have been cut off from the service for some days.
KEYS_KEPT = timedelta(days=7)
#: Books of more bytes are not verified by the way, since it takes longer than three seconds: by `verifycounts` alone.
MOST_BYTES_VERIFIED = 2**28
#: Of how many hit rows the paths are rolled up in one statement. Measured on a day of 333,000: twice as quick as all.
ROWS_AT_ONCE = 50_000

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('counters maintenance', 0))"
# A role's own limits are made for questions, not for a day's work.
_NO_LIMIT = "SET statement_timeout = 0"
_LIMIT_AGAIN = "RESET statement_timeout"
_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('counters maintenance', 0))"
#: How long hits may be held up for a lock that a long statement does not give; the step is then left to the next time.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"
_SHORT_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '50ms'"
IN_THE_WAY = (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected)
_ONE_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
_ROOM = "SET LOCAL work_mem = '256MB'; SET LOCAL jit = off"
_PARTITIONS = load("partitions")
_CLOSE_DAY = sql.SQL(load("close_day"))
_INDEX_DAY = sql.SQL("CREATE INDEX IF NOT EXISTS {index} ON {partition} (counter_id)")
_ROLL_SETS = sql.SQL(load("roll_sets"))
_ROLL_DIMENSIONS = sql.SQL(load("roll_dimensions"))
_ROLL_PATHS = sql.SQL(load("roll_paths"))
_CHAIN_PATHS = load("chain_paths")


class MaintenanceBusy(Exception):
    """Maintenance, or an import, is running already."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Failed(str):
    """A sentence about a step that could not be done, and is tried again the next time; the others are not held up."""

    __slots__ = ()


class PutOff(str):
    """A sentence about a step that others were in the way of; it is done the next time."""

    __slots__ = ()


def maintain(now: datetime, *, keep_hits_days: int, keep_hours_days: int) -> Iterator[str]:
    """Do all that is due at `now` (aware); tell each thing done, Failed or PutOff in a sentence.

    Raises MaintenanceBusy.
    """
    today = now.astimezone(UTC).date()
    with _alone():
        # First of all: nothing that may fail shall keep visitors recognisable.
        VisitorSalt.objects.forget(before=(now - GRACE).astimezone(UTC).date())
        VisitorSalt.objects.make(*days.due(today))
        Hit.objects.make_days(*days.due(today))
        yield from _add_late_hits()
        yield from _roll_up(before=(now - GRACE).astimezone(UTC).date())
        yield from _chain_paths()
        yield from _drop_hits(before=today - timedelta(days=keep_hits_days))
        yield from _drop_hours(before=today - timedelta(days=keep_hours_days))
        _prune(now)
        yield from _verify_daily(now)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of maintenance, on this session. Raises MaintenanceBusy."""
    if not _locked():
        raise MaintenanceBusy
    with _holding_the_lock():
        yield


@contextmanager
def kept_out(wait: Callable[[], object]) -> Iterator[None]:
    """Keep maintenance from running meanwhile, so that a day is rolled up when all of it is there.

    Whoever brings hits of days that are over holds this; so only one does at a time. While it is held by another,
    `wait` is called again and again.
    """
    while not _locked():
        wait()
    with _holding_the_lock():
        yield


def _locked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)
        return bool(cursor.fetchone()[0])


@contextmanager
def _holding_the_lock() -> Iterator[None]:
    try:
        with connection.cursor() as cursor:
            cursor.execute(_NO_LIMIT)
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(_LIMIT_AGAIN)
            cursor.execute(_UNLOCK)


def roll_up_changed(now: datetime) -> Iterator[str]:
    """Roll up anew, at `now`, the days whose hits have changed; for who holds `kept_out`."""
    yield from _roll_up(before=(now - GRACE).astimezone(UTC).date())
    yield from _chain_paths()


def forget_day(day: date) -> None:
    """Delete all that is rolled up of a day; for who holds `kept_out`."""
    with transaction.atomic():
        DailyHits.objects.filter(day=day).delete()
        _delete_rollups(day)
        DailyPaths.objects.filter(day=day).delete()
        LateDay.objects.filter(day=day).delete()
        RolledDay.objects.filter(day=day).delete()
        unchain(day)


def partitions() -> dict[date, bool]:
    """The UTC days that have a partition, and whether they are closed."""
    with connection.cursor() as cursor:
        cursor.execute(_PARTITIONS)
        return dict(cursor.fetchall())


def kept_since(what: Retention.What) -> date:
    """The first UTC day of which this is kept."""
    return Retention.objects.filter(what=what).values_list("since", flat=True).first() or date.min


def _roll_up(before: date) -> Iterator[str]:
    """Roll up the days that are over and have not been, or whose hits have changed since."""
    rolled, since = _up_to_date(), kept_since(Retention.What.HITS)
    for day, closed in partitions().items():
        if since <= day < before and day not in rolled and (closed or (yield from _attempt(_close, day))):
            yield from _attempt(_roll, day, f"Rolled up {day}.")


def _close(day: date) -> None:
    with transaction.atomic():
        _execute(_LOCK_TIMEOUT)
        _execute(_CLOSE_DAY.format(partition=days.partition(day), day=sql.Literal(str(day))))


def _roll(day: date) -> None:
    """Replace all that was rolled up of a closed day by what its hit rows say."""
    name = days.partition(day)
    with transaction.atomic():
        _execute(_LOCK_TIMEOUT)
        _execute(_INDEX_DAY.format(index=sql.Identifier(f"hit_counter_{day:%Y%m%d}"), partition=name))
    with transaction.atomic():
        _execute(_ONE_SNAPSHOT)
        # Each transaction that changes hits of this day leaves a note of its own: the notes that this snapshot sees are
        # of changes that it sees too.
        LateDay.objects.filter(day=day).delete()
        DailyHits.objects.filter(day=day).delete()
        _delete_rollups(day)
        _add(day, part=0)
        unchain(day)
        RolledDay.objects.update_or_create(day=day, defaults={"rolled": datetime.now(UTC), "chained": False})
    _execute(sql.SQL("VACUUM (ANALYZE) {}").format(name))


def _delete_rollups(day: date) -> None:
    Rollup.objects.filter(dimension__in=("", *ROLLED_UP), grain__in=Rollup.Grain, **_within(day)).delete()


def _within(day: date) -> dict[str, datetime]:
    return {"start__gte": days.midnight(day), "start__lt": days.midnight(day + days.ONE_DAY)}


def _add(day: date, part: int) -> None:
    """Add the hit rows of a day to what is rolled up of it."""
    places = {
        "day": sql.Literal(day),
        "part": sql.Literal(part),
        "start": sql.Literal(days.midnight(day)),
        "end": sql.Literal(days.midnight(day + days.ONE_DAY)),
        "columns": _joined(", ", "{0}"),
        "columns_of_d": _joined(", ", "coalesce(d.{0}::text, '') AS {0}"),
        "dimension": sql.SQL("CASE {} ELSE '' END").format(_joined(" ", "WHEN grouping({0}) = 0 THEN {1}")),
    }
    _execute(_ROOM)
    _execute(_ROLL_SETS.format(**places))
    _execute("ANALYZE rolled_sets")
    _execute(_ROLL_DIMENSIONS.format(**places))
    for asked in _shares(Hit.objects.filter(**_at(day)).count()):
        _execute(_ROLL_PATHS.format(**places, asked=asked))


def _shares(rows: int) -> Iterator[sql.Composable]:
    """Conditions on the counter's key that divide so many hit rows into equal shares: keys are hashes."""
    shares = rows // ROWS_AT_ONCE + 1
    for share in range(shares):
        first, end = (2**128 * n // shares for n in (share, share + 1))
        yield sql.SQL("h.counter_id BETWEEN {} AND {}").format(UUID(int=first), UUID(int=end - 1))


def _joined(between: str, template: str) -> sql.Composable:
    """The template with the column (0) and the name (1) of each dimension that is rolled up."""
    return sql.SQL(between).join([sql.SQL(template).format(sql.Identifier(name), name) for name in ROLLED_UP])


def unchain(day: date) -> None:
    """The paths of this day, and of those after it that may look back to it, are to be counted anew."""
    RolledDay.objects.filter(day__gte=day, chained=True).update(chained=False)


def _chain_paths() -> Iterator[str]:
    for day in list(RolledDay.objects.filter(chained=False).order_by("day").values_list("day", flat=True)):
        yield from _attempt(_chain, day, f"Counted the paths of {day}.")


def _chain(day: date) -> None:
    with transaction.atomic():
        _execute(_ONE_SNAPSHOT)
        DailyPaths.objects.filter(day=day).delete()
        _execute(_CHAIN_PATHS, {"day": day})
        RolledDay.objects.filter(day=day).update(chained=True)


def _add_late_hits() -> Iterator[str]:
    """Add the hits that arrived for days whose hit rows have been dropped, and drop theirs."""
    since = kept_since(Retention.What.HITS)
    for day in [day for day in partitions() if day < since]:
        if Hit.objects.filter(**_at(day)).exists():
            yield from _attempt(_add_late_hits_of, day, f"Added late hits of {day}.")
        yield from _attempt(drop_if_empty, day)


def _at(day: date) -> dict[str, datetime]:
    return {"at__gte": days.midnight(day), "at__lt": days.midnight(day + days.ONE_DAY)}


def _add_late_hits_of(day: date) -> None:
    with transaction.atomic():
        _execute(_LOCK_TIMEOUT)
        # Nobody writes to this day while its rows are added and deleted; other days are written to as ever.
        _execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(days.partition(day)))
        _add(day, part=1 + (DailyHits.objects.filter(day=day).aggregate(last=Max("part"))["last"] or 0))
        Hit.objects.filter(**_at(day)).delete()
        if day < kept_since(Retention.What.HOURS):
            _delete_hours(day)
        RolledDay.objects.update_or_create(day=day, defaults={"rolled": datetime.now(UTC)})
        unchain(day)


def drop_if_empty(day: date) -> None:
    """Drop a day's partition if there is nothing in it. Raises DatabaseError when others are in the way."""
    with transaction.atomic():
        _lock_hits()
        if not Hit.objects.filter(**_at(day)).exists():
            _drop_partition(day)


def _drop_hits(before: date) -> Iterator[str]:
    """Drop the hit rows of days that need not be kept and have been rolled up, the oldest first."""
    rolled = _up_to_date()
    for day in [day for day in partitions() if kept_since(Retention.What.HITS) <= day < before]:
        if day not in rolled or not (yield from _attempt(_drop_hits_of, day)) or kept_since(Retention.What.HITS) <= day:
            return
        yield f"Dropped the hit rows of {day}."


def _drop_hits_of(day: date) -> None:
    with transaction.atomic():
        _lock_hits()
        if LateDay.objects.filter(day=day).exists():  # since it was looked at; it is rolled up again first
            return
        _drop_partition(day)
        _keep(Retention.What.HITS, day + days.ONE_DAY)


def _drop_hours(before: date) -> Iterator[str]:
    """Drop the hourly figures of days that need not be kept and have been rolled up, the oldest first."""
    before = min(before, kept_since(Retention.What.HITS))
    for day in [day for day in sorted(_up_to_date()) if kept_since(Retention.What.HOURS) <= day < before]:
        if not (yield from _attempt(_drop_hours_of, day, f"Dropped the hourly figures of {day}.")):
            return


def _drop_hours_of(day: date) -> None:
    with transaction.atomic():
        _delete_hours(day)
        _keep(Retention.What.HOURS, day + days.ONE_DAY)


def _delete_hours(day: date) -> None:
    HourlyHits.objects.filter(hour__gte=days.midnight(day), hour__lt=days.midnight(day + days.ONE_DAY)).delete()
    Rollup.objects.filter(dimension__in=("", *ROLLED_UP), grain=Rollup.Grain.HOUR, **_within(day)).delete()


def _up_to_date() -> set[date]:
    """The days whose figures are rolled up and right."""
    return set(RolledDay.objects.values_list("day", flat=True)) - set(LateDay.objects.values_list("day", flat=True))


def _lock_hits() -> None:
    """Wait, not long, until nobody reads or writes hits: neither may find that a day has gone meanwhile.

    All hits wait behind this, so for less time than anybody would notice.
    """
    _execute(_SHORT_LOCK_TIMEOUT)
    _execute("LOCK TABLE counters_hit IN ACCESS EXCLUSIVE MODE")


def _drop_partition(day: date) -> None:
    _execute(sql.SQL("DROP TABLE {}").format(days.partition(day)))


def _keep(what: Retention.What, since: date) -> None:
    Retention.objects.update_or_create(what=what, defaults={"since": since})


def _prune(now: datetime) -> None:
    """Delete what nobody will ask about: combinations without hits, old batches and answers, sessions, wrong logins."""
    # One is in use on the day of its last hit, or later; of today's and yesterday's there may be hits under way.
    yesterday = now.astimezone(UTC).date() - days.ONE_DAY
    DimensionSet.objects.filter(seen__lt=min([yesterday, *partitions()])).delete()
    BatchLedger.objects.filter(at__lt=now - LEDGER_KEPT).delete()
    IdempotencyKey.objects.filter(at__lt=now - KEYS_KEPT).delete()
    if apps.is_installed("django.contrib.sessions"):
        apps.get_model("sessions", "Session")._default_manager.filter(expire_date__lt=now).delete()
    if apps.is_installed("axes"):  # another project may have this app without it
        attempts = apps.get_model("axes", "AccessAttempt")._default_manager
        attempts.filter(attempt_time__lt=now - settings.AXES_COOLOFF_TIME).delete()


def _verify_daily(now: datetime) -> Iterator[str]:
    """Verify the books once a day that has been closed, after it was rolled up, where that does not take long.

    That is up to MOST_BYTES_VERIFIED, some 250,000 paths with five hits each; beyond, only `manage.py verifycounts`
    does it. What differs is a warning in the log.
    """
    closed = days.midnight((now - GRACE).astimezone(UTC).date()) + GRACE
    last = books.last_verification()
    if (last and last.at >= closed) or books.size() > MOST_BYTES_VERIFIED:
        return
    yield from _attempt(lambda _: _verify(now), now.astimezone(UTC).date())


def _verify(now: datetime) -> None:
    verdict = books.verify(lambda _: None)
    books.keep(verdict, now)
    if not verdict.balance:
        logger.warning("%s", verdict)


def _attempt(step: Callable[[date], None], day: date, done: str = "") -> Generator[str, None, bool]:
    """Do a step for a day, tell it when it is done, and return whether it is. One that fails holds up no other."""
    try:
        step(day)
    except DatabaseError as error:
        reason = sentence_of(error)
        if isinstance(error.__cause__, errors.QueryCanceled):  # somebody stops all of it
            raise
        if isinstance(error.__cause__, IN_THE_WAY):
            yield PutOff(f"{day} is left to the next maintenance: {reason}")
        else:
            yield Failed(f"{day}: {reason}")
        return False
    if done:
        yield done
    return True


def _execute(statement: str | sql.Composable, parameters: dict[str, Any] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            statement.as_string(cursor.connection) if isinstance(statement, sql.Composable) else statement, parameters
        )
