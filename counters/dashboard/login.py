"""Logging in and out, being locked out, and following a share link."""

import math
from typing import Any

from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext, ngettext
from django.views.decorators.cache import never_cache

from counters import access, logins, sharing
from counters.api.errors import detail
from counters.models import Scope

login = LoginView.as_view(template_name="dashboard/login.html")
logout = LogoutView.as_view()


def locked_out(request: HttpRequest, response: HttpResponseBase | None, credentials: Any) -> HttpResponse:
    """429 for whoever has tried too often, which says when to try again; this is what axes answers with."""
    left = logins.over_in(request)
    minutes = math.ceil(left.total_seconds() / 60)
    sentence = ngettext(
        "There were too many wrong logins from here. Try again in %(minutes)s minute.",
        "There were too many wrong logins from here. Try again in %(minutes)s minutes.",
        minutes,
    ) % {"minutes": minutes}
    answer = _alone(request, 429, sentence) if request.accepts("text/html") else detail(429, sentence)
    answer["Retry-After"] = str(math.ceil(left.total_seconds()))
    answer["Cache-Control"] = "no-store"
    return answer


@never_cache
def follow(request: HttpRequest, token: str) -> HttpResponseBase:
    """Show the pages that a share link is for: to the overview, narrowed to its prefix."""
    if request.method not in ("GET", "HEAD"):
        return detail(405, f"{request.method} is not answered, GET is.", {"Allow": "GET, HEAD"})
    link = sharing.link_with(token)
    if link is None:
        return _alone(request, 404, gettext("There is no such share link."))
    if not link.in_force:
        return _alone(request, 410, gettext("This share link has expired, or has been revoked."))
    response = redirect(f"{reverse('overview')}?{urlencode({'prefix': link.prefix})}")
    if not access.may(request, Scope.STATS):
        sharing.remember(link, response)
    return response


def _alone(request: HttpRequest, status: int, sentence: str) -> HttpResponse:
    """A page that says why there is no other, for somebody who may see none."""
    return render(request, "dashboard/refusal.html", {"sentence": sentence, "alone": True}, status=status)
