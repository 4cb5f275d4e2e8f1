"""The service's application, where who takes nothing is given up after a few seconds instead of a minute."""

from gunicorn.workers import gasgi

from hitcounter.asgi import application  # noqa: F401

vars(gasgi)["ASGIProtocol"].take_seconds = 6  # hitcounter.gunicorn has put it there
