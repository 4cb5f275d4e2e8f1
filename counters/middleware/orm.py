"""Counting through the ORM, where this project's own tables are at hand: as `POST /hits/` would."""

from asgiref.sync import sync_to_async

from counters.hits import COUNTED_PREFIX, now
from counters.middleware.request import Hit
from counters.models import Counter
from counters.reports import reported


def count(hit: Hit) -> None:
    """Count a hit in a transaction of its own. What is below /api/ has been counted by its own view."""
    if hit["path"].startswith(COUNTED_PREFIX):
        return
    [report] = reported([hit], now())
    Counter.objects.increment(report.path, report.hits, origin=report.origin, at=report.at)


async def acount(hit: Hit) -> None:
    """As `count`, in the thread that Django keeps for its database."""
    await sync_to_async(count)(hit)
