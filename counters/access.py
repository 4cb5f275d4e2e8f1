"""Who may do what, for every request that Django answers; docs/access.md has it as a table.

Everybody may do everything (but the admin) where HITCOUNTER_OPEN is on. Where it is off, a user who is logged in may
read, staff may send hits and run load tests as well, and an API key may do what its scopes say.
"""

import logging
import re
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import signing
from django.db import DatabaseError, close_old_connections
from django.db.models import Q
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from counters.hits import now
from counters.models import ApiKey, Scope
from counters.sentences import sentence_of

View = Callable[..., HttpResponseBase]
AsyncView = Callable[..., Coroutine[Any, Any, HttpResponseBase]]

logger = logging.getLogger(__name__)

SERVICE_TOKEN_SECONDS = 3600
SERVICE_HEADER = "X-Hitcounter-Service"
_SALT = "counters.service"
#: What a request without a valid key is answered, as RFC 6750 section 3 has it.
CHALLENGE = "Bearer"
#: A key's last use is written no more often than this.
USE_KEPT = timedelta(minutes=1)

_BEARER = re.compile(r"bearer(?:\s+(.*))?", re.ASCII | re.IGNORECASE | re.DOTALL)
_KEY = re.compile(r"[0-9A-Za-z]{8}\.[0-9A-Za-z]{32}")
#: Proxies say so that they pass on another's request.
_FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Forwarded-Proto", "Via")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")


class AccessRefused(Exception):
    """Whoever asks may not; the message says why."""

    status = 403

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or self.__doc__)


class Unknown(AccessRefused):
    """Log in, or send an API key: Authorization: Bearer <key>."""

    status = 401


class KeyInvalid(Unknown):
    """There is no such API key."""


class KeyExpired(KeyInvalid):
    """This API key has expired."""


class KeyRevoked(KeyInvalid):
    """This API key has been revoked."""


class NotAllowed(AccessRefused):
    """This is for staff."""


class AnotherSite(AccessRefused):
    """Another site's page may not ask for this."""


def check(request: HttpRequest, scope: Scope) -> None:
    """Pass if whoever sends the request may do what `scope` names. Raises AccessRefused.

    A key that is sent must be valid even where everybody may.
    """
    if request.method not in _SAFE_METHODS and _sent_by_another_site(request):
        raise AnotherSite
    key = key_of(request)
    if is_open(request):
        return
    if key:
        if not key.allows(scope):
            raise NotAllowed(f"This API key has not the scope {scope.value}.")
    elif scope is not Scope.STATS or not _is_service(request.headers.get(SERVICE_HEADER, "")):
        _check_user(request, scope)


def is_open(request: HttpRequest) -> bool:
    """Whether everybody may do everything: HITCOUNTER_OPEN is on.

    Not for what comes through a proxy, if nobody has said that it is on: others come in than those at this machine.
    """
    if settings.HITCOUNTER_OPEN and getattr(settings, "HITCOUNTER_OPEN_BY_ITSELF", False):
        return not any(name in request.headers for name in _FORWARDED)
    return bool(settings.HITCOUNTER_OPEN)


def may(request: HttpRequest, scope: Scope) -> bool:
    """Whether whoever sends the request may do what `scope` names."""
    try:
        check(request, scope)
    except AccessRefused:
        return False
    return True


def _check_user(request: HttpRequest, scope: Scope) -> None:
    if not request.user.is_authenticated:
        raise Unknown
    if scope is not Scope.STATS and not request.user.is_staff:
        raise NotAllowed


async def acheck(request: HttpRequest, scope: Scope) -> None:
    """`check` for an answer that does not end: no connection is kept for it. Raises AccessRefused."""
    await sync_to_async(_check_and_let_go)(request, scope)


def _check_and_let_go(request: HttpRequest, scope: Scope) -> None:
    try:
        check(request, scope)
    finally:
        # Django would keep it until the answer is at its end, which with a stream may be hours.
        close_old_connections()


def needs(scope: Scope) -> Callable[[View], View]:
    """Decorates a plain view that only those may ask who may do what `scope` names; others get JSON."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
            try:
                check(request, scope)
            except AccessRefused as refusal:
                return refused(refusal)
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def aneeds(
    scope: Scope,
) -> Callable[[AsyncView], AsyncView]:
    """`needs` for a view that is a coroutine and whose answer does not end."""

    def decorate(view: AsyncView) -> AsyncView:
        @wraps(view)
        async def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
            try:
                await acheck(request, scope)
            except AccessRefused as refusal:
                return refused(refusal)
            return await view(request, *args, **kwargs)

        return guarded

    return decorate


def refused(refusal: AccessRefused) -> JsonResponse:
    """The answer to whoever may not, as JSON."""
    headers = {"WWW-Authenticate": CHALLENGE} if refusal.status == 401 else {}
    return JsonResponse({"detail": str(refusal)}, status=refusal.status, headers=headers)


def key_of(request: HttpRequest) -> ApiKey | None:
    """The key that is sent with a request, None without one; looked up once. Raises KeyInvalid and what is below it.

    Other credentials than `Bearer` are none of ours: a proxy may ask for some of its own, and pass them on.
    """
    if not hasattr(request, "_api_key"):
        sent = _BEARER.fullmatch(request.headers.get("Authorization", "").strip())
        request._api_key = _valid((sent[1] or "").strip()) if sent else None  # type: ignore[attr-defined]
    key: ApiKey | None = request._api_key  # type: ignore[attr-defined]
    return key


def _valid(text: str) -> ApiKey:
    """The key with this text, whose use is noted. One that is wrong past its name is as unknown as any other."""
    key: ApiKey | None = ApiKey.objects.filter(prefix=text[:8]).first() if _KEY.fullmatch(text) else None
    if key is None or not key.is_valid(text):
        raise KeyInvalid
    if key.revoked:
        raise KeyRevoked
    if key.expiry_date and key.expiry_date <= now():
        raise KeyExpired
    _note_use(key)
    return key


def _note_use(key: ApiKey) -> None:
    """Write when a key was used last, once a minute; a request does not fail because that cannot be written."""
    at = now()
    if key.last_use and key.last_use > at - USE_KEPT:
        return
    try:
        # Of those that come at once, one writes.
        stale = Q(last_use=None) | Q(last_use__lte=at - USE_KEPT)
        ApiKey.objects.filter(stale, pk=key.pk).update(last_use=at)
    except DatabaseError as error:
        logger.warning("The last use of the API key %s cannot be noted: %s", key.prefix, sentence_of(error))


def service_token() -> str:
    """A token by which this service recognises its own requests: a load test reads the statistics with it."""
    return signing.TimestampSigner(salt=_SALT).sign("service")


def _is_service(token: str) -> bool:
    try:
        signing.TimestampSigner(salt=_SALT).unsign(token, max_age=SERVICE_TOKEN_SECONDS)
    except signing.BadSignature:
        return False
    return True


def _sent_by_another_site(request: HttpRequest) -> bool:
    """Whether a browser says so; without a login there is no CSRF token that could tell.

    By Sec-Fetch-Site, or where that is not sent, as to plain HTTP on a name that is not loopback, by Origin.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("none", "same-origin")
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc != request.get_host()
