"""System checks, and that models and migrations agree."""

import pytest
from django.core.management import call_command
from django.db import connection

from counters.checks import check_server

pytestmark = pytest.mark.django_db


def test_models_and_migrations_agree():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_this_server_is_fine():
    assert check_server(databases=["default"]) == []


def test_commits_that_may_be_lost_are_warned_of():
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
    assert [found.id for found in check_server(databases=["default"])] == ["counters.W001"]


def test_migrations_can_be_undone_and_done_again(transactional_db):
    call_command("migrate", "counters", "zero", verbosity=0)
    assert "counters_hit" not in connection.introspection.table_names()
    call_command("migrate", "counters", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'counters_hit'::regclass")
        assert cursor.fetchone()[0] == 2
