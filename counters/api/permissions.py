"""Who may read statistics and start load tests."""

from typing import Any

from django.conf import settings
from django.core import signing
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

SERVICE_TOKEN_SECONDS = 3600
SERVICE_HEADER = "X-Hitcounter-Service"
_SALT = "counters.service"


def service_token() -> str:
    """A token by which this service recognises its own requests: a load test reads the statistics with it."""
    return signing.TimestampSigner(salt=_SALT).sign("service")


def _is_service(token: str) -> bool:
    try:
        signing.TimestampSigner(salt=_SALT).unsign(token, max_age=SERVICE_TOKEN_SECONDS)
    except signing.BadSignature:
        return False
    return True


class OpenOrStaff(BasePermission):
    """Everybody where HITCOUNTER_OPEN is on, else staff; never another site's page in somebody's browser."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if request.method not in SAFE_METHODS and _sent_by_another_site(request):
            raise PermissionDenied("Another site's page may not ask for this.")
        if settings.HITCOUNTER_OPEN or request.user.is_staff:
            return True
        return _is_service(request.headers.get(SERVICE_HEADER, ""))


def _sent_by_another_site(request: Request) -> bool:
    """Whether a browser says so; without a login there is no CSRF token that could tell."""
    return request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
