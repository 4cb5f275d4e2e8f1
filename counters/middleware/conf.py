"""The settings of the project whose requests are counted; docs/middleware.md documents them in one table."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.module_loading import import_string

from counters.middleware.request import consumer_header

DEFAULT_SPOOL = ".hitcounter-spool"
DEFAULT_SPOOL_MB = 100

Consumer = Callable[[HttpRequest], str]


def url() -> str:
    """HITCOUNTER_URL."""
    value = getattr(settings, "HITCOUNTER_URL", None)
    if not value:
        raise ImproperlyConfigured("HITCOUNTER_URL must be set to the address of the Hit Counter that counts requests.")
    # Without the value, which may hold a secret.
    if not _is_address(value):
        raise ImproperlyConfigured("HITCOUNTER_URL must be like https://counts.example.org, without a query.")
    if "@" in urlsplit(value).netloc:
        raise ImproperlyConfigured(
            "HITCOUNTER_URL must hold no name and no password: the service knows who sends hits by HITCOUNTER_KEY."
        )
    return str(value)


def key() -> str:
    """HITCOUNTER_KEY; "" without one."""
    value = getattr(settings, "HITCOUNTER_KEY", None) or ""
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]*", value):
        raise ImproperlyConfigured("HITCOUNTER_KEY must be an API key of the Hit Counter, as it was shown.")
    return value


def _is_address(value: object) -> bool:
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        return (
            parts is not None
            and parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0  # read to see whether it is a number
            and not parts.query
            and not parts.fragment
        )
    except ValueError:
        return False


def spool() -> Path:
    """HITCOUNTER_SPOOL."""
    value = getattr(settings, "HITCOUNTER_SPOOL", None)
    if value is None and hasattr(settings, "BASE_DIR"):
        value = Path(settings.BASE_DIR) / DEFAULT_SPOOL
    if not value or not isinstance(value, str | Path):
        raise ImproperlyConfigured("HITCOUNTER_SPOOL must be a directory, unless there is a BASE_DIR to put one in.")
    return Path(value).absolute()


def spool_bytes() -> int:
    """HITCOUNTER_SPOOL_MB, in bytes."""
    value = getattr(settings, "HITCOUNTER_SPOOL_MB", DEFAULT_SPOOL_MB)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ImproperlyConfigured(f"HITCOUNTER_SPOOL_MB must be a positive number, not {value!r}.")
    return int(value * 1_000_000)


def consumer() -> Consumer:
    """HITCOUNTER_CONSUMER."""
    dotted = getattr(settings, "HITCOUNTER_CONSUMER", None)
    if dotted is None:
        return consumer_header
    try:
        found: Consumer = import_string(dotted)
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"HITCOUNTER_CONSUMER: {error}") from error
    if not callable(found):
        raise ImproperlyConfigured(f"HITCOUNTER_CONSUMER: {dotted} is not a function of a request.")
    if iscoroutinefunction(found):
        raise ImproperlyConfigured(f"HITCOUNTER_CONSUMER: {dotted} must not be async.")
    return found
