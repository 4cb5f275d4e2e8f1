"""The day partitions of the hit table: a hit can be written only where its UTC day has one."""

from datetime import UTC, date, datetime, time, timedelta

from psycopg import sql

from counters.sql import load

HIT_TABLE = "counters_hit"
_MAKE_DAY = load("make_day")


def make_day(day: date) -> sql.Composed:
    """The statement that makes the partition of `day` (UTC) unless it is there."""
    name = f"{HIT_TABLE}_{day:%Y%m%d}"
    start = datetime.combine(day, time(), UTC)
    return sql.SQL(_MAKE_DAY).format(
        partition=sql.Identifier(name),
        partition_name=sql.Literal(name),
        start=sql.Literal(start.isoformat()),
        end=sql.Literal((start + timedelta(days=1)).isoformat()),
    )


def due(today: date) -> list[date]:
    """The days that must have a partition when it is `today`: tomorrow's is made before its first hit."""
    return [today, today + timedelta(days=1)]
