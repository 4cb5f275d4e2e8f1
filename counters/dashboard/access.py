"""Who may look at the pages: as the statistics, everybody where HITCOUNTER_OPEN is on, else staff."""

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.http import HttpRequest


def may_look(request: HttpRequest) -> bool:
    """Whether the service is open, or the one who asks is logged in as staff; only the latter needs the database."""
    return settings.HITCOUNTER_OPEN or bool(getattr(request.user, "is_staff", False))


async def amay_look(request: HttpRequest) -> bool:
    """`may_look` for an answer that does not end: no connection is kept for it."""
    return settings.HITCOUNTER_OPEN or await sync_to_async(_may_look_and_let_go)(request)


def _may_look_and_let_go(request: HttpRequest) -> bool:
    try:
        return may_look(request)
    finally:
        # Django would keep it until the answer is at its end, which with a stream may be hours.
        close_old_connections()
