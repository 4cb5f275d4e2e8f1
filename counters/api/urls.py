"""The counted paths as a Django view, hits sent in, statistics, load test, health, and the API described."""

from django.urls import path, re_path

from counters.api import batches, schema, statistics, views
from counters.hits import COUNTED_PREFIX

urlpatterns = [
    re_path(rf"^{COUNTED_PREFIX[1:]}", views.count_hit, name="count-hit"),
    path("stats/", statistics.Ranking.as_view(), name="stats"),
    path("stats/total/", statistics.Total.as_view(), name="stats-total"),
    path("stats/series/", statistics.Series.as_view(), name="stats-series"),
    path("stats/by/<str:dimension>/", statistics.Shares.as_view(), name="stats-by"),
    path("stats/tree/", statistics.Tree.as_view(), name="stats-tree"),
    path("stats/path/", statistics.OnePath.as_view(), name="stats-path"),
    path("hits/", batches.Hits.as_view(), name="hits"),
    path("test/<str:requests>/", views.LoadTest.as_view(), name="load-test"),
    path("healthz/live", views.live, name="live"),
    path("healthz/ready", views.ready, name="ready"),
    path("schema/", schema.Schema.as_view(), name="schema"),
    path("docs/", schema.Docs.as_view(), name="docs"),
]
