"""Hits as a service sees them, drawn from a seed, and a database filled with them.

    python -m benchmarks.data postgresql://… [--hits 10000000] [--paths 1000000] [--days 30] [--seed 1]

The database must be migrated and empty. The days end with yesterday (UTC), and today is there as far as it has come.
What is rolled up from hits is not made here: `manage.py maintain` makes it.

The same seed draws the same hits. Paths are a tree, and their popularity falls as 1 / rank; days have a quiet night;
visitors come for one day and about four hits, and keep their country, user agent, consumer and referrer for it.
"""

import argparse
import math
import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate, chain, count, islice, takewhile
from operator import itemgetter
from random import Random
from typing import Generic, NamedTuple, TypeVar

import psycopg

from counters.days import due, make_day
from counters.dimensions import Dimensions
from counters.hits import counter_id

T = TypeVar("T")

MICROSECONDS = 1_000_000
DAY = 86_400 * MICROSECONDS
POSTGRES_EPOCH = 946_684_800 * MICROSECONDS  # 1 January 2000, from which PostgreSQL's binary timestamps count
ROWS_AT_ONCE = 5000

HITS_PER_VISITOR = 4
PAUSE = 600 * MICROSECONDS  # between two hits of a visitor, on average
UNIDENTIFIED = 0.1  # the share of visitors who ask not to be identified
REFERRER_HOSTS, PAGES_PER_HOST = 5000, 4


class RawHit(NamedTuple):
    """One hit. `at` is in microseconds since 1970; `visitor` is drawn, as if hashed."""

    at: int
    path: str
    dimensions: Dimensions
    visitor: int | None


class Mix(Generic[T]):
    """Values and how often each comes."""

    def __init__(self, values: Sequence[T], weights: Sequence[float]) -> None:
        self.values = values
        self.cumulative = list(accumulate(weights))

    def drawn(self, draw: Random) -> Iterator[T]:
        """Values without end."""
        while True:
            yield from draw.choices(self.values, cum_weights=self.cumulative, k=1024)


def skewed(values: Sequence[T], unknown: T | None = None, share: float = 0) -> Mix[T]:
    """Weights that fall as 1 / rank; `unknown` gets its `share` of all."""
    weights = [1 / rank for rank in range(1, len(values) + 1)]
    if unknown is None:
        return Mix(values, weights)
    return Mix([*values, unknown], [*weights, sum(weights) * share / (1 - share)])


# fmt: off
COUNTRIES = skewed([
    "US", "DE", "GB", "FR", "IN", "BR", "JP", "NL", "CA", "ES", "IT", "PL", "AU", "SE", "CH", "AT", "BE", "MX",
    "TR", "CN", "KR", "ID", "AR", "CZ", "DK", "FI", "NO", "PT", "RO", "UA", "ZA", "IE", "GR", "HU", "IL", "SG",
    "VN", "TH", "MY", "PH", "CO", "CL", "EG", "NG", "KE", "PK", "BD", "SA", "AE", "NZ", "SK", "BG", "HR", "RS",
    "LT", "LV", "EE", "SI", "LU", "IS",
], "", 0.02)

#: Browser, operating system, device type, whether it is a bot; 15% are.
AGENTS = Mix(*zip(*[
    (("Chrome", "Windows", "desktop", False), 20), (("Chrome Mobile", "Android", "mobile", False), 17),
    (("Mobile Safari", "iOS", "mobile", False), 16), (("Safari", "Mac OS X", "desktop", False), 5),
    (("Edge", "Windows", "desktop", False), 5), (("Chrome", "Mac OS X", "desktop", False), 4),
    (("Firefox", "Windows", "desktop", False), 3), (("Firefox", "Linux", "desktop", False), 2),
    (("Chrome", "Linux", "desktop", False), 2), (("Samsung Internet", "Android", "mobile", False), 2),
    (("Mobile Safari", "iOS", "tablet", False), 2), (("Chrome Mobile", "Android", "tablet", False), 1),
    (("Firefox Mobile", "Android", "mobile", False), 1), (("Opera", "Windows", "desktop", False), 1),
    (("okhttp", "Android", "mobile", False), 1), (("Python Requests", "Linux", "", False), 1),
    (("curl", "", "", False), 1), (("", "", "", False), 1),
    (("Googlebot", "", "", True), 6), (("bingbot", "", "", True), 3), (("AhrefsBot", "", "", True), 2),
    (("GPTBot", "", "", True), 2), (("facebookexternalhit", "", "", True), 1), (("UptimeRobot", "", "", True), 1),
], strict=True))

