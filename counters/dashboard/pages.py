"""What all pages share: who may look, what an error looks like, and what stands on each of them."""

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, TypeVar, cast

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.utils.http import urlencode
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.gzip import gzip_page
from rest_framework.exceptions import ValidationError

from counters import access, books, sharing
from counters.api.errors import RETRY_AFTER_SECONDS, UNABLE, unavailable
from counters.bounds import TookTooLong
from counters.dashboard.narrowing import Narrowing
from counters.dashboard.shown import value_shown
from counters.models import Scope
from counters.periods import PeriodInvalid

View = Callable[..., HttpResponseBase]
T = TypeVar("T")

#: The pages that each page leads to, and whether they take over what is narrowed to.
PAGES = (
    ("overview", gettext_lazy("Overview"), True),
    ("paths", gettext_lazy("Paths"), True),
    ("tree", gettext_lazy("Tree"), True),
    ("live-page", gettext_lazy("Live"), False),
    ("loadtests", gettext_lazy("Load tests"), False),
)
#: What a page asks for, by method: with its form, something is begun.
READS = {"GET": Scope.STATS, "HEAD": Scope.STATS}


def page(view: View) -> View:
    """A page of the dashboard: for those who may look, with its errors as pages that say what is wrong."""
    return _page(view, READS, access.check)


def page_with_form(scope: Scope) -> Callable[[View], View]:
    """A page that is also sent what its form holds, by those who may do what `scope` names."""
    return partial(_page, scopes={**READS, "POST": scope}, admit=access.check)


def shared_page(view: View) -> View:
    """A page that is shown to whoever was given a share link, too: what it shows is narrowed to that (narrowing.py)."""
    return _page(view, READS, _check_or_share)


def _check_or_share(request: HttpRequest, scope: Scope) -> None:
    """Pass if whoever asks may, or was given a share link that is in force. Raises access.AccessRefused."""
    try:
        access.check(request, scope)
    except access.KeyInvalid:
        raise
    except access.Unknown:
        if not sharing.begin(request):
            raise


def _page(view: View, scopes: Mapping[str, Scope], admit: Callable[[HttpRequest, Scope], None]) -> View:
    @gzip_page
    @wraps(view)
    def looked_at(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            admit(request, scopes.get(request.method or "", Scope.STATS))
            if request.method not in scopes:
                response: HttpResponseBase = refusal(request, 405, gettext("There is a page here, and nothing else."))
                response["Allow"] = ", ".join(scopes)
                return response
            response = view(request, *args, **kwargs)
        except access.KeyInvalid as error:  # no browser sends one
            response = access.refused(error)
        except access.Unknown:
            return redirect_to_login(request.get_full_path())
        except (access.AccessRefused, sharing.OutsideShare) as error:
            response = refusal(request, 403, gettext(str(error)))
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
        except UNABLE as error:
            unavailable(error)  # tells the log
            response = _busy(request, gettext("The database cannot be reached; try again."))
        # Figures grow: whoever keeps a page asks again.
        patch_cache_control(response, private=True, no_cache=True)
        return response

    return cast(View, looked_at)


def shown(
    request: HttpRequest, name: str, context: dict[str, Any], narrowing: Narrowing | None = None, status: int = 200
) -> HttpResponse:
    """The page of this template, with what stands on each; of a page that is shared, with less."""
    share = sharing.shared_by(request)
    links = {
        page: narrowing.link(page, path=None, cursor=None) if narrowing and carries else reverse(page)
        for page, _, carries in PAGES
        if carries or not share
    }
    pages = [
        {"name": title, "link": links[page], "chosen": page.removesuffix("-page") == name}
        for page, title, _ in PAGES
        if page in links
    ]
    on_each: dict[str, Any] = {"narrowing": narrowing, "links": links, "pages": pages, "share": share}
    if not share:
        # Without what decorates an address, such as utm_source.
        here = f"{request.path}?{urlencode(narrowing.given)}" if narrowing else request.get_full_path()
        reader = _if_there(partial(_user, request))
        on_each |= {"here": here, "reader": reader, "books": _if_there(books.last_verification)}
    return render(request, f"dashboard/{name}.html", {**on_each, **context}, status=status)


def _user(request: HttpRequest) -> AbstractBaseUser | AnonymousUser:
    request.user.is_authenticated  # noqa: B018 (is looked up with this)
    return request.user


def _if_there(ask: Callable[[], T]) -> T | None:
    """What the database is asked for; None as well where it cannot be reached, of which the page itself tells."""
    try:
        return ask()
    except UNABLE:
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
