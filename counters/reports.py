"""From the body of a `POST /hits/` to hits: what each item reports is checked, and like items share an origin. Pure."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from counters import useragents
from counters.countries import country_code
from counters.dimensions import LONGEST_ROUTE, Dimensions, Origin
from counters.hits import MOST_HITS_AT_ONCE, HitRefused, check_path, check_time
from counters.origins import LONGEST_CONSUMER, ConsumerInvalid, referrer_in
from counters.useragents import CONTROL_CHARACTERS

MOST_HITS = 10_000  # items of one body
LONGEST_VISITOR = 255

#: ISO 8601 with an offset, as RFC 3339 narrows it; seconds may be left out.
TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})"
)
#: A token (RFC 9110 section 5.6.2) without lower-case letters.
METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]{0,20}")
COUNTRY = re.compile(r"([A-Za-z]{2})?")

_DESCRIBED = ("method", "status", "consumer", "country", "referrer", "user_agent", "route")
_TYPES = {"path": str, "at": str, "n": int, "visitor": str} | dict.fromkeys(_DESCRIBED, str) | {"status": int}
_TYPE_NAMES = {str: "a text", int: "a whole number"}
#: What _DESCRIBED names, as it was sent.
_Description = tuple[Any, ...]

# The identities of live hits begin with an address.
_REPORTED = b"\x00"
_BLANK = " \t\r"


class BodyInvalid(HitRefused):
    """The body is no list of hits; the message says why."""


class TooManyHits(HitRefused):
    """A request has at most 10,000 hits."""

    status = 413


class FieldInvalid(HitRefused):
    """A field of an item is unknown, missing, or holds what cannot be counted; the message says which."""


class ItemRefused(HitRefused):
    """One of the items, counted from 0, cannot be counted, so none of them is."""

    def __init__(self, index: int, reason: object) -> None:
        super().__init__(f"Hit {index}: {reason}")
        self.index = index


class Report(NamedTuple):
    """`hits` like hits, checked."""

    at: datetime
    path: str
    origin: Origin
    hits: int


def items_of_list(body: bytes) -> list[Any]:
    """The items of a JSON list, unchecked. Raises BodyInvalid, TooManyHits."""
    items = _parsed(_decoded(body))
    if not isinstance(items, list):
        raise BodyInvalid("The body must be a JSON list of hits.")
    return _some(items)


def items_of_lines(body: bytes) -> list[Any]:
    """The items of NDJSON, unchecked; empty lines are none. Raises BodyInvalid, TooManyHits, ItemRefused."""
    lines = _some([line for line in _decoded(body).split("\n") if line.strip(_BLANK)])
    return [_parsed_line(index, line) for index, line in enumerate(lines)]


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise BodyInvalid("The body is not UTF-8.") from None


def _some(items: list[Any]) -> list[Any]:
    if not items:
        raise BodyInvalid("There are no hits in the body.")
    if len(items) > MOST_HITS:
        raise TooManyHits(TooManyHits.__doc__)
    return items


def _parsed_line(index: int, line: str) -> Any:
    try:
        return _parsed(line)
    except BodyInvalid as refusal:
        raise ItemRefused(index, refusal) from None


def _no_number(name: str) -> NoReturn:
    raise BodyInvalid(f"This is no JSON: {name} is no number.")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _parsed(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise BodyInvalid(f"This is no JSON: {error}.") from None
    except BodyInvalid:
        raise
    except (ValueError, RecursionError):
        raise BodyInvalid("A number has too many digits, or lists are nested too deeply.") from None


def reported(items: list[Any], now: datetime) -> Iterator[Report]:
    """The hits that items report; those without a time are of `now` (aware). Raises ItemRefused."""
    reader = _Reader(now)
    for index, item in enumerate(items):
        try:
            yield reader.read(item)
        except HitRefused as refusal:
            raise ItemRefused(index, refusal) from None


class _Kind:
    """What items with one description have in common; each visitor among them has one origin."""

    def __init__(self, described: _Description) -> None:
        self._dimensions = _dimensions(*described)
        self._origins: dict[str | None, Origin] = {}

    def origin(self, visitor: str | None) -> Origin:
        return self._origins.get(visitor) or self._learn(visitor)

    def _learn(self, visitor: str | None) -> Origin:
        origin = self._origins[visitor] = Origin(self._dimensions, _identity(visitor or ""))
        return origin


class _Reader:
    """Reads the items of one body; what like items have in common is worked out once."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._kinds: dict[_Description, _Kind] = {}

    def read(self, item: Any) -> Report:
        """Raises HitRefused."""
        _check_types(item)
        get = item.get
        path, at, hits = get("path"), get("at"), get("n")
        if path is None:
            raise FieldInvalid("There is no path.")
        described = tuple(map(get, _DESCRIBED))
        kind = self._kinds.get(described) or self._learn(described)
        return Report(
            self._now if at is None else check_time(_time(at), self._now),
            check_path(path),
            kind.origin(get("visitor")),
            1 if hits is None else _number(hits),
        )

    def _learn(self, described: _Description) -> _Kind:
        kind = self._kinds[described] = _Kind(described)
        return kind


