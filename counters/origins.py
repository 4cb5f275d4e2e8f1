"""From a request's headers and peer to its origin: the dimensions of the hit, and what tells its visitor apart. Pure.

Headers are the client's to choose, except those that a gateway, proxy or CDN in front of the service sets or removes.
Whatever they hold, the hit is counted; only a consumer that cannot be written is refused. No address leaves this module
but in `Origin.identity`, and none is logged.
"""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from maxminddb import Reader

from counters import addresses, countries, useragents
from counters.addresses import Address, TrustedProxies
from counters.dimensions import Dimensions, Origin
from counters.hits import HitRefused
from counters.useragents import CONTROL_CHARACTERS

Headers = tuple[tuple[bytes, bytes], ...]
K = TypeVar("K")
V = TypeVar("V")
#: What all but the address tells: the method and the headers that matter.
_Description = tuple[str, Headers]
#: With the peer's address, and what proxies say of the client's.
_Key = tuple[_Description, str | None, tuple[bytes, ...]]

LONGEST_CONSUMER = 255
LONGEST_REFERRER = 2048
_LONGEST_HOST = 255

#: Origins that are remembered, at some 2 kB each; when there are more, it begins anew.
MOST_REMEMBERED = 8192
#: Headers longer than this in sum are not remembered, so that nobody fills the memory with them.
LONGEST_REMEMBERED = 2048
_MOST_REFERRERS_REMEMBERED = 1024

_REFERRER_SCHEMES = ("http", "https", "android-app")
_HOST = re.compile(r"[\w.-]+|[\da-f:.]+")
_USER_AGENT, _REFERER = b"user-agent", b"referer"
#: Who sends one of these wishes not to be recognised (Global Privacy Control, and Do Not Track before it).
_UNIDENTIFIED = ((b"sec-gpc", b"1"), (b"dnt", b"1"))


class ConsumerInvalid(HitRefused):
    """A consumer's name has at most 255 bytes and no control characters."""


class Referrer(NamedTuple):
    """Where a link was followed; empty strings when unknown."""

    host: str = ""
    url: str = ""


class Kind(NamedTuple):
    """What requests with one description have in common, whoever sends them."""

    dimensions: Dimensions
    user_agent: bytes
    unidentified: bool