CONSUMERS = skewed([f"customer-{number:03}" for number in range(200)], "", 0.3)

#: Host and whole address.
REFERRERS = skewed([
    (f"www.site-{host:04}.example", f"https://www.site-{host:04}.example/{'' if not page else f'page-{page}'}")
    for host in range(REFERRER_HOSTS) for page in range(PAGES_PER_HOST)
], ("", ""), 0.6)

USUAL = ("GET", 200)
REQUESTS = Mix(*zip(*[
    (USUAL, 87), (("GET", 404), 4), (("GET", 304), 3), (("GET", 500), 1),
    (("POST", 201), 3), (("PUT", 200), 1), (("DELETE", 204), 0.5), (("POST", 400), 0.5),
], strict=True))

#: Hits of each UTC hour.
HOURS = Mix([hour * 3600 * MICROSECONDS for hour in range(24)],
            [3, 2, 2, 2, 2, 3, 4, 6, 8, 9, 10, 10, 9, 9, 10, 10, 9, 9, 9, 10, 10, 8, 6, 4])

GROUPS, VIEWS = 20, ("/", "")
#: Beginning, groups, items that each round adds to each group, views of an item.
AREAS = (
    ("/api/product/", 50, 8, ("/", "", "/reviews/", "/reviews/latest", "/price")),
    ("/api/user/", 40, 4, ("", "/orders/", "/orders/last", "/basket")),
    ("/blog/", 30, 4, ("/", "/comments/")),
    *((f"/api/{name}/", GROUPS, 1, VIEWS) for name in (
        "article", "asset", "auction", "author", "book", "brand", "cart", "category", "city", "coupon",
        "delivery", "event", "film", "image", "invoice", "label", "lesson", "list", "menu", "news",
        "offer", "order", "page", "photo", "place", "review", "search", "shop", "stock", "store",
        "tag", "team", "ticket", "trip", "video",
    )),
)
# fmt: on


def tree() -> Iterator[str]:
    """Distinct paths without end: areas, groups in them, then items in all groups and their views."""
    yield from ("/", "/api/")
    for area, groups, _, _ in AREAS:
        yield area
        yield from (f"{area}{group}/" for group in range(1, groups + 1))
    for turn in count():
        for area, groups, items, views in AREAS:
            for item in range(turn * items, (turn + 1) * items):
                yield from (f"{area}{group}/{item}{view}" for group in range(1, groups + 1) for view in views)


def popular(paths: int, seed: int) -> list[str]:
    """The first `paths` of the tree, the most popular first."""
    found = list(islice(tree(), paths))
    Random(seed).shuffle(found)
    return found


