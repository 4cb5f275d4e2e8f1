"""What a request may ask of the statistics, checked: DRF serializers of the query string."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.settings import api_settings

from counters.hits import HitRefused, check_path
from counters.stats import Position

MOST_ROWS = 10_000
LONGEST_CURSOR = 8_192  # a path of 2,048 bytes with each escaped in JSON, in base64


class PrefixField(serializers.CharField):
    """The beginning of counted paths."""

    def to_internal_value(self, data: Any) -> str:
        prefix: str = super().to_internal_value(data)
        try:
            return check_path(prefix)
        except HitRefused as refusal:
            raise serializers.ValidationError(str(refusal)) from refusal


class PositionField(serializers.Field[Position, str, str, Any]):
    """Where the page before ended. Opaque to clients: they follow the link that holds it."""

    def to_internal_value(self, data: str) -> Position:
        if len(data) > LONGEST_CURSOR:
            raise serializers.ValidationError("Must be the cursor of a next link.")
        try:
            hits, path = json.loads(urlsafe_b64decode(data.encode()))
            return Position(_at_least_one(hits), check_path(path))
        except (ValueError, TypeError, RecursionError, binascii.Error) as error:
            raise serializers.ValidationError("Must be the cursor of a next link.") from error

    def to_representation(self, value: Position) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).decode()


def _at_least_one(hits: Any) -> int:
    if not isinstance(hits, int) or not 0 < hits < 2**63:
        raise ValueError(hits)
    return hits


def asked_by(request: Request, query: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """What the query string asks, checked by `query`. Raises ValidationError, which names each bad parameter."""
    given = request.query_params.dict()
    serializer = query(data=given)
    unknown = given.keys() - serializer.fields.keys() - {api_settings.URL_FORMAT_OVERRIDE}
    if unknown:
        raise serializers.ValidationError({name: ["There is no such parameter."] for name in sorted(unknown)})
    serializer.is_valid(raise_exception=True)
    asked: dict[str, Any] = serializer.validated_data
    return asked


class RankingQuery(serializers.Serializer[Any]):
    """`?limit=` rows of a page, all when it is left out; `?prefix=` of the paths; `?cursor=` from a next link."""

    limit = serializers.IntegerField(required=False, default=None, min_value=1, max_value=MOST_ROWS)
    prefix = PrefixField(required=False, default="", allow_blank=True, trim_whitespace=False)
    cursor = PositionField(required=False, default=None)

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["cursor"] and asked["limit"] is None:
            raise serializers.ValidationError({"limit": ["A cursor needs a limit: it is a place between pages."]})
        return asked
