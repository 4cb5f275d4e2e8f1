from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("counters.dashboard.urls")),
    path("", include("counters.api.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "counters.api.errors.bad_request"
handler403 = "counters.api.errors.forbidden"
handler404 = "counters.api.errors.not_found"
handler500 = "counters.api.errors.server_error"
