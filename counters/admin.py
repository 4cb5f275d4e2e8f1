"""The admin: counters to browse, search and reset, imported logs, load tests, verifications, API keys, share links.

No figure is edited.
"""

from collections.abc import Iterable
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Count, F, QuerySet, Sum, Value
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from rest_framework_api_key.admin import APIKeyModelAdmin
from rest_framework_api_key.models import APIKey

from counters import sharing
from counters.bounds import LONGEST_READ_SECONDS, TookTooLong, bounded_read
from counters.hits import now
from counters.loadtest import PERCENTILES
from counters.models import (
    ApiKey,
    Counter,
    ImportedLog,
    LoadTestRun,
    Scope,
    ShareLink,
    Verification,
    path_begins_with,
)
from counters.reset import Gone, ResetBusy, reset

if TYPE_CHECKING:
    CounterModelAdmin = admin.ModelAdmin[Counter]
    ImportedLogModelAdmin = admin.ModelAdmin[ImportedLog]
    LoadTestModelAdmin = admin.ModelAdmin[LoadTestRun]
    VerificationModelAdmin = admin.ModelAdmin[Verification]
    ShareLinkModelAdmin = admin.ModelAdmin[ShareLink]
    KeyModelForm = forms.ModelForm[ApiKey]
else:
    CounterModelAdmin = ImportedLogModelAdmin = LoadTestModelAdmin = VerificationModelAdmin = admin.ModelAdmin
    ShareLinkModelAdmin, KeyModelForm = admin.ModelAdmin, forms.ModelForm

#: A page is found by passing over those before it: the hundredth takes 50 ms of a million counters.
MOST_PAGES = 100
#: Stands for a figure that a load test has not (yet).
MISSING = "–"
#: Counters that the action resets at once: their ids must fit into a form of Django's 1,000 fields.
MOST_RESET_AT_ONCE = 500

admin.site.site_header = admin.site.site_title = "Hit Counter"
admin.site.index_title = "Counts, imports and load tests"
admin.site.site_url = "/"
admin.site.unregister(APIKey)  # the package's own, which has no scopes


class Totals(NamedTuple):
    """What all counters have together; `hits` is None, and `paths` an estimate, when adding them up takes too long."""

    paths: int
    hits: int | None

    def __str__(self) -> str:
        if self.hits is None:
            return f"About {_number(self.paths, 'path')}, as PostgreSQL estimates; adding up their hits takes too long."
        return f"{_number(self.paths, 'path')}, {_number(self.hits, 'hit')} in total."


def totals() -> Totals:
    """All paths and their hits: exact where they can be added up in LONGEST_READ_SECONDS, 70 ms for a million."""
    try:
        with bounded_read():
            exact = Counter.objects.aggregate(paths=Count("id"), hits=Sum("hits", default=0))
    except TookTooLong:
        return Totals(_estimated_paths(), None)
    return Totals(**exact)


def _estimated_paths() -> int:
    """The rows of the counter table as PostgreSQL's statistics have it, without reading the table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [Counter._meta.db_table])
        [estimate] = cursor.fetchone()
    return max(0, int(estimate))


class ReadOnly:
    """Nobody adds, changes or deletes; who may view or change a model may look at it."""

    show_full_result_count = False  # would count the table for every page
    show_facets = admin.ShowFacets.NEVER  # would count the table for every filter

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class CounterChangeList(ChangeList):
    """A list that knows its own page and whether another follows, for which nothing has to be counted."""

    # The order of the index on (magnitude, path); there is none on hits.
    by_hits = {"hits": ("magnitude", "hits", "path"), "-hits": ("-magnitude", "-hits", "path")}

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        ordering = super().get_ordering(request, queryset)
        return [part for field in ordering for part in self.by_hits.get(cast(str, field), (field,))]

    def get_results(self, request: HttpRequest) -> None:
        self.page_num = min(max(self.page_num, 1), MOST_PAGES)
        start = (self.page_num - 1) * self.list_per_page
        rows = self._read(request, start)
        self.result_list = cast("QuerySet[Any]", rows[: self.list_per_page])
        self.result_count = start + len(rows)  # as far as is known
        self.full_result_count = None
        self.show_admin_actions = bool(rows)
        self.can_show_all = self.multi_page = False
        self.has_next = len(rows) > self.list_per_page
        self.is_last_shown = self.has_next and self.page_num == MOST_PAGES
        self.first_row, self.last_row = start + 1, start + len(self.result_list)

    def _read(self, request: HttpRequest, start: int) -> list[Any]:
        """The page's rows, and one more if there is a next page; none, and a message, if that takes too long."""
        try:
            with bounded_read():
                return list(self.queryset[start : start + self.list_per_page + 1])
        except TookTooLong:
            messages.error(
                request,
                f"The database took longer than {LONGEST_READ_SECONDS} seconds, so nothing is listed. "
                "Search for the beginning of a path, starting with a slash: that is always quick.",
            )
            return []

    @property
    def previous_link(self) -> str:
        return self.get_query_string({"p": self.page_num - 1}) if self.page_num > 1 else ""

    @property
    def next_link(self) -> str:
        return self.get_query_string({"p": self.page_num + 1}) if self.has_next and not self.is_last_shown else ""


