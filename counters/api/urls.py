"""The counted paths as a Django view, the statistics, the load test and the service's health."""

from django.urls import path, re_path

from counters.api import views
from counters.hits import COUNTED_PREFIX

urlpatterns = [
    re_path(rf"^{COUNTED_PREFIX[1:]}", views.count_hit, name="count-hit"),
    path("stats/", views.Stats.as_view(), name="stats"),
    path("test/<str:requests>/", views.LoadTest.as_view(), name="load-test"),
    path("healthz/live", views.live, name="live"),
    path("healthz/ready", views.ready, name="ready"),
]
