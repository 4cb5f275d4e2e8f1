"""What a request may ask of the statistics, checked: DRF serializers of the query string."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.http import QueryDict
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.settings import api_settings

from counters import parameters, periods
from counters.dimensions import NAMES, REFERRER_URL
from counters.hits import MAX_PATH_BYTES, HitRefused, check_path
from counters.stats import Position, Question

MOST_ROWS = 10_000
MOST_DEPTH = 32
MOST_CHARACTERS = 2_048  # of a dimension's value
LONGEST_CURSOR = 8_192  # a path of 2,048 bytes with each escaped in JSON, in base64

DIMENSIONS = (*NAMES, REFERRER_URL)

#: What values of a dimension look like, and what is said of others.
_FORMS = {
    "status": (r"^[1-5][0-9]{2}\Z", "Must be a number from 100 to 599, or empty."),
    "country": (r"^[A-Z]{2}\Z", "Must be two capital letters, such as DE, or empty."),
}

_PATH_SCHEMA = {"type": "string", "maxLength": MAX_PATH_BYTES, "pattern": r"^/[!-~]*$"}


@extend_schema_field(_PATH_SCHEMA)
class PathField(serializers.CharField):
    """A counted path, byte for byte."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        path: str = super().to_internal_value(data)
        try:
            return check_path(path)
        except HitRefused as refusal:
            raise serializers.ValidationError(str(refusal)) from refusal


class PrefixField(PathField):
    """The beginning of counted paths."""


@extend_schema_field({"type": "string", "pattern": f"^{periods.MOMENT.pattern}$", "examples": ["2026-03-01"]})
class MomentField(serializers.CharField):
    """An ISO date or time. Which it is depends on the time zone: `_period` tells."""

    def __init__(self, help_text: str) -> None:
        super().__init__(required=False, default=None, help_text=help_text)


@extend_schema_field({"type": "string", "examples": ["Europe/Berlin"]})
class ZoneField(serializers.CharField):
    """The IANA name of a time zone, which becomes the zone."""

    def __init__(self) -> None:
        utc: Any = periods.zone("UTC")
        help_text = "the time zone of dates, of times without an offset, and of days, weeks and months"
        super().__init__(required=False, default=utc, help_text=help_text)

    def to_internal_value(self, data: Any) -> Any:
        try:
            return periods.zone(super().to_internal_value(data))
        except periods.PeriodInvalid as error:
            raise serializers.ValidationError(str(error)) from error


def _filter(dimension: str) -> serializers.Field[Any, Any, Any, Any]:
    """The field of a filter on this dimension, whose values are texts as /stats/by/ gives them."""
    help_text = f"only hits with this {dimension}; empty: with an unknown one"
    if dimension == "bot":
        return serializers.ChoiceField(["true", "false"], required=False, help_text="only hits of bots, or of people")
    if dimension in _FORMS:
        pattern, fault = _FORMS[dimension]
        return serializers.RegexField(
            pattern,
            required=False,
            allow_blank=True,
            trim_whitespace=False,
            error_messages={"invalid": fault},
            help_text=help_text,
        )
    return serializers.CharField(
        required=False, allow_blank=True, trim_whitespace=False, max_length=MOST_CHARACTERS, help_text=help_text
    )


class Query(serializers.Serializer[Any]):
    """What every question takes: a period in a time zone, and filters on dimensions. It becomes a `question`."""

    tz = ZoneField()

    def get_fields(self) -> dict[str, Any]:
        return {**super().get_fields(), **{name: _filter(name) for name in DIMENSIONS}}

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        prefix, path = asked.get("prefix", ""), asked.get("path", "")
        if prefix and path:
            raise serializers.ValidationError({"path": ["Either a prefix or a path, not both."]})
        filters = {name: asked[name] for name in DIMENSIONS if name in asked}
        asked["question"] = Question(period=self.asked_period(asked), prefix=prefix, path=path, filters=filters)
        checked: dict[str, Any] = super().validate(asked)
        return checked

    def asked_period(self, asked: dict[str, Any]) -> periods.Period:
        raise NotImplementedError


class PeriodQuery(Query):
    """A question whose period is told by two times."""

    to = MomentField("until before this date or time; without it, until now")

    def get_fields(self) -> dict[str, Any]:
        # Python has another use for the word `from`.
        since = MomentField("from this date or time on; without it, from the first hit on")
        fields = super().get_fields()
        return {"from": since, "to": fields.pop("to"), **fields}

    def asked_period(self, asked: dict[str, Any]) -> periods.Period:
        start, end = moment_of("from", asked), moment_of("to", asked)
        if start and end and end < start:
            raise serializers.ValidationError({"to": ["Must not be before from."]})
        return periods.Period(start, end, asked["tz"])


