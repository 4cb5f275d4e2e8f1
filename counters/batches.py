"""Counting the hits of a `POST /hits/`: all of them in one transaction, and once per `Idempotency-Key`."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b

from django.db import DatabaseError

from counters import metrics
from counters.admission import others
from counters.bulk import MOST_DAYS, Load, is_refused, record, salt_of
from counters.hits import DatabaseRefused, HitRefused, now
from counters.models import IdempotencyKey
from counters.reports import ItemRefused, Report
from counters.sqlstates import refuses_value

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

    Raises TooManyDays, ItemRefused for one that the database refuses (DatabaseRefused if it is none of them), what
    `reports` raise, and django.db.Error as bulk.record does.
    """
    return _record(*_admitted(reports), lambda: None)


def count_once(key: str, body: bytes, read: Callable[[bytes], Iterable[Report]]) -> int:
    """Commit the hits that `read` finds in a body, unless that came with this key before, and return their number.

    A body that came before is not read again. Raises what `count` does, and KeyReused.
    """
    digest = blake2b(body, digest_size=_DIGEST_BYTES).digest()
    try:
        known = IdempotencyKey.objects.filter(key=key).first()
        if known:
            raise _Known(known)
        admitted, of_others = _admitted(read(body))
        return _record(admitted, of_others, partial(_remember, key, digest, sum(report.hits for report in admitted)))
    except _Known as found:
        if bytes(found.request.request) != digest:
            raise KeyReused from None
        return found.request.counted


def _admitted(reports: Iterable[Report]) -> tuple[list[Report], int]:
    """The hits, those of new paths that are too many under the path of others, and how many these are."""
    reports = list(reports)
    elsewhere = others(dict.fromkeys(report.path for report in reports))
    of_others = sum(report.hits for report in reports if report.path in elsewhere)
    return [report._replace(path=elsewhere.get(report.path, report.path)) for report in reports], of_others


def _record(reports: Sequence[Report], of_others: int, first: Callable[[], None]) -> int:
    load = _loaded(reports)
    try:
        record(load, first)
    except DatabaseError as error:
        if refuses_value(error.__cause__):
            raise _refusal(reports) from error
        raise
    metrics.HITS.labels("batch").inc(load.hits)
    metrics.HITS_OTHER.inc(of_others)
    return load.hits


def _loaded(reports: Iterable[Report]) -> Load:
    load = Load(salt_of)
    for report in reports:
        load.count(*report)
        if len(load.days) > MOST_DAYS:
            raise TooManyDays(TooManyDays.__doc__)
    return load


def _refusal(reports: Sequence[Report]) -> HitRefused:
    """What tells of the first hit that the database refuses after those before it, so that others can be sent anew."""
    if not is_refused(_loaded(reports)):
        return DatabaseRefused(DatabaseRefused.__doc__)
    taken, refused = 0, len(reports)  # so many, from the first
    while refused - taken > 1:
        middle = (taken + refused) // 2
        if is_refused(_loaded(reports[:middle])):
            refused = middle
        else:
            taken = middle
    return ItemRefused(taken, DatabaseRefused.__doc__)


def _remember(key: str, digest: bytes, counted: int) -> None:
    """Have the key's row. Of requests that come at once, the others wait here until the first has ended."""
    answer = {"request": digest, "counted": counted, "at": now()}
    request, new = IdempotencyKey.objects.get_or_create(key=key, defaults=answer)
    if not new:
        raise _Known(request)
