"""What counts as Django views, hits sent in, what pages embed, statistics, load test, health, the API described."""

from django.urls import path, re_path

from counters import pixel
from counters.api import batches, embeds, inside, schema, statistics, views
from counters.hits import COUNTED_PREFIX

urlpatterns = [
    re_path(rf"^{COUNTED_PREFIX[1:]}", views.count_hit, name="count-hit"),
    path(pixel.ADDRESS[1:], embeds.count_view, name="pixel"),
    path("count.js", embeds.script, name="script"),
    re_path(r"^badge/", embeds.Badge.as_view(), name="badge"),
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
    path("metrics", inside.Metrics.as_view(), name="metrics"),
    path("schema/", schema.Schema.as_view(), name="schema"),
    path("docs/", schema.Docs.as_view(), name="docs"),
]
