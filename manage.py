#!/usr/bin/env python
"""Django's command line, with a private PostgreSQL at hand when DATABASE_URL names none."""

import os
import signal
import sys


def main() -> int:
    from hitcounter.rolling import hangup_ends

    ends = [signal.SIGTERM, signal.SIGHUP] if hangup_ends() else [signal.SIGTERM]
    if signal.SIGHUP not in ends and "serve" in sys.argv[1:2]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until gunicorn, which begins with what we have, handles it
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hitcounter.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.db import OperationalError
    from environs import EnvError

    from counters.sentences import reason_of
    from hitcounter.postgres import PostgresError, PrivatePostgres

    try:
        from hitcounter.environment import DATA_DIR, secret

        if secret("DATABASE_URL"):
            from django.core.management import execute_from_command_line

            leave_the_pool()
            execute_from_command_line(sys.argv)
            return 0
        # Before the database is started: what ends this process must still pass the place where it is stopped.
        for number in ends:
            signal.signal(number, lambda received, _frame: sys.exit(128 + received))
        with PrivatePostgres(DATA_DIR / "postgres").held() as database:
            return database.run_beside([sys.executable, *sys.argv], hangup_ends=signal.SIGHUP in ends)
    except (EnvError, ImproperlyConfigured, PostgresError) as error:
        print(error, file=sys.stderr)
        return 1
    except OperationalError as error:
        print(f"The database cannot be used: {reason_of(error)}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def leave_the_pool() -> None:
    """Have commands connect by themselves: a pool tries on for two seconds, and does not say why it got nowhere."""
    from django.conf import settings

    options = settings.DATABASES["default"]["OPTIONS"]
    options.setdefault("connect_timeout", options.pop("pool")["timeout"])


if __name__ == "__main__":
    sys.exit(main())
