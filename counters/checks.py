"""System checks on what the settings lead to: `manage.py check --database default`, and before every `serve`."""

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections

OLDEST_SERVER = 150000


@register(Tags.database)
def check_server(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """The server is new enough, and a commit that it confirms is on disk."""
    found: list[CheckMessage] = []
    for alias in databases or []:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT current_setting('server_version_num')::int, current_setting('synchronous_commit')")
            version, synchronous_commit = cursor.fetchone()
        if version < OLDEST_SERVER:
            found.append(Error("PostgreSQL 15 or newer is needed.", id="counters.E001"))
        if synchronous_commit == "off":
            found.append(
                Warning(
                    "synchronous_commit is off: hits that were answered can be lost in a crash.",
                    hint="Turn it on for this database: ALTER DATABASE … SET synchronous_commit = on.",
                    id="counters.W001",
                )
            )
    return found
