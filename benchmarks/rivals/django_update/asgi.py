"""As gunicorn's asynchronous workers serve it."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
# Read by settings.py: threads that come and go with requests keep no connection.
os.environ["RIVAL_POOL"] = "on"
os.environ["RIVAL_ROOT_URLCONF"] = "paths.urls_async"
application = get_asgi_application()
