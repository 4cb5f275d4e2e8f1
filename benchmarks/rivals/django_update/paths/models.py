"""One row for each path."""

from django.db import models
from django.db.models import F


class CounterQuerySet(models.QuerySet):
    def count_hit(self, path: str) -> int:
        """Add one where the path is known, else make it known; return its count.

        Two statements for a known path, each a transaction. Another request's hit may come between them, and the
        count have it too: what would keep it out, a transaction round both, costs two more round trips.
        """
        if not self.filter(path=path).update(hits=F("hits") + 1):
            self.bulk_create([self.model(path=path, hits=0)], ignore_conflicts=True)
            self.filter(path=path).update(hits=F("hits") + 1)
        return self.values_list("hits", flat=True).get(path=path)

    async def acount_hit(self, path: str) -> int:
        """As count_hit."""
        if not await self.filter(path=path).aupdate(hits=F("hits") + 1):
            await self.abulk_create([self.model(path=path, hits=0)], ignore_conflicts=True)
            await self.filter(path=path).aupdate(hits=F("hits") + 1)
        return await self.values_list("hits", flat=True).aget(path=path)


class Counter(models.Model):
    path = models.TextField(primary_key=True)
    hits = models.BigIntegerField()

    objects = CounterQuerySet.as_manager()

    def __str__(self) -> str:
        return self.path
