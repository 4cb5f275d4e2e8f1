"""Who sends the requests that Django answers: where each comes from, as the settings have it."""

from functools import cache

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from counters import conf
from counters.addresses import Address
from counters.origins import Origins


@cache
def origins() -> Origins:
    """What tells where requests come from; made once, where requests are answered."""
    return Origins.configured(
        consumer_header=_setting(conf.CONSUMER_HEADER),
        country_header=_setting(conf.COUNTRY_HEADER),
        forwarded_header=_setting(conf.FORWARDED_HEADER),
        trusted_proxies=_setting(conf.TRUSTED_PROXIES),
        geoip_database=_setting(conf.GEOIP_DATABASE),
    )


def address_of(request: HttpRequest) -> Address | None:
    """The client's address, whatever it claims itself; None when there is none, as at a socket of the file system."""
    return origins().address(headers_of(request), request.META.get("REMOTE_ADDR"))


def headers_of(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    """The headers as ASGI gives them: names in lower case, all as bytes. WSGI joins those of one name."""
    if isinstance(request, ASGIRequest):
        return list(request.scope["headers"])
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.items()]


def without_consumer(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers that name no consumer."""
    name = _setting(conf.CONSUMER_HEADER).lower().encode()
    return [header for header in headers if header[0] != name]


def _setting(text: conf.Text) -> str:
    """Another project that has installed the app may not have set it."""
    return str(getattr(settings, text.name, text.default))
