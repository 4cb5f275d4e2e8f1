"""Forgetting for good: paths, a consumer, or all before a day, while hits keep arriving and the books keep balancing.

Some counters at a time, each time in a transaction that goes as a reset's does (docs/adr/0006-reset.md). Cut short and
done again, it comes to the same.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import OperationalError, connection, transaction
from django.db.models import Min, Q, QuerySet

from counters import days, maintenance
from counters.hits import now
from counters.models import Counter, DailyHits, DimensionSet, LateDay, Retention, RolledDay, Rollup
from counters.reset import ISOLATION, LOCK, LOCK_COUNTERS, take
from counters.sql import load

logger = logging.getLogger(__name__)

#: New hits of the counters of one transaction wait while their figures are lowered.
COUNTERS_AT_ONCE = 5_000
#: Of so many paths' days the values are rewritten in one transaction.
DAYS_AT_ONCE = 5_000
#: So many combinations of dimensions are deleted in one transaction.
SETS_AT_ONCE = 10_000
WAIT_SECONDS = 0.5
#: How often the partition of a day is tried to be dropped, when others are in the way; it is empty, and does no harm.
ATTEMPTS = 10
#: Later than any hit.
NEVER = datetime.max.replace(tzinfo=UTC)
UNKNOWN = ""

_TABLES = load("forget_tables")
_DAYS = load("forget_days")
_CONSUMER = load("forget_consumer")
_PATHS_OF = load("forget_paths_of")
_ANALYZE = "ANALYZE reset_seen"
_BOUNDS = load("forget_bounds")
_SUBTRACT = load("forget_subtract")
_EMPTIED = load("forget_emptied")
_VALUES = load("forget_values")
_ROLLUP = load("forget_rollup")
_UNUSED_SETS = load("forget_unused_sets")


class NotRolledUp(Exception):
    """A day could not be rolled up again; until maintenance does, its figures have what was forgotten."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{self.__doc__} ({reason})")


class Gone(NamedTuple):
    """What went in one transaction: counters that had no hits left, and hits."""

    counters: int
    hits: int


def forget_paths(counters: QuerySet[Counter], before: date | None, wait: Callable[[], object]) -> Iterator[Gone]:
    """Forget what these counters have, or had before a UTC day, and the counters themselves that have no hits left.

    Every hit that is committed by then goes. `wait` is called while maintenance or an import runs. A reset
    that runs is waited for.
    """
    with maintenance.kept_out(wait):
        yield from _in_parts(counters, before)
        _forget_unused_sets()


def forget_before(before: date, wait: Callable[[], object]) -> Iterator[Gone]:
    """Forget all hits before a UTC day, of all paths, with what is rolled up of those days; see `forget_paths`."""
    with maintenance.kept_out(wait):
        yield from _in_parts(Counter.objects.all(), before)
        for day in _days_known(before):
            maintenance.forget_day(day)
        for day in maintenance.partitions():
            if day < before and day < _today() - days.ONE_DAY:  # hits of yesterday may be under way
                _drop_if_empty(day)
        _forget_unused_sets()


def forget_consumer(consumer: str, before: date | None, wait: Callable[[], object]) -> Iterator[Gone]:
    """Forget the hits of a consumer, or those before a UTC day, and its name; see `forget_paths`.

    Of days whose hit rows are gone, its hits are not told from others of a path: they stay, of an unknown consumer. Its
    visitors there are added to unknown ones, whoever was both. Days that have changed are rolled up again at once.
    """
    with maintenance.kept_out(wait):
        yield from _hits_of_consumer(consumer, before)
        for day in _days_without_hit_rows(consumer, before):
            _fold(day, consumer)
        _forget_name(consumer, before)
        _forget_unused_sets()
        kinds = (maintenance.Failed, maintenance.PutOff)
        undone = [done for done in maintenance.roll_up_changed(now()) if isinstance(done, kinds)]
        if undone:
            raise NotRolledUp(undone[0])