def moment_of(name: str, asked: dict[str, Any]) -> datetime | None:
    """The instant that a parameter names, None without it. Raises ValidationError."""
    try:
        return None if asked[name] is None else periods.moment(asked[name], asked["tz"])
    except periods.PeriodInvalid as error:
        raise serializers.ValidationError({name: [str(error)]}) from error


class PathsQuery(PeriodQuery):
    """A question about the paths with a prefix, or about one path."""

    prefix = PrefixField(required=False, default="", allow_blank=True, help_text="only paths that begin with this")
    path = PathField(required=False, help_text="only this path; not together with a prefix")


@extend_schema_field(str)
class PositionField(serializers.Field[Position, str, str, Any]):
    """Where the page before ended, by hits and path. Opaque to clients: they follow the link that holds it."""

    def to_internal_value(self, data: str) -> Position:
        if len(data) > LONGEST_CURSOR:
            raise serializers.ValidationError("Must be the cursor of a next link.")
        try:
            hits, name = json.loads(urlsafe_b64decode(data.encode()))
            return Position(_at_least_one(hits), self.checked(name))
        except (ValueError, TypeError, RecursionError, binascii.Error) as error:
            raise serializers.ValidationError("Must be the cursor of a next link.") from error

    def checked(self, name: Any) -> str:
        return check_path(name)

    def to_representation(self, value: Position) -> str:
        return urlsafe_b64encode(json.dumps(value, ensure_ascii=False).encode()).decode()


class ValuePositionField(PositionField):
    """Where the page before ended, by hits and a dimension's value."""

    def checked(self, name: Any) -> str:
        if not isinstance(name, str) or len(name) > MOST_CHARACTERS or "\x00" in name:
            raise ValueError(name)
        name.encode()  # refuses half a surrogate pair, which the database would
        return name


def _at_least_one(hits: Any) -> int:
    if not isinstance(hits, int) or not 0 < hits < 2**63:
        raise ValueError(hits)
    return hits


class Paged(serializers.Serializer[Any]):
    """`?limit=` rows of a page, all when it is left out; `?cursor=` from a next link."""

    limit = serializers.IntegerField(
        required=False, default=None, min_value=1, max_value=MOST_ROWS, help_text="rows of a page; without it, all"
    )
    cursor: serializers.Field[Any, Any, Any, Any] = PositionField(
        required=False, default=None, help_text="where a page begins: comes with the Link header"
    )

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["cursor"] and asked["limit"] is None:
            raise serializers.ValidationError({"limit": ["A cursor needs a limit: it is a place between pages."]})
        return asked


class RankingQuery(PathsQuery, Paged):
    """GET /stats/."""


class TotalQuery(PathsQuery):
    """GET /stats/total/."""

    compare = serializers.ChoiceField(
        ["previous"], required=False, default=None, help_text="beside it, the period as long that ends where it begins"
    )

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["compare"] and asked["from"] is None:
            raise serializers.ValidationError({"from": ["A comparison needs it: else there is no period before."]})
        return super().validate(asked)


class IntervalField(serializers.ChoiceField):
    """The length of a series' intervals."""

    def __init__(self) -> None:
        super().__init__(
            periods.INTERVALS, required=False, default="day", help_text="of the calendar; a week begins on Monday"
        )


class SeriesQuery(PathsQuery, Paged):
    """GET /stats/series/."""

    interval = IntervalField()
    cursor = serializers.IntegerField(
        required=False,
        default=None,
        min_value=1,
        max_value=periods.MOST_BUCKETS,
        help_text="where a page begins: comes with the Link header",
    )


class SharesQuery(PathsQuery, Paged):
    """GET /stats/by/<dimension>/."""

    cursor = ValuePositionField(
        required=False, default=None, help_text="where a page begins: comes with the Link header"
    )


class TreeQuery(PeriodQuery, Paged):
    """GET /stats/tree/."""

    prefix = PrefixField(required=False, default="/", help_text="the path whose children are asked for")
    depth = serializers.IntegerField(
        required=False, default=1, min_value=1, max_value=MOST_DEPTH, help_text="how many levels below the prefix"
    )


class PathQuery(PeriodQuery):
    """GET /stats/path/."""

    path = PathField(help_text="the path, byte for byte")
    interval = IntervalField()


def asked_by(request: Request, query: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """What the query string asks, checked by `query`. Raises ValidationError, which names each bad parameter."""
    return checked(request.query_params, query, {str(api_settings.URL_FORMAT_OVERRIDE)})


def checked(given: QueryDict, query: type[serializers.Serializer[Any]], others: Collection[str] = ()) -> dict[str, Any]:
    """What parameters ask, checked by `query`; `others` may be there too. Raises ValidationError."""
    serializer = query(data=given.dict())
    wrong = parameters.faults(dict(given.lists()), {*serializer.fields, *others})
    if wrong:
        raise serializers.ValidationError(wrong)
    serializer.is_valid(raise_exception=True)
    asked: dict[str, Any] = serializer.validated_data
    return asked
