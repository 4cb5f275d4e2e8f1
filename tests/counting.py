"""Hits of given times, counted by the ORM."""

from datetime import UTC, datetime
from typing import Any

from counters.dimensions import Dimensions, Origin
from counters.models import Counter, Hit


def hit(path: str, at: str, by: int = 1, visitor: bytes | None = None, **dimensions: Any) -> None:
    when = datetime.fromisoformat(at).replace(tzinfo=UTC)
    Hit.objects.make_days(when.date())
    Counter.objects.increment(path, by, at=when, origin=Origin(Dimensions(**{"method": "GET", **dimensions}), visitor))
