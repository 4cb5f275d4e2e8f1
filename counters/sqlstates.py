"""What the code of an error says of the statement that PostgreSQL has rolled back.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import psycopg

#: Data that are wrong, an integrity constraint, a view's check, a limit of the program, and what a function raises
#: without a code of its own.
_OF_VALUES = ("22", "23", "44", "54", "P0001")
#: Exceptions of the connection, and a server that is starting or ending.
_OF_CONNECTIONS = ("08", "57P")
_CHECK_VIOLATION = "23514"


def is_away(error: BaseException | None) -> bool:
    """Whether the server could not be reached, or has gone: it then has told no code, or one that says so."""
    code = getattr(error, "sqlstate", None) or ""
    return not code or code.startswith(_OF_CONNECTIONS)


def refuses_value(error: BaseException | None) -> bool:
    """Whether the database refuses a value that was to be written, and will again."""
    if not isinstance(error, psycopg.Error) or lacks_partition(error):
        return False
    return (error.sqlstate or "").startswith(_OF_VALUES)


def lacks_partition(error: BaseException | None) -> bool:
    """Whether the day of a hit has no partition: that is a check of a table's, but none that has a name.

    One that a trigger raises may have no name either, but then it has no table.
    """
    if not isinstance(error, psycopg.Error) or error.sqlstate != _CHECK_VIOLATION:
        return False
    return not error.diag.constraint_name and bool(error.diag.table_name)
