"""Its settings: nothing of the service, one line of middleware, and where hits go from the environment."""

import os

SECRET_KEY = "the host's own"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.host.urls"
MIDDLEWARE = ["counters.middleware.CountRequests"]
USE_TZ = True

HITCOUNTER_URL = os.environ.get("HOST_HITCOUNTER_URL")
HITCOUNTER_KEY = os.environ.get("HOST_HITCOUNTER_KEY")
HITCOUNTER_SPOOL = os.environ.get("HOST_HITCOUNTER_SPOOL")
HITCOUNTER_SPOOL_MB = float(os.environ.get("HOST_HITCOUNTER_SPOOL_MB", "100"))
