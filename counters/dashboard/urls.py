"""The pages, and what they are fed with."""

from django.urls import path

from counters.dashboard import events, live, loadtests, login, views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("path/", views.path, name="path"),
    path("paths/", views.paths, name="paths"),
    path("tree/", views.tree, name="tree"),
    path("by/<str:dimension>/", views.values, name="values"),
    path("live/", live.live, name="live-page"),
    path("loadtests/", loadtests.loadtests, name="loadtests"),
    path("loadtests/<uuid:id>/", loadtests.one_loadtest, name="loadtest"),
    path("login/", login.login, name="login"),
    path("logout/", login.logout, name="logout"),
    path("share/<str:token>/", login.follow, name="share"),
    path("live/events/", events.events, name="live-events"),
]