class LastHitFilter(admin.SimpleListFilter):
    """Counters by the time of their last hit (UTC)."""

    title = "last hit"
    parameter_name = "last"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("today", "Today"),
            ("week", "Past 7 days"),
            ("month", "Past 30 days"),
            ("older", "Longer ago"),
            ("never", "Never, or not since a reset"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
        conditions: dict[str | None, dict[str, Any]] = {
            "today": {"last_hit__gte": midnight},
            "week": {"last_hit__gte": now() - timedelta(days=7)},
            "month": {"last_hit__gte": now() - timedelta(days=30)},
            "older": {"last_hit__lt": now() - timedelta(days=30)},
            "never": {"last_hit": None},
        }
        return queryset.filter(**conditions.get(self.value(), {}))


@admin.register(Counter)
class CounterAdmin(ReadOnly, CounterModelAdmin):
    list_display = ("path", "total", "first_hit", "last_hit")
    list_filter = (LastHitFilter,)
    list_per_page = 100
    ordering = ("-hits",)
    sortable_by = ("path", "total")
    search_fields = ("path",)
    search_help_text = (
        "A term that begins with a slash finds the paths that begin with it, by an index. Any other finds the paths "
        f"that contain it, by reading all of them, and gives up after {LONGEST_READ_SECONDS} seconds. "
        "Paths are kept as they were requested: upper and lower case and percent-encoding count."
    )
    actions = ("reset_selected",)
    fields = readonly_fields = ("path", "total", "first_hit", "last_hit", "id")

    @admin.display(description="hits", ordering="hits")
    def total(self, counter: Counter) -> str:
        return f"{counter.hits:,}"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CounterChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """The filter's alone: Django would let anyone ask for any condition, such as a ruinous regular expression."""
        return lookup == LastHitFilter.parameter_name

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Counter], search_term: str
    ) -> tuple[QuerySet[Counter], bool]:
        term = search_term.strip()
        if term.startswith("/"):
            return queryset.filter(path_begins_with(term)), False
        return (queryset.filter(path__contains=term) if term else queryset), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {
            "title": "Counters",
            "totals": None if request.GET or request.method == "POST" else totals(),
            "selection_note_all": "All that are found, on all pages, are selected",
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def response_action(self, request: HttpRequest, queryset: QuerySet[Counter], *args: Any) -> HttpResponse | None:
        try:
            return super().response_action(request, queryset, *args)
        except ValidationError:  # Django asks the database for whatever a form sends as a key
            self.message_user(request, "What was selected is no counter; nothing was reset.", messages.ERROR)
            return None

    def has_reset_permission(self, request: HttpRequest) -> bool:
        """A reset is the one change there is, so the permission to change counters stands for it."""
        return cast(User, request.user).has_perm("counters.change_counter")

    @admin.action(description="Reset selected counters", permissions=["reset"])
    def reset_selected(self, request: HttpRequest, queryset: QuerySet[Counter]) -> HttpResponse | None:
        """Ask first, saying what goes; on the answer, reset exactly the counters that were shown."""
        try:
            with bounded_read():
                chosen = list(queryset[: MOST_RESET_AT_ONCE + 1])
        except TookTooLong:
            self.message_user(request, "Finding these counters takes too long; nothing was reset.", messages.ERROR)
            return None
        if len(chosen) > MOST_RESET_AT_ONCE:
            self.message_user(request, _TOO_MANY, messages.ERROR)
            return None
        if request.POST.get("confirmed"):
            self._reset(request, chosen)
            return None
        return self._confirmation(request, chosen)

    def _confirmation(self, request: HttpRequest, chosen: list[Counter]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Reset counters",
            "opts": self.opts,
            "counters": [(counter.pk, counter.path, _number(counter.hits, "hit")) for counter in chosen],
            "number": _number(len(chosen), "counter"),
            "hits": _number(sum(counter.hits for counter in chosen), "hit"),
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "back": request.get_full_path(),
        }
        return TemplateResponse(request, "admin/counters/counter/reset_confirmation.html", context)

    def _reset(self, request: HttpRequest, chosen: list[Counter]) -> None:
        try:
            with transaction.atomic():
                gone = reset([counter.id for counter in chosen])
                _leave_log_entries(cast(int, request.user.pk), gone)
        except ResetBusy as busy:
            self.message_user(request, str(busy), messages.ERROR)
            return
        hits = sum(counter.hits for counter in gone)
        message = f"Reset {_number(len(gone), 'counter')}; {_number(hits, 'hit')} went."
        self.message_user(request, message, messages.SUCCESS)


_TOO_MANY = (
    f"At most {MOST_RESET_AT_ONCE} counters can be reset here at once; nothing was reset. "
    "On the server, `manage.py resetcounts --prefix …` resets any number."
)


def _leave_log_entries(user_id: int, gone: list[Gone]) -> None:
    """One entry per counter, with its old figure; written in one statement per figure, as Django lets them be."""
    by_hits = attrgetter("hits")
    for hits, same in groupby(sorted(gone, key=by_hits), key=by_hits):
        counters = [Counter(id=counter.id, path=counter.path) for counter in same]
        message = f"Reset: {_number(hits, 'hit')} went."
        LogEntry.objects.log_actions(user_id, cast("QuerySet[Any]", counters), CHANGE, message)


def _number(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


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


class KeyForm(KeyModelForm):
    """A key's name, scopes and end; the model's list of scopes as boxes to tick."""

    scopes = forms.MultipleChoiceField(choices=Scope.choices, widget=forms.CheckboxSelectMultiple)

    class Meta:
        model = ApiKey
        fields = ("name", "scopes", "expiry_date")


@admin.register(ApiKey)
class ApiKeyAdmin(APIKeyModelAdmin):
    """Keys are made, changed and revoked; a new one is shown on the page that answers, and never again."""

    form = KeyForm
    fields = ("name", "scopes", "expiry_date", "prefix", "created", "last_use", "status")
    list_display = ("prefix", "name", "for_what", "expiry_date", "last_use", "status")
    list_filter = ("revoked",)
    actions = ("revoke",)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("prefix", "created", "last_use", "status")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Not by the hash, of which each answer would tell a part."""
        return lookup.startswith("revoked")

    def save_model(self, request: HttpRequest, obj: Any, form: Any = None, change: bool = False) -> None:
        """The package's own would put a new key into a message, and so into a cookie."""
        if not change:
            request.new_key = ApiKey.objects.assign_key(obj)  # type: ignore[attr-defined]
        obj.save()

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": f"API key {obj.prefix}", "opts": self.opts}
        context["key"] = request.new_key  # type: ignore[attr-defined]
        response = TemplateResponse(request, "admin/counters/apikey/made.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Revoked, it is still known what it was; and its requests are told so."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not (obj and obj.revoked)

    @admin.display(description="scopes")
    def for_what(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="status")
    def status(self, key: ApiKey) -> str:
        if key.revoked:
            return "revoked"
        return "expired" if key.has_expired else "in force"

    @admin.action(description="Revoke selected API keys, for good", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        _revoke(self, request, queryset, "API key")


@admin.register(ShareLink)
class ShareLinkAdmin(ShareLinkModelAdmin):
    """Links are made and revoked; what they show does not change, since others have them."""

    list_display = ("name", "prefix", "link", "expires", "status")
    list_filter = ("revoked",)
    fields = ("name", "prefix", "expires", "link", "created", "status")
    actions = ("revoke",)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        lines = {name: forms.TextInput(attrs={"class": "vTextField"}) for name in ("name", "prefix")}
        return super().get_form(request, obj, change=change, **{"widgets": lines, **kwargs})

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("link", "created", "status", *(("prefix",) if obj else ()))

    def get_queryset(self, request: HttpRequest) -> QuerySet[ShareLink]:
        """With the address at which this very service was asked, which begins that of the link."""
        queryset: QuerySet[ShareLink] = super().get_queryset(request)
        return queryset.annotate(here=Value(f"{request.scheme}://{request.get_host()}"))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not (obj and obj.revoked)

    @admin.display(description="link")
    def link(self, link: ShareLink) -> str:
        if not hasattr(link, "here"):  # it is being made
            return MISSING
        return format_html('<a href="{0}">{0}</a>', link.here + reverse("share", args=[sharing.token(link)]))

    @admin.display(description="status")
    def status(self, link: ShareLink) -> str:
        if link.revoked:
            return "revoked"
        return "in force" if link.in_force else "expired"

    @admin.action(description="Revoke selected share links, for good", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ShareLink]) -> None:
        _revoke(self, request, queryset, "share link")


def _revoke(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any], noun: str) -> None:
    """Revoke those that are not yet, and leave an entry in the log for each."""
    with transaction.atomic():
        chosen = list(queryset.filter(revoked=False).select_for_update())
        queryset.filter(pk__in=[one.pk for one in chosen]).update(revoked=True)
        for one in chosen:
            model_admin.log_change(request, one, "Revoked.")
    model_admin.message_user(request, f"Revoked {_number(len(chosen), noun)}.", messages.SUCCESS)


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
