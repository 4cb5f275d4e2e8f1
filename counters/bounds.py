"""A bound on how long a read may keep the database busy: the admin and the statistics share it."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction
from psycopg.errors import QueryCanceled

#: No statement of a bounded read keeps the database busy for longer.
LONGEST_READ_SECONDS = 3


class TookTooLong(Exception):
    """The database was asked for something that takes it too long."""


@contextmanager
def bounded_read() -> Iterator[None]:
    """Give up on a statement after LONGEST_READ_SECONDS. Raises TookTooLong."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{LONGEST_READ_SECONDS}s"])
            yield
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        raise TookTooLong from error
