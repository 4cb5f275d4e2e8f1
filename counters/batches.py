"""Counting the hits of a `POST /hits/`: all of them in one transaction, and once per `Idempotency-Key`."""

from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b

from django.db import DataError

from counters import metrics
from counters.admission import others
from counters.bulk import MOST_DAYS, Load, record, salt_of
from counters.hits import DatabaseRefused, HitRefused, now
from counters.models import IdempotencyKey
from counters.reports import Report

_DIGEST_BYTES = 32


class TooManyDays(HitRefused):
    """The hits of one request lie on at most 366 UTC days."""


class KeyReused(Exception):
    """This Idempotency-Key came with another body before."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class _Known(Exception):
    """A request with this key has been counted."""

    def __init__(self, request: IdempotencyKey) -> None:
        self.request = request


def count(reports: Iterable[Report]) -> int:
    """Commit hits, and return their number.

    Raises TooManyDays, DatabaseRefused, what `reports` raise, and django.db.Error as bulk.record does.
    """
    return _record(*_loaded(reports), lambda: None)


def count_once(key: str, body: bytes, read: Callable[[bytes], Iterable[Report]]) -> int:
    """Commit the hits that `read` finds in a body, unless that came with this key before, and return their number.

    A body that came before is not read again. Raises what `count` does, and KeyReused.
    """
    digest = blake2b(body, digest_size=_DIGEST_BYTES).digest()
    try:
        known = IdempotencyKey.objects.filter(key=key).first()
        if known:
            raise _Known(known)
        load, of_others = _loaded(read(body))
        return _record(load, of_others, partial(_remember, key, digest, load.hits))
    except _Known as found:
        if bytes(found.request.request) != digest:
            raise KeyReused from None
        return found.request.counted


def _loaded(reports: Iterable[Report]) -> tuple[Load, int]:
    """The hits, and how many of them are of new paths that are too many."""
    load, reports = Load(salt_of), list(reports)
    elsewhere = others(dict.fromkeys(report.path for report in reports))
    for report in reports:
        load.count(*report._replace(path=elsewhere.get(report.path, report.path)))
        if len(load.days) > MOST_DAYS:
            raise TooManyDays(TooManyDays.__doc__)
    return load, sum(report.hits for report in reports if report.path in elsewhere)


def _record(load: Load, of_others: int, first: Callable[[], None]) -> int:
    try:
        record(load, first)
    except DataError as error:  # a counter can hold no more
        raise DatabaseRefused(DatabaseRefused.__doc__) from error
    metrics.HITS.labels("batch").inc(load.hits)
    metrics.HITS_OTHER.inc(of_others)
    return load.hits


def _remember(key: str, digest: bytes, counted: int) -> None:
    """Have the key's row. Of requests that come at once, the others wait here until the first has ended."""
    answer = {"request": digest, "counted": counted, "at": now()}
    request, new = IdempotencyKey.objects.get_or_create(key=key, defaults=answer)
    if not new:
        raise _Known(request)
