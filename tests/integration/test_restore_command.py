"""What restore does with the database once a backup is in it."""

import pytest
from django.db import connection

from hitcounter.management.commands import restore


@pytest.mark.django_db
def test_what_follows_a_restore_has_no_limit_of_time():
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '10s'")
        restore._bring_up_to_date()
        restore.Command().verify()
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)
