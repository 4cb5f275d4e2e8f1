"""API keys and share links: made, shown and revoked."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet, Value
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from rest_framework_api_key.admin import APIKeyModelAdmin
from rest_framework_api_key.models import APIKey

from counters import sharing
from counters.admin.common import MISSING, number
from counters.models import ApiKey, Scope, ShareLink

if TYPE_CHECKING:
    ShareLinkModelAdmin = admin.ModelAdmin[ShareLink]
    KeyModelForm = forms.ModelForm[ApiKey]
else:
    ShareLinkModelAdmin = admin.ModelAdmin
    KeyModelForm = forms.ModelForm

admin.site.unregister(APIKey)  # the package's own, which has no scopes


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
    model_admin.message_user(request, f"Revoked {number(len(chosen), noun)}.", messages.SUCCESS)
