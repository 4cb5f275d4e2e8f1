"""Resetting counters: their hits and history go, while other hits keep arriving and the books keep balancing."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet

from counters.models import Counter
from counters.sql import load

logger = logging.getLogger(__name__)

#: New hits of the counters of one transaction wait while their figures are lowered; measured, 3 s for so many.
COUNTERS_AT_ONCE = 10_000
#: A reset of more counters is logged as a total.
LOGGED_ONE_BY_ONE = 100

# Each statement must see what was committed before it: the last one, what came after the first.
ISOLATION = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('counters reset', 0))"
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('counters reset', 0))"
_TABLES = load("reset_tables")
_SEE = load("reset_see")
_ANALYZE = "ANALYZE reset_seen"
LOCK_COUNTERS = load("reset_lock")
_SUBTRACT = load("reset_subtract")
_DROP = "DROP TABLE reset_seen"


class ResetBusy(Exception):
    """Another reset is running; try again when it is done."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Gone(NamedTuple):
    """What a reset took from one counter."""

    id: UUID
    path: str
    hits: int


def reset(ids: Sequence[UUID]) -> list[Gone]:
    """Take from these counters every hit that is committed by now, with its history, in one transaction.

    Hits that are committed while this runs stay. New hits of these counters wait only for the last statement, and for
    the end of the caller's transaction if there is one. Ids without a counter are passed over. Raises ResetBusy.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ISOLATION)
        cursor.execute(_TRY_LOCK)
        if not cursor.fetchone()[0]:
            raise ResetBusy
        gone = take(ids)
    transaction.on_commit(partial(_log, gone))
    return gone


def take(ids: Sequence[UUID]) -> list[Gone]:
    """As `reset`, without a word in the log; for who holds LOCK in a transaction with ISOLATION.

    Two that saw the same hits would take them off twice.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
        cursor.execute(_SEE, {"ids": list(ids)})
        cursor.execute(_ANALYZE)
        cursor.execute(LOCK_COUNTERS)
        cursor.execute(_SUBTRACT)
        gone = [Gone(*row) for row in cursor.fetchall()]
        cursor.execute(_DROP)  # for the next reset of the caller's transaction
    return gone


def reset_all(counters: QuerySet[Counter]) -> Iterator[list[Gone]]:
    """Reset any number of counters, COUNTERS_AT_ONCE in a transaction, and tell what went after each. Raises ResetBusy.

    One transaction for a million counters would make the hits wait for too long.
    """
    ids = counters.order_by("id").values_list("id", flat=True)
    some = list(ids[:COUNTERS_AT_ONCE])
    while some:
        yield reset(some)
        some = list(ids.filter(id__gt=some[-1])[:COUNTERS_AT_ONCE])


def _log(gone: list[Gone]) -> None:
    if len(gone) > LOGGED_ONE_BY_ONE:
        logger.info("Reset %d counters: %d hits were removed.", len(gone), sum(counter.hits for counter in gone))
        return
    for counter in gone:
        logger.info("Reset %s: %d hits were removed.", counter.path, counter.hits)
