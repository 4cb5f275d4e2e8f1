"""Every read of the counts: the REST API, the admin and the commands share these functions. No request objects."""

from typing import NamedTuple

from django.db.models import QuerySet, Value

from counters.models import NO_MAGNITUDE, Counter, magnitude_of, path_begins_with

Row = tuple[str, int]  # path, hits


class Position(NamedTuple):
    """A place in the ranking: what follows has fewer hits, or as many and a later path."""

    hits: int
    path: str


def ranking(prefix: str = "") -> "QuerySet[Counter, Row]":
    """All counters with hits whose path begins with `prefix`, as (path, hits): most hits first, ties by path.

    In the order of the magnitude index: PostgreSQL reads that from its beginning and sorts only within a magnitude.
    """
    return _counted(prefix).order_by("-magnitude", "-hits", "path").values_list("path", "hits")


def page(limit: int, prefix: str = "", after: Position | None = None) -> list[Row]:
    """The next `limit` rows of the ranking, from its beginning or `after` a position."""
    if after is None:
        return list(ranking(prefix)[:limit])
    # Ties are read along the index (magnitude, path): a page in the midst of a million paths with one hit each is
    # as quick as the first.
    magnitude = magnitude_of(Value(after.hits))
    ties = ranking(prefix).filter(magnitude=magnitude, hits=after.hits, path__gt=after.path)
    rows = list(ties.order_by("path")[:limit])
    if len(rows) < limit:
        fewer = ranking(prefix).filter(magnitude__lte=magnitude, hits__lt=after.hits)
        rows += fewer[: limit - len(rows)]
    return rows


def _counted(prefix: str) -> "QuerySet[Counter]":
    counted = Counter.objects.filter(magnitude__gt=NO_MAGNITUDE)
    return counted.filter(path_begins_with(prefix)) if prefix else counted
