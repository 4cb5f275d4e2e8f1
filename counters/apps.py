from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CountersConfig(AppConfig):
    name = "counters"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from counters import checks  # noqa: F401 (registers the checks)

        post_migrate.connect(make_first_days, sender=self)


def make_first_days(**kwargs: Any) -> None:
    """Make the partitions that the first hits need, so that the first counter need not."""
    from django.db import connection

    from counters import days, hits
    from counters.models import Hit

    if days.HIT_TABLE in connection.introspection.table_names():
        Hit.objects.make_days(*days.due(hits.now().date()))
