"""API keys and share links in the admin: made, listed, revoked."""

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from counters import sharing
from counters.hits import now
from counters.models import ApiKey, ShareLink

pytestmark = pytest.mark.django_db

KEYS, LINKS = "/admin/counters/apikey/", "/admin/counters/sharelink/"


@pytest.fixture(autouse=True)
def _closed(settings):
    settings.HITCOUNTER_OPEN = False


def text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def make_key(client, **fields):
    data = {"name": "grafana", "scopes": ["stats", "ingest"], **fields}
    return client.post(f"{KEYS}add/", data, follow=True)


def revoke(client, address, *objects):
    chosen = [one.pk for one in objects]
    return client.post(address, {"action": "revoke", "_selected_action": chosen}, follow=True)


def may(text: str, address: str = "/stats/") -> int:
    return Client().get(address, headers={"Authorization": f"Bearer {text}"}).status_code


def test_a_key_is_made_with_boxes_to_tick_and_shown_once(admin_client):
    form = admin_client.get(f"{KEYS}add/").text
    assert set(re.findall(r'type="checkbox" name="scopes" value="(\w+)"', form)) == {
        "stats",
        "ingest",
        "loadtest",
        "admin",
    }
    page = make_key(admin_client).text
    key = ApiKey.objects.get()
    assert (key.name, key.scopes, key.expiry_date) == ("grafana", ["stats", "ingest"], None)
    [shown] = set(re.findall(rf"{key.prefix}\.[0-9A-Za-z]{{32}}", page))
    assert may(shown) == 200
    assert "messages" not in admin_client.cookies  # where it would go to whatever else is on this host
    assert admin_client.get(f"{KEYS}?hashed_key__startswith=sha512").status_code in (302, 400)
    for address in (KEYS, f"{KEYS}{key.pk}/change/", f"{KEYS}{key.pk}/history/"):
        assert shown not in admin_client.get(address).text


@pytest.mark.parametrize("wrong", [{"scopes": []}, {"scopes": ["everything"]}, {"name": ""}, {"name": "x" * 51}])
def test_a_key_that_is_none_is_told_on_the_form(admin_client, wrong):
    assert "errorlist" in make_key(admin_client, **wrong).text
    assert not ApiKey.objects.exists()


def test_the_list_tells_what_keys_are_for_and_how_they_stand(admin_client):
    ApiKey.objects.create_key(name="current", scopes=["stats", "loadtest"], last_use=now())
    ApiKey.objects.create_key(name="late", scopes=["admin"], expiry_date=now() - timedelta(days=1))
    ApiKey.objects.create_key(name="stolen", scopes=["ingest"], revoked=True)
    page = text(admin_client.get(KEYS).text)
    for part in ("stats, loadtest", "in force", "expired", "revoked", *ApiKey.objects.values_list("prefix", flat=True)):
        assert part in page


def test_keys_are_revoked_from_the_list_at_once_and_the_log_says_so(admin_client):
    key, shown = ApiKey.objects.create_key(name="a", scopes=["stats"])
    other, others = ApiKey.objects.create_key(name="b", scopes=["stats"])
    assert may(shown) == 200
    assert "Revoked 1 API key." in revoke(admin_client, KEYS, key).text
    assert (may(shown), may(others)) == (401, 200)
    assert "Revoked 1 API key." in revoke(admin_client, KEYS, key, other).text
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Revoked.", "Revoked."]


def test_scopes_and_end_of_a_key_may_be_changed_and_its_secret_stays(admin_client):
    key, shown = ApiKey.objects.create_key(name="a", scopes=["ingest"])
    page = admin_client.get(f"{KEYS}{key.pk}/change/").text
    assert re.findall(r'value="(\w+)"[^>]* checked', page) == ["ingest"]
    admin_client.post(f"{KEYS}{key.pk}/change/", {"name": "a", "scopes": ["stats"]})
    assert may(shown) == 200


def test_a_revoked_key_is_looked_at_and_neither_changed_nor_deleted(admin_client):
    key, shown = ApiKey.objects.create_key(name="a", scopes=["ingest"], revoked=True)
    assert admin_client.get(f"{KEYS}{key.pk}/change/").status_code == 200
    assert admin_client.post(f"{KEYS}{key.pk}/change/", {"name": "a", "scopes": ["stats"]}).status_code == 403
    assert admin_client.post(f"{KEYS}{key.pk}/delete/", {"post": "yes"}).status_code == 403
    assert may(shown) == 401


def test_keys_of_the_package_without_scopes_are_not_offered(admin_client):
    assert admin_client.get("/admin/rest_framework_api_key/apikey/").status_code == 404
    assert admin_client.get("/admin/axes/").status_code == 404


@pytest.mark.parametrize("address", [KEYS, LINKS])
def test_who_may_only_look_revokes_nothing(client, address):
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_apikey", "view_sharelink"]))
    client.force_login(user)
    key, _ = ApiKey.objects.create_key(name="a", scopes=["stats"])
    link = ShareLink.objects.create(name="a", prefix="/a/")
    assert client.get(address).status_code == 200
    revoke(client, address, key if address == KEYS else link)
    assert not ApiKey.objects.filter(revoked=True) and not ShareLink.objects.filter(revoked=True)


def test_a_share_link_is_made_and_its_address_shown(admin_client):
    assert admin_client.get(f"{LINKS}add/").status_code == 200
    admin_client.post(f"{LINKS}add/", {"name": "for Bob", "prefix": "/shop/"})
    link = ShareLink.objects.get()
    address = f"http://testserver/share/{sharing.token(link)}/"
    for page in (LINKS, f"{LINKS}{link.pk}/change/"):
        assert f'href="{address}"' in admin_client.get(page).text
    assert Client().get(address).status_code == 302


@pytest.mark.parametrize("prefix", ["", "shop/", "/a b", "/ü", "/" + "x" * 2048, "https://evil.example/"])
def test_a_prefix_that_no_path_has_is_told_on_the_form(admin_client, prefix):
    page = admin_client.post(f"{LINKS}add/", {"name": "for Bob", "prefix": prefix}).text
    assert "errorlist" in page
    assert not ShareLink.objects.exists()


def test_what_a_share_link_shows_does_not_change_and_its_end_may(admin_client):
    link = ShareLink.objects.create(name="a", prefix="/a/")
    sent = {"name": "b", "prefix": "/", "expires_0": "2026-01-01", "expires_1": "12:00:00"}
    assert admin_client.post(f"{LINKS}{link.pk}/change/", sent).status_code == 302
    link.refresh_from_db()
    assert (link.name, link.prefix, link.in_force) == ("b", "/a/", False)


def test_share_links_are_revoked_from_the_list_at_once_and_for_good(admin_client):
    link = ShareLink.objects.create(name="a", prefix="/a/")
    holder = Client()
    holder.get(f"/share/{sharing.token(link)}/")
    assert holder.get("/").status_code == 200
    assert "Revoked 1 share link." in revoke(admin_client, LINKS, link).text
    assert holder.get("/").status_code == 302
    assert "revoked" in text(admin_client.get(LINKS).text)
    assert admin_client.post(f"{LINKS}{link.pk}/change/", {"name": "a"}).status_code == 403
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Revoked."]
