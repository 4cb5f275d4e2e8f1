"""What the pages of the admin have in common."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

#: Stands for a figure that there is not (yet).
MISSING = "–"


class ReadOnly:
    """Nobody adds, changes or deletes; who may view or change a model may look at it."""

    show_full_result_count = False  # would count the table for every page
    show_facets = admin.ShowFacets.NEVER  # would count the table for every filter

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def number(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
