"""Counting, the load test and the service's health: check what is asked, call, answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from counters import metrics
from counters.access import SERVICE_HEADER, service_token
from counters.admission import count_one
from counters.api import queries
from counters.api.errors import RETRY_AFTER_SECONDS, detail
from counters.api.schema import LOAD_TEST
from counters.clients import headers_of, origins
from counters.health import Migrations
from counters.hits import COUNTED_METHODS, HitRefused, check_path
from counters.loadtest import runs
from counters.loadtest.plan import Plan
from counters.middleware.orm import counts_itself
from counters.middleware.request import requested_path
from counters.models import Scope

migrations = Migrations()


@counts_itself
@csrf_exempt
@never_cache
def count_hit(request: HttpRequest) -> HttpResponse:
    """Count one hit through the ORM: what counters/ingest does many times as fast, and must do with the same result."""
    if request.method not in COUNTED_METHODS:
        return detail(405, f"{request.method} is not counted, GET is.", {"Allow": ", ".join(COUNTED_METHODS)})
    with refusals_told():
        path = check_path(requested_path(request))
        if request.method == "HEAD":
            return JsonResponse({})
        origin = origins().of(request.method, headers_of(request), request.META.get("REMOTE_ADDR"))
        counted, place = count_one(path, origin)
    return JsonResponse({"path": counted, "count": place})


@contextmanager
def refusals_told() -> Iterator[None]:
    """Tell metrics of a hit that cannot be counted, as the fast lane does."""
    try:
        yield
    except HitRefused as refusal:
        metrics.refused(type(refusal)).inc()
        raise


def query_of(request: HttpRequest) -> bytes:
    """The query as it was sent."""
    if isinstance(request, ASGIRequest):
        return bytes(request.scope["query_string"])
    return str(request.META.get("QUERY_STRING", "")).encode("latin-1")


class LoadTest(APIView):
    """`POST /test/<n>/` sends n hits on random paths to this very service over HTTP, and reports what came back."""

    scope = Scope.LOADTEST

    @LOAD_TEST
    def post(self, request: Request, requests: str) -> Response:
        queries.asked_by(request, serializers.Serializer)  # there is nothing to be asked
        plan = Plan(url=settings.HITCOUNTER_OWN_URL, requests=checked_number(requests))
        try:
            run = runs.perform(plan, send=runs.send_apart, headers=lambda: {SERVICE_HEADER: service_token()})
        except runs.LoadTestBusy as busy:
            return Response({"detail": str(busy)}, status=409, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
        except runs.LoadTestError as error:
            return Response({"detail": str(error)}, status=503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
        return Response(run.report)


def checked_number(text: str) -> int:
    """How many requests a load test is to send. Raises ValidationError."""
    most = settings.HITCOUNTER_MAX_LOADTEST
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise ValidationError({"requests": [f"Must be a whole number from 1 to {most}."]})
    return int(text)


@never_cache
def live(request: HttpRequest) -> HttpResponse:
    """Whether this process answers."""
    return JsonResponse({"status": "live"})


@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """Whether a hit that comes now would be counted: recorder accepts, database answers and is up to date."""
    recorder = getattr(request, "scope", {}).get("state", {}).get("recorder")
    if recorder and not recorder.accepting:
        return _not_ready("The recorder does not accept hits.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    missing = migrations.missing()
    if missing:
        return _not_ready(f"Migrations are not applied, {missing[0]} first; `manage.py migrate` applies them.")
    return JsonResponse({"status": "ready"})


def _not_ready(reason: str) -> HttpResponse:
    return detail(503, reason, {"Retry-After": str(RETRY_AFTER_SECONDS)})
