"""Imported logs, verifications and load tests: what was done, to look at."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from counters.admin.common import MISSING, ReadOnly
from counters.loadtest.plan import PERCENTILES
from counters.models import ImportedLog, LoadTestRun, Verification

if TYPE_CHECKING:
    ImportedLogModelAdmin = admin.ModelAdmin[ImportedLog]
    LoadTestModelAdmin = admin.ModelAdmin[LoadTestRun]
    VerificationModelAdmin = admin.ModelAdmin[Verification]
else:
    ImportedLogModelAdmin = admin.ModelAdmin
    LoadTestModelAdmin = admin.ModelAdmin
    VerificationModelAdmin = admin.ModelAdmin


@admin.register(ImportedLog)
class ImportedLogAdmin(ReadOnly, ImportedLogModelAdmin):
    """How far each log is imported. Who deletes one has its lines counted anew when they are imported again."""

    list_display = ("name", "updated", "lines", "hits", "offset")
    subtitle = "Its hits stay, and count again when the log is imported anew."
    fields = ("name", "updated", "lines", "hits", "offset")
    search_fields = ("name",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("counters.delete_importedlog")

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        return super().delete_view(request, object_id, {**(extra_context or {}), "subtitle": self.subtitle})


@admin.register(Verification)
class VerificationAdmin(ReadOnly, VerificationModelAdmin):
    list_display = fields = ("at", "checked", "differing", "rollups_differing")
    sortable_by = ("at",)


@admin.register(LoadTestRun)
class LoadTestRunAdmin(ReadOnly, LoadTestModelAdmin):
    list_display = ("started", "requested", "succeeded", "failed", "per_second", "p50", "p99", "counted")
    sortable_by = ("started", "requested")
    readonly_fields = (
        *("started", "url", "requested", "concurrency", "seed"),
        *("ended", "succeeded", "failed", "errors", "failure", "counted", "seconds", "per_second", "latency"),
        *("histogram", "paths"),
    )
    fieldsets = (
        ("What was asked", {"fields": readonly_fields[:5]}),
        ("What came back", {"fields": readonly_fields[5:-1]}),
        ("Paths", {"fields": ("paths",), "classes": ("collapse",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[LoadTestRun]:
        """The list needs six figures of a report, not the thousand paths that are in it."""
        figures = {
            "succeeded_requests": F("report__succeeded"),
            "failed_requests": F("report__failed"),
            "requests_per_second": F("report__requests_per_second"),
            "latency_ms": F("report__latency_ms"),
            "hits_counted": F("report__counted"),
        }
        return super().get_queryset(request).defer("report").annotate(**figures)

    @admin.display(description="succeeded")
    def succeeded(self, run: LoadTestRun) -> str:
        return _figure(run, "succeeded_requests", missing="not finished")

    @admin.display(description="failed")
    def failed(self, run: LoadTestRun) -> str:
        return _figure(run, "failed_requests")

    @admin.display(description="requests/s")
    def per_second(self, run: LoadTestRun) -> str:
        return _figure(run, "requests_per_second")

    @admin.display(description="p50 (ms)")
    def p50(self, run: LoadTestRun) -> Any:
        return (getattr(run, "latency_ms", None) or {}).get("p50", MISSING)

    @admin.display(description="p99 (ms)")
    def p99(self, run: LoadTestRun) -> Any:
        return (getattr(run, "latency_ms", None) or {}).get("p99", MISSING)

    @admin.display(description="counted")
    def counted(self, run: LoadTestRun) -> str:
        return _figure(run, "hits_counted")

    @admin.display(description="seconds")
    def seconds(self, run: LoadTestRun) -> Any:
        return _report(run).get("seconds", MISSING)

    @admin.display(description="errors")
    def errors(self, run: LoadTestRun) -> str:
        return _table(("error", "times"), sorted((_report(run).get("errors") or {}).items()))

    @admin.display(description="latency (ms)")
    def latency(self, run: LoadTestRun) -> str:
        measured = _report(run).get("latency_ms") or {}
        return _table(("percentile", "ms"), [(name, measured[name]) for name in PERCENTILES if name in measured])

    @admin.display(description="answers, by latency (ms)")
    def histogram(self, run: LoadTestRun) -> str:
        rows = _report(run).get("histogram") or []
        return _table(("at most", "answers"), [(f"{row['ms']:,}", f"{row['count']:,}") for row in rows])

    @admin.display(description="acknowledged, by path")
    def paths(self, run: LoadTestRun) -> str:
        rows = _report(run).get("paths") or []
        return _table(("path", "hits"), [(row.get("path"), row.get("count")) for row in rows])


def _report(run: LoadTestRun) -> dict[str, Any]:
    return cast("dict[str, Any] | None", run.report) or {}


def _figure(run: LoadTestRun, name: str, missing: str = MISSING) -> str:
    value = getattr(run, name, None)
    return missing if value is None else f"{value:,}"


def _table(heads: tuple[str, str], rows: Iterable[tuple[Any, Any]]) -> str:
    """Two columns; a dash when there is nothing to show."""
    body = format_html_join("\n", "<tr><td>{}</td><td>{}</td></tr>", rows)
    if not body:
        return MISSING
    return format_html("<table><thead><tr><th>{}</th><th>{}</th></tr></thead><tbody>{}</tbody></table>", *heads, body)
