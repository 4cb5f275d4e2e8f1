"""What is counted must be a row with a number."""

from django.db import models


class Page(models.Model):
    path = models.TextField(unique=True)

    def __str__(self) -> str:
        return self.path
