"""The pages of load tests: begin one, watch it, read its report."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext
from rest_framework.exceptions import ValidationError

from counters import access
from counters.access import SERVICE_HEADER, service_token
from counters.api.views import checked_number
from counters.dashboard.charts import histogram
from counters.dashboard.narrowing import EVERYTHING
from counters.dashboard.pages import page, page_with_form, shown
from counters.dashboard.panels import of_paths
from counters.loadtest import runs
from counters.loadtest.plan import PERCENTILES, Plan
from counters.models import LoadTestRun, Scope

EARLIER = 50
USUAL_REQUESTS = 1000
TOP_PATHS = 10


@page_with_form(Scope.LOADTEST)
def loadtests(request: HttpRequest) -> HttpResponse:
    """The load tests that there were, and the form that begins one."""
    if request.method != "POST":
        return _listed(request)
    asked = request.POST.get("requests", "")
    try:
        run = runs.begin(
            Plan(url=settings.HITCOUNTER_OWN_URL, requests=checked_number(asked)),
            headers=lambda: {SERVICE_HEADER: service_token()},
        )
    except ValidationError as error:
        details: Any = error.detail
        return _listed(request, asked=asked, fault=details["requests"][0], status=400)
    except runs.LoadTestBusy as error:
        return _listed(request, asked=asked, fault=str(error), status=409)
    except runs.LoadTestError as error:
        return _listed(request, asked=asked, fault=str(error), status=503)
    return redirect("loadtest", run.id)


def _listed(request: HttpRequest, asked: str = str(USUAL_REQUESTS), fault: str = "", status: int = 200) -> HttpResponse:
    earlier = list(LoadTestRun.objects.all()[: EARLIER + 1])
    context = {
        "runs": earlier[:EARLIER],
        "cut": EARLIER if len(earlier) > EARLIER else None,
        "running": runs.running(),
        "most": settings.HITCOUNTER_MAX_LOADTEST,
        "asked": asked,
        "fault": gettext(fault) if fault else "",
        "may_begin": access.may(request, Scope.LOADTEST),
    }
    return shown(request, "loadtests", context, status=status)


@page
def one_loadtest(request: HttpRequest, id: UUID) -> HttpResponse:
    """One load test: how far it is while it runs, and then what it saw."""
    running = runs.running()  # first: one that ends between the two looks is read with its report
    run = get_object_or_404(LoadTestRun, id=id)
    report = run.report or {}
    latencies = report.get("latency_ms", {})
    rows = [(row["path"], row["count"]) for row in report.get("paths", [])[:TOP_PATHS]]
    context = {
        "run": run,
        "running": running is not None and running.id == run.id,
        "report": report,
        "histogram": histogram(report.get("histogram", [])),
        "latencies": [(name, latencies[name]) for name in PERCENTILES if latencies.get(name) is not None],
        "paths": of_paths(EVERYTHING, rows, None),
    }
    return shown(request, "loadtest", context)
