"""Counting through the ORM, where this project's own tables are at hand."""

from datetime import datetime

from asgiref.sync import sync_to_async

from counters.dimensions import Dimensions, Origin
from counters.hits import COUNTED_PREFIX
from counters.middleware.request import Hit
from counters.models import Counter
from counters.origins import referrer_in
from counters.useragents import agent


def count(hit: Hit) -> None:
    """Count a hit in a transaction of its own. What is below /api/ has been counted by its own view."""
    if hit["path"].startswith(COUNTED_PREFIX):
        return
    Counter.objects.increment(hit["path"], origin=_origin(hit), at=datetime.fromisoformat(hit["at"]))


async def acount(hit: Hit) -> None:
    """As `count`, in the thread that Django keeps for its database."""
    await sync_to_async(count)(hit)


def _origin(hit: Hit) -> Origin:
    sender = agent(hit.get("user_agent", "").encode())
    referrer = referrer_in(hit.get("referrer", "").encode())
    visitor = hit.get("visitor")
    return Origin(
        Dimensions(
            method=hit.get("method", ""),
            status=hit.get("status"),
            consumer=hit.get("consumer", ""),
            referrer=referrer.host,
            referrer_url=referrer.url,
            browser=sender.browser,
            os=sender.os,
            device=sender.device,
            bot=sender.bot,
            route=hit.get("route", ""),
        ),
        None if visitor is None else visitor.encode(),
    )
