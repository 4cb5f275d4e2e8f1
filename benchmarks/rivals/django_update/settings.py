"""As little of Django as counting needs: no middleware, no sessions, no templates."""

import os
from urllib.parse import parse_qs, urlsplit

_url = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = "of a benchmark that keeps no secrets"  # noqa: S105
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = os.environ.get("RIVAL_ROOT_URLCONF", "paths.urls")
INSTALLED_APPS = ["paths"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path[1:],
        "USER": _url.username,
        "HOST": parse_qs(_url.query)["host"][0],
    }
}
if "RIVAL_POOL" in os.environ:
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 4, "max_size": 16, "timeout": 60}}
else:
    DATABASES["default"]["CONN_MAX_AGE"] = None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