def forget_leftovers(wait: Callable[[], object]) -> None:
    """Forget the combinations that one which was cut short has left, though its hits are gone; see `forget_paths`."""
    with maintenance.kept_out(wait):
        _forget_unused_sets()


def knows_consumer(consumer: str) -> bool:
    """Whether there is anything to forget of a consumer."""
    return (
        DimensionSet.objects.filter(consumer=consumer).exists()
        or Rollup.objects.filter(dimension="consumer", grain__in=Rollup.Grain, value=consumer).exists()
    )


def _today() -> date:
    return now().date()


def _in_parts(counters: QuerySet[Counter], before: date | None) -> Iterator[Gone]:
    if before is not None:
        counters = counters.filter(first_hit__lt=days.midnight(before))
    ids = counters.order_by("id").values_list("id", flat=True)
    some = list(ids[:COUNTERS_AT_ONCE])
    while some:
        yield _forget_all(some) if before is None else _forget_days(some, before)
        some = list(ids.filter(id__gt=some[-1])[:COUNTERS_AT_ONCE])


def _forget_all(ids: Sequence[UUID]) -> Gone:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ISOLATION)
        cursor.execute(LOCK)
        hits = sum(gone.hits for gone in take(ids))
        cursor.execute(_EMPTIED, {"ids": list(ids)})
        return Gone(cursor.rowcount, hits)


def _forget_days(ids: Sequence[UUID], before: date) -> Gone:
    first = Counter.objects.filter(id__in=ids).aggregate(at=Min("first_hit"))["at"]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ISOLATION)
        gone = _take(_DAYS, {"ids": list(ids), "before": days.midnight(before)})
        if first:
            maintenance.unchain(first.astimezone(UTC).date())
        return gone


def _take(see: str, parameters: dict[str, Any]) -> Gone:
    """Take from counters (`ids`) what a statement deletes and notes."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ISOLATION)
        cursor.execute(LOCK)
        cursor.execute(_TABLES)
        cursor.execute(see, parameters)
        cursor.execute(_ANALYZE)
        cursor.execute(_BOUNDS)
        cursor.execute(LOCK_COUNTERS)
        cursor.execute(_SUBTRACT)
        [hits] = cursor.fetchone()
        cursor.execute(_EMPTIED, parameters)
        return Gone(cursor.rowcount, hits)


def _days_known(before: date) -> list[date]:
    """The days before another of which anything is rolled up, or noted."""
    known: set[date] = set()
    for table in (RolledDay, LateDay):
        known.update(table.objects.filter(day__lt=before).values_list("day", flat=True))
    return sorted(known)


def _drop_if_empty(day: date) -> None:
    for _ in range(ATTEMPTS):
        try:
            maintenance.drop_if_empty(day)
        except OperationalError as error:
            if not isinstance(error.__cause__, maintenance.IN_THE_WAY):
                raise
            time.sleep(WAIT_SECONDS)
        else:
            return


def _hits_of_consumer(consumer: str, before: date | None) -> Iterator[Gone]:
    sets = list(DimensionSet.objects.filter(consumer=consumer).values_list("id", flat=True))
    parameters: dict[str, Any] = {"sets": sets, "before": NEVER if before is None else days.midnight(before)}
    some = [UUID(int=0)]
    while some := _paths_of(parameters, after=some[-1]):
        yield _take(_CONSUMER, {**parameters, "ids": some})


def _paths_of(parameters: dict[str, Any], after: UUID) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(_PATHS_OF, {**parameters, "after": after, "limit": COUNTERS_AT_ONCE})
        return [id for (id,) in cursor.fetchall()]


def _days_without_hit_rows(consumer: str, before: date | None) -> list[date]:
    """The days of which no hit rows tell what this consumer did, but figures have its name."""
    until = min(before or date.max, maintenance.kept_since(Retention.What.HITS))
    named = Rollup.objects.filter(dimension="consumer", grain__in=Rollup.Grain, value=consumer)
    starts = named.filter(start__lt=days.midnight(until)).values_list("start", flat=True)
    return sorted({start.astimezone(UTC).date() for start in starts})


def _fold(day: date, consumer: str) -> None:
    """Have what a consumer did on a day be an unknown consumer's: first of the paths, then of all of them together."""
    for rows in _naming(day, consumer):
        with transaction.atomic(), connection.cursor() as cursor:
            folded = [folded_into_unknown(dimensions, consumer) for _, _, dimensions in rows]
            ids, parts = [id for id, _, _ in rows], [part for _, part, _ in rows]
            cursor.execute(_VALUES, {"ids": ids, "parts": parts, "dimensions": folded, "day": day})
    with transaction.atomic(), connection.cursor() as cursor:
        bounds = {"start": days.midnight(day), "end": days.midnight(day + days.ONE_DAY)}
        cursor.execute(_ROLLUP, {**bounds, "consumer": consumer})
        RolledDay.objects.filter(day=day).update(rolled=now())


