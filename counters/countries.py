"""The country that a request comes from: as a CDN says, or as a database of addresses does. Pure."""

import re
from collections.abc import Mapping

from maxminddb import InvalidDatabaseError, Reader, open_database

from counters.addresses import Address

_CODE = re.compile(r"[A-Za-z]{2}")
#: What stands for "unknown" among the two-letter codes: Cloudflare says XX, Google ZZ; ISO 3166-1 leaves both to users.
_UNKNOWN = ("XX", "ZZ")


def country_code(text: str) -> str:
    """An ISO 3166-1 code of two letters in upper case; "" for what is none.

    Cloudflare's T1 (the Tor network) is no country either: where its users are is what nobody knows.
    """
    if not _CODE.fullmatch(text.strip()):  # before it is made upper case, which makes SS of ß
        return ""
    code = text.strip().upper()
    return "" if code in _UNKNOWN else code


def open_countries(path: str) -> Reader:
    """Open a database of countries or cities in MaxMind's format. Raises ValueError with a sentence."""
    try:
        return open_database(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except (InvalidDatabaseError, ValueError):
        raise ValueError(f"{path} is no database in MaxMind's format.") from None


def country_at(address: Address | None, database: Reader | None) -> str:
    """The country where `address` is, "" if the database does not tell.

    That is its `country`. The `registered_country`, where the network was registered, is no substitute: the entries
    that have nothing else, such as satellites and anonymous proxies, are those whose users are anywhere.
    """
    if address is None or database is None:
        return ""
    try:
        found = database.get(address)
    except (InvalidDatabaseError, ValueError):  # damaged just there, or IPv6 in a database of IPv4 addresses
        return ""
    country = found.get("country") if isinstance(found, Mapping) else None
    code = country.get("iso_code") if isinstance(country, Mapping) else None
    return country_code(code) if isinstance(code, str) else ""