class Origins:
    """Tells where requests come from, as configured; like requests get the same object as long as it is remembered."""

    def __init__(
        self,
        *,
        consumer_header: str,
        country_header: str,
        forwarded_header: str,
        trusted_proxies: TrustedProxies,
        countries_database: Reader | None,
    ) -> None:
        self._consumer_header = consumer_header
        self._consumer, self._country = consumer_header.lower().encode(), country_header.lower().encode()
        self._forwarded, self._nodes = forwarded_header.lower().encode(), addresses.NODES[forwarded_header.lower()]
        self._proxies = trusted_proxies
        self._database = countries_database
        names = {_USER_AGENT, _REFERER, self._consumer, self._country, *(name for name, _ in _UNIDENTIFIED)}
        self._wanted = frozenset(names - {b""})
        # What nobody is believed to say must not part like requests.
        self._trusting = trusted_proxies != TrustedProxies()
        self._kinds: dict[_Description, Kind] = {}
        self._remembered: dict[_Key, Origin] = {}
        useragents.resolver()  # loaded here, not while the first hit waits

    @classmethod
    def configured(
        cls,
        *,
        consumer_header: str,
        country_header: str,
        forwarded_header: str,
        trusted_proxies: str,
        geoip_database: str,
    ) -> "Origins":
        """From the settings' values as they stand in the environment. Raises ValueError with a sentence."""
        return cls(
            consumer_header=consumer_header,
            country_header=country_header,
            forwarded_header=forwarded_header,
            trusted_proxies=TrustedProxies.parse(trusted_proxies),
            countries_database=countries.open_countries(geoip_database) if geoip_database else None,
        )

    def of(self, method: str, headers: Collection[tuple[bytes, bytes]], peer: str | None) -> Origin:
        """Where a request comes from: ASGI's headers, their names in lower case, and the address that it came from.

        Called once per hit: nothing is looked into here that was seen before. Raises ConsumerInvalid.
        """
        wanted = self._wanted
        described = (method, tuple([header for header in headers if header[0] in wanted]))
        forwarded = self._forwarded
        claimed = tuple([value for name, value in headers if name == forwarded]) if self._trusting else ()
        key = (described, peer, claimed)
        return self._remembered.get(key) or self._learn(key)

    def _learn(self, key: _Key) -> Origin:
        """The origin of a request from somebody new, which mostly is of a kind that has been seen."""
        described, peer, claimed = key
        kind = self._kinds.get(described) or self._describe(described)
        address = self._address(peer, claimed)
        dimensions = kind.dimensions
        if not dimensions.country and self._database is not None:
            dimensions = dimensions._replace(country=countries.country_at(address, self._database))
        origin = Origin(dimensions, None if kind.unidentified else _identity(address, kind.user_agent))
        if sum(map(len, claimed)) + sum(len(value) for _, value in described[1]) <= LONGEST_REMEMBERED:
            _remember(self._remembered, key, origin)
        return origin

    def address(self, headers: Collection[tuple[bytes, bytes]], peer: str | None) -> Address | None:
        """The address of a request's client, whom proxies speak for as far as they are trusted."""
        return self._address(peer, [value for name, value in headers if name == self._forwarded])

    def _address(self, peer: str | None, claimed: Sequence[bytes]) -> Address | None:
        nodes = self._nodes([value.decode("latin-1") for value in claimed])
        return addresses.client_address(peer, nodes, self._proxies)

    def _describe(self, described: _Description) -> Kind:
        method, headers = described
        values = dict(headers)  # of a header that was sent twice, the last: a gateway adds its own at the end
        user_agent = values.get(_USER_AGENT, b"")[: useragents.LONGEST_READ]
        agent = useragents.agent(user_agent)
        referrer = referrer_in(values.get(_REFERER, b""))
        dimensions = Dimensions(
            method=method,
            consumer=self._consumer_in(values),
            country=countries.country_code(values.get(self._country, b"").decode("latin-1")),
            referrer=referrer.host,
            referrer_url=referrer.url,
            browser=agent.browser,
            os=agent.os,
            device=agent.device,
            bot=agent.bot,
        )
        kind = Kind(dimensions, user_agent, _is_unidentified(headers))
        if sum(len(value) for _, value in headers) <= LONGEST_REMEMBERED:
            _remember(self._kinds, described, kind)
        return kind

    def _consumer_in(self, values: dict[bytes, bytes]) -> str:
        value = values.get(self._consumer, b"").strip(b" \t")
        name = _decoded(value)
        if len(value) > LONGEST_CONSUMER or CONTROL_CHARACTERS.search(name):
            raise ConsumerInvalid(f"{self._consumer_header}: {ConsumerInvalid.__doc__}")
        return name


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    if len(memory) >= MOST_REMEMBERED:
        memory.clear()
    memory[key] = value


def _decoded(value: bytes) -> str:
    """HTTP says nothing of a header's encoding: UTF-8 if it can be, else Latin-1, which anything can be."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _is_unidentified(headers: Headers) -> bool:
    return any((name, value.strip()) in _UNIDENTIFIED for name, value in headers)


def _identity(address: Address | None, user_agent: bytes) -> bytes | None:
    return None if address is None else b"%s\x00%s" % (str(address).encode(), user_agent)


def referrer_in(value: bytes) -> Referrer:
    """The referrer without what follows its path: a query may hold what is nobody's business, and nearly every one is
    a value of its own. One whose path is too long is cut to its host; an unusable one is unknown."""
    address = re.split(rb"[?#]", value, maxsplit=1)[0]
    return _split_referrer(address.strip(b" \t"))


@lru_cache(_MOST_REFERRERS_REMEMBERED)
def _split_referrer(value: bytes) -> Referrer:
    text = _decoded(value)
    if CONTROL_CHARACTERS.search(text):
        return Referrer()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return Referrer()
    if parts.scheme not in _REFERRER_SCHEMES or len(host) > _LONGEST_HOST or not _HOST.fullmatch(host):
        return Referrer()
    site = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{'' if port is None else f':{port}'}"
    url = f"{site}{parts.path or '/'}"
    return Referrer(host, url if len(url.encode()) <= LONGEST_REFERRER else f"{site}/")
