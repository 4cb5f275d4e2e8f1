"""What the statistics answer: DRF serializers of one object each. A list's columns are the fields of its rows."""

from datetime import datetime
from typing import Any

from rest_framework import serializers


class AtField(serializers.DateTimeField):
    """A time as the clocks of the question's zone show it, ISO 8601 with offset; `tz` is in the context."""

    def to_representation(self, value: Any) -> str:
        return local(value, self.context["tz"])


def local(at: datetime, tz: Any) -> str:
    """ISO 8601 with the offset of `tz`."""
    return at.astimezone(tz).isoformat()


class Row(serializers.Serializer[Any]):
    """A path and its count in the period."""

    path = serializers.CharField()
    count = serializers.IntegerField(min_value=1)


class Figures(serializers.Serializer[Any]):
    """Hits, visitors (told apart within each UTC day, and added up over days) and distinct paths."""

    hits = serializers.IntegerField(min_value=0)
    visitors = serializers.IntegerField(min_value=0)
    paths = serializers.IntegerField(min_value=0)


class Total(Figures):
    """The figures of a period; `previous` is there when a comparison was asked for."""

    previous = Figures(required=False)


class Point(serializers.Serializer[Any]):
    """The interval that begins at `at`."""

    at = AtField()
    hits = serializers.IntegerField(min_value=0)
    visitors = serializers.IntegerField(min_value=0)


class Share(serializers.Serializer[Any]):
    """A dimension's value; empty: unknown."""

    value = serializers.CharField(allow_blank=True)
    hits = serializers.IntegerField(min_value=1)
    visitors = serializers.IntegerField(min_value=0)


class Node(serializers.Serializer[Any]):
    """A child of a path, with the hits of all paths that begin with it and how many these are."""

    path = serializers.CharField()
    hits = serializers.IntegerField(min_value=1)
    paths = serializers.IntegerField(min_value=1)


class Report(serializers.Serializer[Any]):
    """One path: its count of all times, and what it had in the period."""

    path = serializers.CharField()
    count = serializers.IntegerField(min_value=0)
    first_hit = AtField(allow_null=True)
    last_hit = AtField(allow_null=True)
    hits = serializers.IntegerField(min_value=0)
    visitors = serializers.IntegerField(min_value=0)
    series = Point(many=True)
    dimensions = serializers.DictField(child=serializers.ListField(child=Share()))


class Counted(serializers.Serializer[Any]):
    """How many hits were counted: the sum of what each item stands for."""

    counted = serializers.IntegerField(min_value=1)


class Latency(serializers.Serializer[Any]):
    """Milliseconds within which a half, 95% and 99% of the hits were answered, and all; null when none was."""

    p50 = serializers.FloatField(allow_null=True)
    p95 = serializers.FloatField(allow_null=True)
    p99 = serializers.FloatField(allow_null=True)
    max = serializers.FloatField(allow_null=True)


class LatencyClass(serializers.Serializer[Any]):
    """How many answers took at most `ms` milliseconds, and longer than the class before."""

    ms = serializers.FloatField(help_text="0.5, 1, 2, 5, 10 and so on, 60,000 at most")
    count = serializers.IntegerField(min_value=0)


class LoadTestReport(serializers.Serializer[Any]):
    """What came back, and what the statistics gained by it."""

    requested = serializers.IntegerField(min_value=1)
    succeeded = serializers.IntegerField(min_value=0)
    failed = serializers.IntegerField(min_value=0)
    errors = serializers.DictField(  # type: ignore[assignment]  # a field does not replace the serializer's property
        child=serializers.IntegerField(min_value=1), help_text="a number per status or error"
    )
    seconds = serializers.FloatField()
    requests_per_second = serializers.FloatField()
    latency_ms = Latency()
    histogram = LatencyClass(many=True)
    unique_paths = serializers.IntegerField(min_value=0)
    paths = Row(many=True)
    counted = serializers.IntegerField(allow_null=True, help_text="null if the statistics could not be read again")
