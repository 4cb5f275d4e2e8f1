"""Serve: bring the database up to date, make the first admin user, say where the pages are, become gunicorn."""

import errno
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import BaseCommand, CommandError, call_command
from django.db import connection
from gunicorn.systemd import listen_fds

from hitcounter import secrets
from hitcounter.environment import BASE_DIR, unknown
from hitcounter.logs import MASTER_LOG_FORMAT

MIGRATION_LOCK = "SELECT pg_advisory_lock(hashtextextended('counters migrate', 0))"
MIGRATION_UNLOCK = "SELECT pg_advisory_unlock(hashtextextended('counters migrate', 0))"
#: In which an address may become free, as gunicorn has it: workers whose master was killed listen for a moment longer.
IN_USE_SECONDS = 4
POLL_SECONDS = 0.1


class Command(BaseCommand):
    help = "Migrate, then serve on HITCOUNTER_BIND until Ctrl-C or SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        for sentence in unknown():
            self.stderr.write(sentence)
        check_address(settings.BIND_HOST, settings.BIND_PORT)
        with connection.cursor() as cursor:
            cursor.execute(MIGRATION_LOCK)  # several servers may start at once
            call_command("migrate", verbosity=0)
            self.make_first_user()
            cursor.execute(MIGRATION_UNLOCK)
        connection.close()
        self.say_where()
        os.chdir(BASE_DIR)  # where gunicorn finds the project
        os.environ[MASTER_LOG_FORMAT] = settings.HITCOUNTER_LOG_FORMAT
        os.execv(sys.executable, gunicorn("hitcounter.asgi:application"))  # noqa: S606 (no shell is wanted)

    def make_first_user(self) -> None:
        users = get_user_model().objects
        if users.exists():
            return
        if settings.HITCOUNTER_ADMIN_PASSWORD:
            users.create_superuser("admin", password=_fit(settings.HITCOUNTER_ADMIN_PASSWORD))
            self.stdout.write("Made the admin user 'admin', with the password in HITCOUNTER_ADMIN_PASSWORD.")
        elif settings.MAKES_SECRETS:
            file: Path = settings.HITCOUNTER_DATA_DIR / "admin-password"
            users.create_superuser("admin", password=secrets.read_or_make(file))
            self.stdout.write(f"Made the admin user 'admin'; the password is in {file}.")
        else:
            self.stdout.write("There is no user yet: `manage.py createsuperuser` makes one.")

    def say_where(self) -> None:
        url = settings.HITCOUNTER_OWN_URL
        self.stdout.write(
            f"Hit Counter serves on {url} with {settings.HITCOUNTER_WORKERS} workers; Ctrl-C stops it.\n"
            f"  counts      {url}/api/…\n"
            f"  dashboard   {url}/\n"
            f"  statistics  {url}/stats/\n"
            f"  admin       {url}/admin/\n"
        )
        if settings.HITCOUNTER_TLS:
            self.stdout.write(
                "All but counting is answered over HTTPS alone, of which a proxy in front tells by X-Forwarded-Proto; "
                "HITCOUNTER_TLS=off where there is none.\n"
            )
        self.stdout.flush()


def check_address(host: str, port: int) -> None:
    """Raise CommandError where gunicorn could not listen. An address that is in use is given time, as gunicorn does."""
    if listen_fds(unset_environment=False):
        return  # systemd listens there for us
    deadline = time.monotonic() + IN_USE_SECONDS
    while error := _bind(host, port):
        if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise CommandError(f"The service cannot listen on HITCOUNTER_BIND, {host}:{port}: {error.strerror}.")
        time.sleep(POLL_SECONDS)


def _bind(host: str, port: int) -> OSError | None:
    """What hinders."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            return error
    return None


def gunicorn(application: str) -> list[str]:
    """The command that serves an application as this project is served."""
    where = ["--bind", settings.HITCOUNTER_BIND, "--workers", str(settings.HITCOUNTER_WORKERS)]
    return [sys.executable, "-m", "gunicorn", "-c", "python:hitcounter.gunicorn", *where, application]


def _fit(password: str) -> str:
    """The first user's password, from outside. Raises CommandError for one that Django thinks too easy to guess."""
    try:
        validate_password(password)
    except ValidationError as error:
        raise CommandError(f"HITCOUNTER_ADMIN_PASSWORD is too weak: {' '.join(error.messages)}") from None
    return password
