"""The service as a WSGI application: the same URLs without the fast lane, hits counted through the ORM."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hitcounter.settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
