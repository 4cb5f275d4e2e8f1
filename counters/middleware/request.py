"""From a request and its answer to a hit, as `POST /hits/` takes it. Pure.

What is written to disk and sent holds no address, and nothing that the service would refuse.
"""

import re
from datetime import date, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Required, TypedDict
from urllib.parse import quote, quote_from_bytes

from django.conf import settings
from django.http import HttpRequest

LONGEST_PATH = 2048
LONGEST_CONSUMER = 255
LONGEST_ROUTE = 255
LONGEST_REFERRER = 2048
LONGEST_USER_AGENT = 512

_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
_METHOD = re.compile(r"[A-Z-]{1,20}")  # what others a client may think up is left unknown
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: Scheme; user and password; the rest up to query or fragment.
_REFERRER = re.compile(r"([a-z-]+://)(?:[^/?#]*@)?([^?#]+)")
#: Who sends one of these wishes not to be recognised (Global Privacy Control, and Do Not Track before it).
_UNIDENTIFIED = ("HTTP_SEC_GPC", "HTTP_DNT")


class Hit(TypedDict, total=False):
    """A line of `POST /hits/`; what is unknown is left out."""

    path: Required[str]
    at: Required[str]
    method: str
    status: int
    route: str
    consumer: str
    referrer: str
    user_agent: str
    visitor: str


class PathTooLong(ValueError):
    """The path is longer than 2,048 bytes."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def hit_of(request: HttpRequest, status: int | None, consumer: str, at: datetime) -> Hit:
    """The hit that a request was. `status` is None when it was not answered; `at` is in UTC. Raises PathTooLong."""
    user_agent = _text(_header(request, "HTTP_USER_AGENT"), LONGEST_USER_AGENT)
    hit = Hit(path=_path(request), at=at.isoformat())
    if _METHOD.fullmatch(request.method or ""):
        hit["method"] = str(request.method)
    if status is not None and 100 <= status <= 599:
        hit["status"] = status
    if request.resolver_match is not None:
        hit["route"] = _text(f"/{request.resolver_match.route}", LONGEST_ROUTE)
    if consumer := _text(consumer, LONGEST_CONSUMER):
        hit["consumer"] = consumer
    if referrer := _referrer(_header(request, "HTTP_REFERER")):
        hit["referrer"] = referrer
    if user_agent:
        hit["user_agent"] = user_agent
    if (visitor := _visitor(request, user_agent, at.date())) is not None:
        hit["visitor"] = visitor
    return hit


def consumer_header(request: HttpRequest) -> str:
    """Whom a gateway names in the header X-Consumer."""
    return _header(request, "HTTP_X_CONSUMER")


def requested_path(request: HttpRequest) -> str:
    """The request target as it was sent, without its query.

    ASGI servers, gunicorn, uWSGI and Apache hand it on as it came. Others (Django's runserver) hand on only the decoded
    path, which is then encoded anew: there, `%2F` and `/` are the same.
    """
    scope: dict[str, Any] = getattr(request, "scope", {})
    if raw_path := scope.get("raw_path"):
        return str(raw_path.decode("latin-1"))
    if target := request.META.get("RAW_URI") or request.META.get("REQUEST_URI"):
        return str(target).partition("?")[0]
    return _encoded(request.path)


def _encoded(path: str) -> str:
    return quote(path, safe="/!$&'()*+,;=:@~")


def _path(request: HttpRequest) -> str:
    path = requested_path(request)
    if not path.startswith("/"):  # an absolute URL, or *: RFC 9112 section 3.2
        path = f"/{_encoded(request.path).lstrip('/')}"
    path = quote_from_bytes(path.encode("latin-1", "replace"), safe=_VISIBLE)
    if len(path) > LONGEST_PATH:
        raise PathTooLong
    return path


def _header(request: HttpRequest, name: str) -> str:
    """HTTP says nothing of a header's encoding: UTF-8 if it can be, else Latin-1, as WSGI has it."""
    value = str(request.META.get(name, ""))
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _text(value: str, longest: int) -> str:
    """A text without control characters and lone surrogates, cut to so many bytes."""
    text = _CONTROL_CHARACTERS.sub("", value).strip()
    return text.encode("utf-8", "replace")[:longest].decode("utf-8", "ignore")


def _referrer(value: str) -> str:
    """Without user, query and fragment, which may hold what is nobody's business."""
    parts = _REFERRER.match(value)
    return _text(parts[1] + parts[2], LONGEST_REFERRER) if parts else ""


def _visitor(request: HttpRequest, user_agent: str, day: date) -> str | None:
    """What tells visitors apart on one UTC day; None for one who must not be, or cannot be, identified."""
    address = request.META.get("REMOTE_ADDR")
    if not address or any(request.META.get(name, "").strip() == "1" for name in _UNIDENTIFIED):
        return None
    identity = f"{address}\0{user_agent}".encode("utf-8", "replace")
    return blake2b(identity, key=_visitor_key(settings.SECRET_KEY, day), digest_size=16).hexdigest()


@lru_cache(2)
def _visitor_key(secret: str | bytes, day: date) -> bytes:
    secret = secret if isinstance(secret, bytes) else secret.encode()
    return blake2b(f"hitcounter visitors of {day}".encode(), key=blake2b(secret).digest()).digest()
