"""The day partitions of the hit table: a hit can be written only where its UTC day has one."""

from datetime import UTC, date, datetime, time, timedelta

from psycopg import sql

from counters.sql import load

HIT_TABLE = "counters_hit"
ONE_DAY = timedelta(days=1)
_MAKE_DAY = load("make_day")


def make_day(day: date) -> sql.Composed:
    """The statement that makes the partition of `day` (UTC) unless it is there."""
    return sql.SQL(_MAKE_DAY).format(
        partition=partition(day),
        partition_name=sql.Literal(partition(day).as_string().strip('"')),
        start=sql.Literal(midnight(day).isoformat()),
        end=sql.Literal(midnight(day + ONE_DAY).isoformat()),
    )


def partition(day: date) -> sql.Identifier:
    """The table that holds the hits of this UTC day."""
    return sql.Identifier(f"{HIT_TABLE}_{day:%Y%m%d}")


def midnight(day: date) -> datetime:
    """The time at which this UTC day begins."""
    return datetime.combine(day, time(), UTC)


def due(today: date) -> list[date]:
    """The days that must have a partition when it is `today`: tomorrow's is made before its first hit."""
    return [today, today + ONE_DAY]