def hits(count: int, paths: int, days: int, seed: int, last_day: date) -> Iterator[RawHit]:
    """`count` hits of the `days` UTC days that end with `last_day`, in the order of time.

    Every path is hit, where there are as many hits as paths.
    """
    known = popular(paths, seed)
    first_day = last_day - timedelta(days=days - 1)
    for number in range(days):
        of_day = count * (number + 1) // days - count * number // days
        visited = known[paths * number // days : paths * (number + 1) // days]
        yield from hits_of_day(Random(f"{seed} {number}"), first_day + timedelta(days=number), of_day, known, visited)


def open_day(count: int, paths: int, days: int, seed: int, now: datetime) -> Iterator[RawHit]:
    """The day after `hits`, as far as it has come."""
    known = popular(paths, seed)
    whole = hits_of_day(Random(f"{seed} open"), now.date(), count // days, known, known[: paths // days])
    until = int(now.timestamp() * MICROSECONDS)
    return takewhile(lambda hit: hit.at < until, whole)


def hits_of_day(draw: Random, day: date, count: int, known: list[str], visited: list[str]) -> list[RawHit]:
    """`count` hits of one day: one of each of the `visited` paths, the others as paths are popular."""
    midnight = int(datetime.combine(day, time(), UTC).timestamp()) * MICROSECONDS
    paths = _paths(draw, count, known, visited)
    requests = REQUESTS.drawn(draw)
    found = [
        RawHit(
            midnight + moment,
            path,
            usual if request is USUAL else usual._replace(method=request[0], status=request[1]),
            visitor,
        )
        for (moment, usual, visitor), path, request in zip(_visits(draw), paths, requests, strict=False)
    ]
    found.sort(key=itemgetter(0))
    return found


def _paths(draw: Random, count: int, known: list[str], visited: list[str]) -> list[str]:
    chosen = visited[:count]
    # The n-th of N is chosen as often as log(1 + 1/n) / log N says, which is nearly 1/n.
    size, uniform = len(known) + 1, draw.random
    chosen += [known[int(size ** uniform()) - 1] for _ in range(count - len(chosen))]
    draw.shuffle(chosen)
    return chosen


def _visits(draw: Random) -> Iterator[tuple[int, Dimensions, int | None]]:
    """The hits of one visitor after the other: microsecond of the day, dimensions of a usual request, visitor."""
    more = math.log(1 - 1 / HITS_PER_VISITOR)
    mixes = (CONSUMERS, COUNTRIES, REFERRERS, AGENTS, HOURS)
    for consumer, country, referrer, agent, hour in zip(*(mix.drawn(draw) for mix in mixes), strict=True):
        usual = Dimensions(*USUAL, consumer, country, *referrer, *agent)
        visitor = None if draw.random() < UNIDENTIFIED else draw.getrandbits(64) - 2**63
        moment = hour + draw.randrange(3600 * MICROSECONDS)
        yield moment, usual, visitor
        for _ in range(int(math.log(1 - draw.random()) / more)):
            moment += int(draw.expovariate(1 / PAUSE))
            yield moment % DAY, usual, visitor


class Sets:
    """The combinations that hits had: each one's id, worked out once, and the last day on which it was seen."""

    def __init__(self) -> None:
        self.ids: dict[Dimensions, int] = {}
        self.seen: dict[int, int] = {}

    def id(self, hit: RawHit) -> int:
        found = self.ids.get(hit.dimensions)
        if found is None:
            found = self.ids[hit.dimensions] = hit.dimensions.id
        self.seen[found] = hit.at
        return found

    def rows(self) -> Iterator[tuple[object, ...]]:
        """As COPY takes them: id, seen, dimensions."""
        for dimensions, number in self.ids.items():
            yield number, datetime.fromtimestamp(self.seen[number] / MICROSECONDS, UTC).date(), *dimensions


# The binary format of COPY: the number of fields, then length and value of each; -1 is the length of NULL.
_ROW = struct.Struct("!hiqi16siiiqiq")
_ROW_WITHOUT_VISITOR = struct.Struct("!hiqi16siiiqi")
_COPY_BEGINS = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_ENDS = b"\xff\xff"


def _packed(found: Iterator[RawHit], keys: dict[str, bytes], sets: Sets) -> Iterator[bytes]:
    with_visitor, without = _ROW.pack, _ROW_WITHOUT_VISITOR.pack
    for hit in found:
        at, key, dimensions = hit.at - POSTGRES_EPOCH, keys[hit.path], sets.id(hit)
        if hit.visitor is None:
            yield without(5, 8, at, 16, key, 4, 1, 8, dimensions, -1)
        else:
            yield with_visitor(5, 8, at, 16, key, 4, 1, 8, dimensions, 8, hit.visitor)


def copy_hits(cursor: psycopg.Cursor, table: str, found: Iterator[RawHit], keys: dict[str, bytes]) -> Sets:
    """Append hits to `table`, each a row of its own, and return the combinations that they had."""
    sets = Sets()
    rows = _packed(found, keys, sets)
    statement = f"COPY {table} (at, counter_id, hits, dimensions_id, visitor) FROM STDIN (FORMAT binary)"
    with cursor.copy(statement) as copy:
        copy.write(_COPY_BEGINS)
        while block := b"".join(islice(rows, ROWS_AT_ONCE)):
            copy.write(block)
        copy.write(_COPY_ENDS)
    return sets


COPY_SETS = """
COPY {table} (id, seen, method, status, consumer, country, referrer, referrer_url, browser, os, device, bot,
    route) FROM STDIN
"""


def copy_sets(cursor: psycopg.Cursor, table: str, sets: Sets) -> None:
    with cursor.copy(COPY_SETS.format(table=table)) as copy:
        for row in sets.rows():
            copy.write_row(row)


def keys_of(paths: int, seed: int) -> dict[str, bytes]:
    """The key of each path's counter."""
    return {path: counter_id(path).bytes for path in popular(paths, seed)}


SESSION = """
SET synchronous_commit = off; SET timezone = 'UTC'; SET jit = off;
SET work_mem = '512MB'; SET maintenance_work_mem = '512MB'
"""

PATHS = "CREATE TEMPORARY TABLE loaded_path (id uuid, path text) ON COMMIT DROP"

COUNTERS = """
INSERT INTO counters_counter (id, path, hits, first_hit, last_hit)
SELECT id, path, counted.hits, first_hit, last_hit
FROM (
    SELECT counter_id AS id, sum(hits) AS hits, min(at) AS first_hit, max(at) AS last_hit
    FROM counters_hit GROUP BY counter_id
) AS counted JOIN loaded_path USING (id)
"""

# A day at a time, as they are written, so that the rows lie in the order of time.
HOURS_OF_DAY = """
INSERT INTO counters_hourlyhits (counter_id, hour, hits)
SELECT counter_id, date_trunc('hour', at, 'UTC') AS hour, sum(hits)
FROM counters_hit WHERE at >= %(day)s AND at < %(day)s + interval '1 day'
GROUP BY counter_id, hour ORDER BY hour, counter_id
"""

FILLED = ("counters_counter", "counters_hourlyhits", "counters_hit", "counters_dimensionset")


def load(conninfo: str, count: int, paths: int, days: int, seed: int) -> None:
    """Fill the service's tables with `count` hits of the `days` days before today, and today's until now."""
    now = datetime.now(UTC)
    yesterday = now.date() - timedelta(days=1)
    keys = keys_of(paths, seed)
    found = chain(hits(count, paths, days, seed, yesterday), open_day(count, paths, days, seed, now))
    wanted = [yesterday - timedelta(days=ago) for ago in reversed(range(days))]
    with psycopg.connect(conninfo, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(SESSION)
        for day in [*wanted, *due(now.date())]:
            cursor.execute(make_day(day))
        sets = copy_hits(cursor, "counters_hit", found, keys)
        copy_sets(cursor, "counters_dimensionset", sets)
        _load_counters(connection, keys)
        for day in [*wanted, now.date()]:
            cursor.execute(HOURS_OF_DAY, {"day": datetime.combine(day, time(), UTC)})
        for table in FILLED:
            cursor.execute(f"VACUUM (ANALYZE) {table}")


def _load_counters(connection: psycopg.Connection, keys: dict[str, bytes]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(PATHS)
        with cursor.copy("COPY loaded_path FROM STDIN") as copy:
            for path, key in keys.items():
                copy.write_row((key.hex(), path))
        cursor.execute("ANALYZE loaded_path")
        cursor.execute(COUNTERS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the database, migrated and empty")
    parser.add_argument("--hits", type=int, default=10_000_000, help="of the days before today")
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    load(options.url, options.hits, options.paths, options.days, options.seed)


if __name__ == "__main__":
    main()
