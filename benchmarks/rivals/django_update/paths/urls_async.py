from django.urls import path, re_path

from paths import views

urlpatterns = [re_path("^api/", views.count_async), path("stats/", views.stats)]
