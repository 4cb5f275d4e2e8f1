"""Who may look at the pages, and how they are led to log in."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.integration.dashboard.pages import PAGES

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("page", PAGES)
def test_where_the_service_is_not_open_strangers_are_led_to_log_in_and_back(client, settings, page):
    settings.HITCOUNTER_OPEN = False
    answer = client.get(page)
    assert answer.status_code == 302
    address = urlsplit(answer.headers["Location"])
    assert (address.path, parse_qs(address.query)) == ("/login/", {"next": [page]})


def test_a_stranger_is_not_told_whether_there_is_such_a_page(client, settings):
    settings.HITCOUNTER_OPEN = False
    assert client.get("/by/colour/").status_code == client.get("/by/country/?tz=Mars").status_code == 302


def test_a_link_from_another_site_finds_one_who_is_logged_in(client, settings, django_user_model):
    django_user_model.objects.create_superuser("ann", password="secret")
    answer = client.post("/login/", {"username": "ann", "password": "secret", "next": "/"})
    assert answer.status_code == 302
    assert answer.cookies[settings.SESSION_COOKIE_NAME]["samesite"] == "Lax"
