"""`manage.py serve`: who is made the first user, and what is said at the start."""

import socket
from io import StringIO
from pathlib import Path
from threading import Timer

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError

from hitcounter.management.commands import serve
from tests.service import free_port

GOOD = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _data_dir(settings, tmp_path: Path) -> None:
    settings.HITCOUNTER_DATA_DIR = tmp_path
    settings.HITCOUNTER_ADMIN_PASSWORD = ""
    settings.MAKES_SECRETS = True


def begun() -> str:
    """What is said when the first user is made, or not."""
    said = StringIO()
    serve.Command(stdout=said).make_first_user()
    return said.getvalue()


def admins() -> list[str]:
    return [user.username for user in get_user_model().objects.filter(is_superuser=True)]


@pytest.mark.django_db
def test_on_a_loopback_address_the_first_user_gets_a_password_that_is_kept(tmp_path: Path):
    assert str(tmp_path / "admin-password") in begun()
    password = (tmp_path / "admin-password").read_text().strip()
    assert (tmp_path / "admin-password").stat().st_mode & 0o777 == 0o600
    assert get_user_model().objects.get(username="admin").check_password(password)


@pytest.mark.django_db
@pytest.mark.parametrize("makes_secrets", [True, False])
def test_a_password_from_outside_is_the_first_users_and_written_nowhere(settings, tmp_path: Path, makes_secrets: bool):
    settings.HITCOUNTER_ADMIN_PASSWORD, settings.MAKES_SECRETS = GOOD, makes_secrets
    assert GOOD not in begun()
    assert get_user_model().objects.get(username="admin").check_password(GOOD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db
def test_elsewhere_nobody_is_made_and_it_is_said_how(settings, tmp_path: Path):
    settings.MAKES_SECRETS = False
    assert "createsuperuser" in begun()
    assert admins() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db
@pytest.mark.parametrize("weak", ["password", "short", "1234567890123"])
def test_a_password_that_is_easy_to_guess_stops_the_start_by_name(settings, weak: str):
    settings.HITCOUNTER_ADMIN_PASSWORD = weak
    with pytest.raises(CommandError, match="HITCOUNTER_ADMIN_PASSWORD"):
        begun()
    assert admins() == []


@pytest.mark.django_db
def test_where_there_is_a_user_no_other_is_made(settings):
    get_user_model().objects.create_user("somebody")
    settings.HITCOUNTER_ADMIN_PASSWORD = GOOD
    assert begun() == ""
    assert admins() == []


@pytest.mark.parametrize("tls", [True, False])
def test_it_is_said_at_the_start_that_pages_need_https(settings, tls: bool):
    settings.HITCOUNTER_TLS = tls
    said = StringIO()
    serve.Command(stdout=said).say_where()
    assert ("HITCOUNTER_TLS=off" in said.getvalue()) == tls


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_that_is_in_use_stops_the_start_by_name(monkeypatch: pytest.MonkeyPatch, host: str):
    monkeypatch.setattr(serve, "IN_USE_SECONDS", 0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CommandError) as refusal:
            serve.check_address(host, port)
    assert str(refusal.value) == f"The service cannot listen on HITCOUNTER_BIND, {host}:{port}: Address already in use."


def test_an_address_of_another_machine_stops_it_at_once():
    with pytest.raises(CommandError, match=r"HITCOUNTER_BIND, 192\.0\.2\.1:5000: "):
        serve.check_address("192.0.2.1", 5000)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]"])  # noqa: S104
def test_an_address_that_is_free_is_free_afterwards(host: str):
    port = free_port()
    serve.check_address(host, port)
    serve.check_address(host, port)


def test_who_still_listens_for_a_moment_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as other:
        Timer(0.3, other.close).start()
        serve.check_address(*other.getsockname())
