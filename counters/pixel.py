"""The pixel, which web pages ask for to be counted: what its address says of a page view, and what it answers. Pure."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from counters import parameters
from counters.hits import HitRefused, check_path

ADDRESS = "/pixel.gif"
METHODS = ("GET", "HEAD", "POST")  # HEAD is answered and not counted; POST is what navigator.sendBeacon sends
NOT_ALLOWED = "{} is not counted, GET and POST are."
#: Whichever way it is asked for, what was counted is a page, which somebody has looked at.
COUNTED_AS = "GET"

#: GIF89a: one transparent pixel.
GIF = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
#: Of every answer: each request counts anew, and any site's page may send it and read what became of it.
HEADERS = {
    "Cache-Control": "no-store",
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}

Headers = list[tuple[bytes, bytes]]

_PARAMETERS = ("path", "referrer")


class ParametersInvalid(HitRefused):
    """The pixel's parameters do not tell of a page view; `faults` says by name what is wrong with each."""

    def __init__(self, faults: dict[str, list[str]]) -> None:
        super().__init__(f"These parameters are wrong: {', '.join(faults)}.")
        self.faults = faults

    @property
    def problem(self) -> dict[str, Any]:
        return self.faults


class PageView(NamedTuple):
    """A page's path, and the referrer that its script or author tells; empty when unknown."""

    path: str
    referrer: bytes

    def headers(self, sent: Collection[tuple[bytes, bytes]]) -> Headers:
        """The pixel's headers as those of the page would be: the pixel's own referrer is the page itself."""
        return [*[header for header in sent if header[0] != b"referer"], (b"referer", self.referrer)]


def page_view(query: bytes) -> PageView:
    """What the query of the pixel's address tells. Raises ParametersInvalid, PathTooLong, PathInvalid.

    Values are percent-decoded once, and a + is a plus: in a path's own encoding it is no space.
    """
    given = _values(query)
    faults = parameters.faults(given, _PARAMETERS)
    if not any(given["path"]):
        faults.setdefault("path", ["Must be given: the path of the page."])
    if faults:
        raise ParametersInvalid(faults)
    [path], [referrer] = given["path"], given["referrer"] or [b""]
    return PageView(check_path(path.decode("latin-1")), referrer)


def _values(query: bytes) -> dict[str, list[bytes]]:
    """All that is given for each parameter: a list, which is empty for those that are not there."""
    given: dict[str, list[bytes]] = defaultdict(list)
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if pair:
            given[unquote_to_bytes(name).decode(errors="replace")].append(unquote_to_bytes(value))
    return given
