"""/healthz/ready names what is missing, and asks for migrations no longer than it must."""

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

from counters.api import views
from counters.health import Migrations

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def unasked(monkeypatch):
    """A process that has not been asked yet."""
    monkeypatch.setattr(views, "migrations", Migrations())


def newest() -> tuple[str, str]:
    """The app's last migration."""
    return max(key for key in MigrationRecorder(connection).applied_migrations() if key[0] == "counters")


def test_it_is_ready_once_all_migrations_are_applied(client):
    assert client.get("/healthz/ready").json() == {"status": "ready"}


def test_a_migration_that_is_not_applied_is_named_until_it_is(client):
    app, name = newest()
    MigrationRecorder(connection).record_unapplied(app, name)
    for _ in range(2):
        answer = client.get("/healthz/ready")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert f"{app}.{name}" in answer.json()["detail"]
    MigrationRecorder(connection).record_applied(app, name)
    assert client.get("/healthz/ready").status_code == 200


def test_what_has_been_found_once_is_not_asked_again(client, django_assert_num_queries):
    client.get("/healthz/ready")
    with django_assert_num_queries(1) as asked:
        assert client.get("/healthz/ready").status_code == 200
    assert [query["sql"] for query in asked.captured_queries] == ["SELECT 1"]


def test_a_database_that_cannot_be_reached_is_named(client, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OperationalError("connection refused")

    monkeypatch.setattr(connection, "cursor", unreachable)
    answer = client.get("/healthz/ready")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "database" in answer.json()["detail"]


def test_a_process_lives_whatever_the_database_does(client, monkeypatch):
    monkeypatch.setattr(connection, "cursor", None)
    assert client.get("/healthz/live").json() == {"status": "live"}
