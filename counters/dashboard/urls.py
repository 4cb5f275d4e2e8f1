"""The pages, and what they are fed with."""

from django.urls import path

from counters.dashboard import events

urlpatterns = [
    path("live/events/", events.events, name="live-events"),
]
