"""What a service must find before it is ready, beside a database that answers."""

from django.db import connection
from django.db.migrations.executor import MigrationExecutor


class Migrations:
    """Those that this code needs; once all are applied, nobody is asked again, not after a restore either."""

    def __init__(self) -> None:
        self._applied = False

    def missing(self) -> list[str]:
        """The names of those that are not applied, in their order. Raises django.db.Error."""
        if self._applied:
            return []
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        self._applied = not plan
        return [str(migration) for migration, _ in plan]
