"""What all pages share: who may look, what an error looks like, and what stands on each of them."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, cast

from django.contrib.auth.views import redirect_to_login
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.gzip import gzip_page
from rest_framework.exceptions import ValidationError

from counters import books
from counters.api.errors import RETRY_AFTER_SECONDS, unavailable
from counters.bounds import TookTooLong
from counters.dashboard.access import may_look
from counters.dashboard.narrowing import Narrowing
from counters.dashboard.shown import value_shown
from counters.models import Verification
from counters.periods import PeriodInvalid

View = Callable[..., HttpResponseBase]

#: The pages that each page leads to, and whether they take over what is narrowed to.
PAGES = (
    ("overview", gettext_lazy("Overview"), True),
    ("paths", gettext_lazy("Paths"), True),
    ("tree", gettext_lazy("Tree"), True),
    ("live-page", gettext_lazy("Live"), False),
    ("loadtests", gettext_lazy("Load tests"), False),
)


def page(view: View) -> View:
    """A page of the dashboard: for those who may look, with its errors as pages that say what is wrong."""
    return _page(view, ("GET", "HEAD"))


def page_with_form(view: View) -> View:
    """A page that is also sent what its form holds."""
    return _page(view, ("GET", "HEAD", "POST"))


def _page(view: View, methods: Sequence[str]) -> View:
    @gzip_page
    @wraps(view)
    def looked_at(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            if not may_look(request):
                return redirect_to_login(request.get_full_path(), reverse("admin:login"))
            if request.method not in methods:
                response: HttpResponseBase = refusal(request, 405, gettext("There is a page here, and nothing else."))
                response["Allow"] = ", ".join(methods)
                return response
            response = view(request, *args, **kwargs)
        except Http404:
            response = refusal(request, 404, gettext("There is no such page."))
        except ValidationError as error:
            response = refusal(
                request, 400, gettext("This address asks for something that there is not."), _named(error)
            )
        except PeriodInvalid as error:
            response = refusal(request, 400, gettext(str(error)))
        except TookTooLong:
            response = _busy(request, gettext("That took too long; what begins with a slash is found at once."))
        except (OperationalError, InterfaceError) as error:
            unavailable(error)  # tells the log
            response = _busy(request, gettext("The database cannot be reached; try again."))
        # Figures grow: whoever keeps a page asks again.
        patch_cache_control(response, private=True, no_cache=True)
        return response

    return cast(View, looked_at)


def shown(
    request: HttpRequest, name: str, context: dict[str, Any], narrowing: Narrowing | None = None, status: int = 200
) -> HttpResponse:
    """The page of this template, with what stands on each."""
    links = {
        page: narrowing.link(page, path=None, cursor=None) if narrowing and carries else reverse(page)
        for page, _, carries in PAGES
    }
    pages = [
        {"name": title, "link": links[page], "chosen": page.removesuffix("-page") == name} for page, title, _ in PAGES
    ]
    shared = {"narrowing": narrowing, "links": links, "pages": pages, "books": _books()}
    return render(request, f"dashboard/{name}.html", {**shared, **context}, status=status)


def _books() -> Verification | None:
    """The last verification; None as well where the database cannot be reached, of which the page itself tells."""
    try:
        return books.last_verification()
    except (OperationalError, InterfaceError):
        return None


def refusal(
    request: HttpRequest, status: int, sentence: str, faults: list[tuple[str, str]] | None = None
) -> HttpResponse:
    """A page that says why there is no other; `faults` are names of parameters and what is wrong with each."""
    return shown(request, "refusal", {"sentence": sentence, "faults": faults}, status=status)


def _busy(request: HttpRequest, sentence: str) -> HttpResponse:
    response = refusal(request, 503, sentence)
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form without its token, as a page: the forms of programs need none."""
    sentence = gettext("The form was not taken: its page is too old, or the browser keeps no cookies. Load it again.")
    return render(request, "dashboard/refusal.html", {"sentence": sentence, "alone": True}, status=403)


def _named(error: ValidationError) -> list[tuple[str, str]]:
    details: Any = error.detail
    return [(value_shown(name), gettext(str(fault))) for name, faults in details.items() for fault in faults]
