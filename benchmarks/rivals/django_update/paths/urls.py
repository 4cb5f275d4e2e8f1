from django.urls import path, re_path

from paths import views

urlpatterns = [re_path("^api/", views.count), path("stats/", views.stats)]
