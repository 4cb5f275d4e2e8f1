"""counters.access for Django REST framework: who asks, and whether they may."""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from counters import access
from counters.models import ApiKey


class KeyAuthentication(BaseAuthentication):
    """By an API key: `Authorization: Bearer <key>`. It stands for no user."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        try:
            key = access.key_of(request._request)
        except access.KeyInvalid as refusal:
            raise AuthenticationFailed(str(refusal)) from refusal
        return (AnonymousUser(), key) if key else None

    def authenticate_header(self, request: Request) -> str:
        return access.CHALLENGE


class KeyAuthenticationScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema tells of it."""

    target_class = KeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "an API key"}


class Scoped(BasePermission):
    """Those who may do what the view's `scope` names."""

    def has_permission(self, request: Request, view: Any) -> bool:
        try:
            access.check(request._request, view.scope)
        except access.Unknown as refusal:
            raise NotAuthenticated(str(refusal)) from refusal
        except access.AccessRefused as refusal:
            raise PermissionDenied(str(refusal)) from refusal
        return True