def _naming(day: date, consumer: str) -> Iterator[list[tuple[UUID, int, str]]]:
    """Rows (path, part, dimensions) of a day in which the text stands, some at a time."""
    # As PostgreSQL writes it; that of another dimension is found too, and stays as it is.
    text = json.dumps(consumer, ensure_ascii=False) + ":["
    rows = (
        DailyHits.objects.filter(day=day, dimensions__contains=text)
        .order_by("counter_id", "part")
        .values_list("counter_id", "part", "dimensions")
    )
    some = list(rows[:DAYS_AT_ONCE])
    while some:
        yield some
        id, part, _ = some[-1]
        some = list(rows.filter(Q(counter_id__gt=id) | Q(counter_id=id, part__gt=part))[:DAYS_AT_ONCE])


def folded_into_unknown(dimensions: str, consumer: str) -> str:
    """A day's values of dimensions (see models.DailyHits) in which a consumer is no longer told from unknown ones."""
    values = json.loads(dimensions)
    consumers = values.get("consumer", {})
    named = consumers.pop(consumer, None)
    if named is None:
        return dimensions
    unknown = consumers.get(UNKNOWN, [0, 0])
    # Bots' figures are left out where there are none.
    both = [sum(pair) for pair in zip(_in_full(named), _in_full(unknown), strict=True)]
    consumers[UNKNOWN] = both if both[2] else both[:2]
    if list(consumers) == [UNKNOWN]:
        del values["consumer"]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _in_full(figures: list[int]) -> list[int]:
    return [*figures, 0, 0][:4]


def _forget_name(consumer: str, before: date | None) -> None:
    """Delete the combinations that a consumer had, but for those in use since, which writers rely on to be there.

    Those lose its name. They get it again when they are in use on another day (record_batch.sql).
    """
    sets = DimensionSet.objects.filter(consumer=consumer)
    sets.filter(seen__lt=min(before or date.max, _in_use_since())).delete()
    if before is None:
        sets.update(consumer=UNKNOWN)


def _forget_unused_sets() -> None:
    """Delete the combinations that no hit row has: routes and URLs of referrers name what was forgotten.

    A writer that needs one again says first that it is in use today, and then it stays.
    """
    with connection.cursor() as cursor:
        cursor.execute(_UNUSED_SETS, {"before": _in_use_since()})
        ids = [id for (id,) in cursor.fetchall()]
    for first in range(0, len(ids), SETS_AT_ONCE):
        some = ids[first : first + SETS_AT_ONCE]
        DimensionSet.objects.filter(id__in=some, seen__lt=_in_use_since()).delete()


def _in_use_since() -> date:
    """Writers rely on combinations of today to be there, and may be an instant behind."""
    return _today() - days.ONE_DAY
