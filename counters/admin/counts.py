"""Counters, to browse, search and reset."""

from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from counters.admin.common import ReadOnly, number
from counters.bounds import LONGEST_READ_SECONDS, TookTooLong, bounded_read
from counters.hits import now
from counters.models import Counter, path_begins_with
from counters.reset import Gone, ResetBusy, reset

if TYPE_CHECKING:
    CounterModelAdmin = admin.ModelAdmin[Counter]
else:
    CounterModelAdmin = admin.ModelAdmin

#: A page is found by passing over those before it: the hundredth takes 50 ms of a million counters.
MOST_PAGES = 100
#: Counters that the action resets at once: their ids must fit into a form of Django's 1,000 fields.
MOST_RESET_AT_ONCE = 500


class Totals(NamedTuple):
    """What all counters have together; `hits` is None, and `paths` an estimate, when adding them up takes too long."""

    paths: int
    hits: int | None

    def __str__(self) -> str:
        if self.hits is None:
            return f"About {number(self.paths, 'path')}, as PostgreSQL estimates; adding up their hits takes too long."
        return f"{number(self.paths, 'path')}, {number(self.hits, 'hit')} in total."


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
            "counters": [(counter.pk, counter.path, number(counter.hits, "hit")) for counter in chosen],
            "number": number(len(chosen), "counter"),
            "hits": number(sum(counter.hits for counter in chosen), "hit"),
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
        message = f"Reset {number(len(gone), 'counter')}; {number(hits, 'hit')} went."
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
        message = f"Reset: {number(hits, 'hit')} went."
        LogEntry.objects.log_actions(user_id, cast("QuerySet[Any]", counters), CHANGE, message)
