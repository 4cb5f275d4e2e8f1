"""Who may look at the dashboard."""

from django.conf import settings
from django.http import HttpRequest


def may_look(request: HttpRequest) -> bool:
    """Everybody where HITCOUNTER_OPEN is on, else staff."""
    return settings.HITCOUNTER_OPEN or bool(getattr(request.user, "is_staff", False))
