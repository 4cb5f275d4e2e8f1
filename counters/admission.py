"""Which new paths are counted as others, for what is counted through Django; the recorder asks the same `new_paths`."""

from collections.abc import Collection
from functools import cache

from django.conf import settings
from django.db import DatabaseError

from counters import conf, metrics
from counters.dimensions import Origin
from counters.hits import COUNTED_PREFIX, DatabaseRefused, counter_id
from counters.models import Counter, path_begins_with
from counters.newpaths import NewPaths
from counters.sqlstates import refuses_value

#: Without a second slash: what has the prefix "/" (newpaths.prefix_of).
_SINGLE_SEGMENT = "^/[^/]*$"


@cache
def new_paths() -> NewPaths:
    """This process's share of the new paths that may be counted."""
    return NewPaths(
        per_minute=_setting(conf.MAX_NEW_PATHS_PER_MINUTE),
        in_total=_setting(conf.MAX_PATHS),
        sharers=getattr(settings, "HITCOUNTER_WORKERS", 1),
    )


def others(paths: Collection[str]) -> dict[str, str]:
    """Those of `paths` that are new and too many, and under which path their hits are counted instead.

    The new ones that are not too many are taken for counted.
    """
    allowed = new_paths()
    if not allowed.bounded:
        return {}
    known = set(Counter.objects.filter(id__in=map(counter_id, paths)).values_list("path", flat=True))
    new = [path for path in paths if path not in known]
    doubtful = allowed.doubtful(new, len(new))
    strange = allowed.strange(doubtful)
    settled = [prefix for prefix in strange if Counter.objects.filter(path_begins_with(prefix)).exists()]
    elsewhere = allowed.others(doubtful, known, settled)
    allowed.gained(path for path in new if path not in elsewhere)
    return elsewhere


def count_one(path: str, origin: Origin) -> tuple[str, int]:
    """Count one hit, and return the path that it was counted for with its place in that path's count.

    Raises DatabaseRefused, and django.db.Error.
    """
    counted = others([path]).get(path, path)
    try:
        place = Counter.objects.increment(counted, origin=origin)
    except DatabaseError as error:
        if refuses_value(error.__cause__):
            raise DatabaseRefused(DatabaseRefused.__doc__) from error
        raise
    metrics.HITS.labels("request").inc()
    if counted != path:
        metrics.HITS_OTHER.inc()
    return counted, place


def count_paths() -> None:
    """Count the paths of the prefixes that may come near to HITCOUNTER_MAX_PATHS: once a minute will do."""
    allowed = new_paths()
    if allowed.in_total:
        prefixes = {COUNTED_PREFIX, *allowed.to_be_counted()}
        allowed.counted({prefix: _paths_under(prefix, allowed.in_total) for prefix in prefixes})


def _paths_under(prefix: str, most: int) -> int:
    """How many paths have this prefix, counted up to `most`."""
    under = Counter.objects.filter(path_begins_with(prefix))
    if prefix == "/":
        under = under.filter(path__regex=_SINGLE_SEGMENT)
    return under[:most].count()


def _setting(number: conf.Number) -> int:
    """Another project that has installed the app may not have set it."""
    return int(getattr(settings, number.name, number.default))
