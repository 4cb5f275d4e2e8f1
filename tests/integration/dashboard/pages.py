"""What a client without a browser sees of the pages."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser

from django.test import Client

from counters import maintenance
from tests.counting import hit
from tests.oracle import drop_days

NOW = datetime(2026, 3, 3, 12, 30, tzinfo=UTC)
#: Of each page, an address that shows something.
PAGES = ["/", "/paths/", "/path/?path=/api/shop/a", "/tree/", "/by/country/", "/live/", "/loadtests/"]
NARROWED = PAGES[:5]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = {"a": "href", "img": "src", "link": "href", "script": "src"}
        self.found += [value for name, value in attributes if names.get(tag) == name and value]


def links(page: str) -> list[str]:
    parser = _Links()
    parser.feed(page)
    return parser.found


def text(page: str) -> str:
    """What can be read on a page, with single spaces."""
    without = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", page)
    return " ".join(unescape(without).split())


def rows(page: str) -> list[tuple[str, int]]:
    """The rows of the first list: name and hits."""
    found = re.findall(
        r"<bdi[^>]*>([^<]*)</bdi></a></th>(.*?)</tr>", page.partition("</table>")[0].rpartition("<tbody>")[2]
    )
    return [
        (unescape(name), int(re.findall(r"<td>([\d,]+)</td>", cells)[-1].replace(",", ""))) for name, cells in found
    ]


def asks(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, (address, text(answer.text))
    return answer.text


def with_query(page: str, query: str) -> str:
    return f"{page}{'&' if '?' in page else '?'}{query}"


def keep(hits_days: int = 30, hours_days: int = 400) -> None:
    """What housekeeping leaves of the hits that a test has made."""
    list(maintenance.maintain(NOW, keep_hits_days=hits_days, keep_hours_days=hours_days))


@contextmanager
def hits_of_eleven_years() -> Iterator[None]:
    """Of which those of the last 30 days are kept one by one, and hours of 400 days; gone when asked for again."""
    drop_days()
    for day in ("2015-05-18", "2024-12-31", "2025-11-01", "2026-01-15", "2026-02-10", "2026-03-02"):
        for hour in (10, 22):
            hit("/api/shop/a", f"{day}T{hour}:15", 2, b"ann", country="DE", consumer="acme")
            hit("/api/shop/b", f"{day}T{hour}:45", 1, b"bob", country="FR")
    keep()
    yield
    drop_days()