def _check_types(item: Any) -> None:
    """Whether an item is an object of known fields, each null or of its type. True and 1.0 are no whole numbers."""
    if not isinstance(item, dict):
        raise FieldInvalid("Must be a JSON object.")
    for name, value in item.items():
        wanted = _TYPES.get(name)
        if wanted is None:
            raise FieldInvalid(f"There is no field {json.dumps(name[:100])}.")
        if value is not None and type(value) is not wanted:
            raise FieldInvalid(f"{name} must be {_TYPE_NAMES[wanted]}.")


def _time(text: str) -> datetime:
    try:
        if TIME.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:  # there is no such day or hour
        pass
    raise FieldInvalid("at must be a time with its offset, like 2026-03-01T14:30:00Z or 2026-03-01T14:30:00+01:00.")


def _number(hits: int) -> int:
    if not 1 <= hits <= MOST_HITS_AT_ONCE:
        raise FieldInvalid(f"n must be from 1 to {MOST_HITS_AT_ONCE:,}.")
    return hits


def _dimensions(
    method: str | None,
    status: int | None,
    consumer: str | None,
    country: str | None,
    referrer: str | None,
    user_agent: str | None,
    route: str | None,
) -> Dimensions:
    if not METHOD.fullmatch(method or ""):
        raise FieldInvalid("method must be a token of at most 20 characters, in capitals.")
    if status is not None and not 100 <= status <= 599:
        raise FieldInvalid("status must be from 100 to 599.")
    if not COUNTRY.fullmatch(country or ""):
        raise FieldInvalid("country must be two letters.")
    agent = useragents.agent(_encoded(user_agent or "")[: useragents.LONGEST_READ])
    came_from = referrer_in(_encoded(referrer or ""))
    return Dimensions(
        method=method or "",
        status=status,
        consumer=_label(consumer or "", LONGEST_CONSUMER, ConsumerInvalid.__doc__),
        country=country_code(country or ""),
        referrer=came_from.host,
        referrer_url=came_from.url,
        browser=agent.browser,
        os=agent.os,
        device=agent.device,
        bot=agent.bot,
        route=_label(route or "", LONGEST_ROUTE, "A route has at most 255 bytes and no control characters."),
    )


def _identity(visitor: str) -> bytes | None:
    """What tells a reported visitor apart, from those of live hits too."""
    label = _label(visitor, LONGEST_VISITOR, "A visitor has at most 255 bytes and no control characters.")
    return _REPORTED + label.encode() if label else None


def _label(text: str, longest: int, rule: str | None) -> str:
    if len(_encoded(text)) > longest or CONTROL_CHARACTERS.search(text):
        raise FieldInvalid(rule)
    return text


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise FieldInvalid("Half of a surrogate pair is no character.") from None
