"""The page of what happens now; counters/dashboard/events.py feeds it."""

from django.http import HttpRequest, HttpResponse

from counters.dashboard.pages import page, shown


@page
def live(request: HttpRequest) -> HttpResponse:
    """Hits per second, and the paths that are being requested."""
    return shown(request, "live", {})
