"""What the service measures of itself (counters/metrics.py), and what the database knows, as Prometheus reads it."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from counters import books
from counters.metrics import AllProcesses
from counters.models import Scope


class Metrics(APIView):
    """All metrics, in Prometheus' text format."""

    scope = Scope.STATS
    http_method_names = ["get", "head"]

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """There is one form, which every version of Prometheus reads, whatever Accept asks for; errors are JSON."""
        return JSONRenderer(), JSONRenderer.media_type

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        registry = CollectorRegistry()
        registry.register(AllProcesses())
        registry.register(Known())
        return HttpResponse(
            generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"Cache-Control": "no-store"}
        )


class Known(Collector):
    """What is the same whichever process is asked: the version, and what the last verification of the books found."""

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("hitcounter_build_info", "The version, as a label.", labels=["version"])
        build.add_metric([settings.HITCOUNTER_VERSION], 1)
        yield build
        yield from _books()


def _books() -> Iterable[Metric]:
    """Nothing where there was no verification yet, or where there is no database: that others tell of."""
    try:
        last = books.last_verification()
    except (OperationalError, InterfaceError):
        return
    if last:
        yield GaugeMetricFamily(
            "hitcounter_books_verified_timestamp_seconds", "When the books were last verified.", last.at.timestamp()
        )
        yield GaugeMetricFamily(
            "hitcounter_books_differing",
            "Paths, and figures of all paths, that did not balance then.",
            last.differing + last.rollups_differing,
        )
