"""Logging in and out, and the limit of wrong logins."""

from datetime import timedelta
from urllib.parse import urlencode

import pytest
from axes.models import AccessAttempt, AccessAttemptExpiration, AccessFailureLog, AccessLog
from django.core.management import call_command
from django.test import Client

from counters import clients, maintenance
from counters.hits import now

pytestmark = pytest.mark.django_db

PASSWORD, WRONG = "correct horse", "wrong horse"
#: Of documentation (RFC 5737, RFC 3849): two clients, and a proxy.
HERE, THERE, PROXY = "192.0.2.1", "198.51.100.1", "203.0.113.1"
LOCKED = "There were too many wrong logins from here."


@pytest.fixture(autouse=True)
def _closed(settings):
    settings.HITCOUNTER_OPEN = False
    # The usual one takes a third of a second for each password, as it should.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def ann(django_user_model):
    return django_user_model.objects.create_user("ann", password=PASSWORD)


@pytest.fixture
def proxied(settings):
    """Whoever comes through PROXY is believed to be who that says."""
    settings.HITCOUNTER_TRUSTED_PROXIES = PROXY
    clients.origins.cache_clear()
    yield
    clients.origins.cache_clear()


def logs_in(password: str = WRONG, name: str = "ann", at: str = HERE, page: str = "/login/", **options):
    data = {"username": name, "password": password}
    return Client().post(page, data, REMOTE_ADDR=at, **options)


def lock(times: int = 10, **options) -> None:
    for _ in range(times):
        last = logs_in(**options)
    assert last.status_code == 429


# Logging in and out


@pytest.mark.parametrize(
    "target", ["/", "/path/?path=/a%2520b&period=7d", "/by/country/?country=", "/loadtests/", "/docs/", "/live/"]
)
def test_who_is_led_to_log_in_comes_back(client, target):
    answer = client.get(target)
    assert answer.status_code == 302
    page = client.get(answer.headers["Location"])
    assert page.status_code == 200
    sent = {"username": "ann", "password": PASSWORD, "next": page.context["next"]}
    assert client.post("/login/", sent).headers["Location"] == target
    assert client.get(target).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/",
        "https://evil.example/",
        "http://evil.example/",
        "///evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "https:evil.example",
        "javascript:alert(1)",
        " //evil.example/",
        "/\t/evil.example/",
        "http://testserver@evil.example/",
        "//testserver.evil.example",
    ],
)
@pytest.mark.parametrize("page", ["/login/", "/admin/login/"])
def test_a_login_leads_to_no_other_site(client, django_user_model, page, target):
    django_user_model.objects.update(is_staff=True)
    shown = client.get(f"{page}?{urlencode({'next': target})}")
    assert shown.status_code == 200
    if page == "/login/":
        assert "evil" not in shown.text and "alert" not in shown.text
    answer = client.post(page, {"username": "ann", "password": PASSWORD, "next": target})
    assert answer.status_code == 302
    assert answer.headers["Location"] in ("/", "/admin/") or "evil" not in answer.headers["Location"]


@pytest.mark.parametrize("given", ["/\r\nX-Other: 1", "/%0d%0aX-Other:%201"])
def test_a_login_splits_no_header(client, given):
    answer = client.post("/login/", {"username": "ann", "password": PASSWORD, "next": given})
    assert answer.status_code == 302
    assert "X-Other" not in answer.headers
    assert "\n" not in answer.headers["Location"] and "\r" not in answer.headers["Location"]


@pytest.mark.parametrize(
    ("name", "password"),
    [("ann", WRONG), ("nobody", PASSWORD), ("ANN", PASSWORD), ("ann", ""), ("", ""), ("a\0", PASSWORD)],
)
def test_a_wrong_login_is_told_on_the_page_and_not_what_was_wrong(name, password):
    answer = logs_in(password, name)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text
    assert not answer.cookies.get("hitcounter_session")


def test_who_is_not_active_does_not_log_in(ann):
    ann.is_active = False
    ann.save()
    assert logs_in(PASSWORD).status_code == 200


def test_a_name_that_is_markup_is_shown_as_it_is():
    assert '<b>"' not in logs_in(name='<b>"').text


def test_who_logs_out_is_nobody_again(client):
    client.post("/login/", {"username": "ann", "password": PASSWORD})
    assert client.get("/stats/").status_code == 200
    assert client.post("/logout/").headers["Location"] == "/"
    assert client.get("/stats/").status_code == 401


def test_a_link_logs_nobody_out(client, ann):
    client.force_login(ann)
    assert client.get("/logout/").status_code == 405
    assert client.get("/stats/").status_code == 200


def test_a_page_says_who_is_logged_in_and_staff_find_the_admin(client, ann):
    client.force_login(ann)
    page = client.get("/").text
    assert "<bdi>ann</bdi>" in page and 'action="/logout/"' in page
    assert 'href="/admin/"' not in page and "/login/" not in page
    ann.is_staff = True
    ann.save()
    assert 'href="/admin/"' in client.get("/").text


def test_an_open_page_offers_to_log_in_and_keeps_no_cookie(client, settings):
    settings.HITCOUNTER_OPEN = True
    answer = client.get("/paths/?period=7d&utm_source=mail")
    assert 'href="/login/?next=%2Fpaths%2F%3Fperiod%3D7d%26tz%3DUTC"' in answer.text
    assert "/logout/" not in answer.text
    assert not answer.cookies


# Wrong logins


@pytest.mark.parametrize("page", ["/login/", "/admin/login/"])
def test_after_ten_wrong_logins_the_right_password_is_refused_there_and_taken_elsewhere(page):
    for _ in range(9):
        assert logs_in(page=page).status_code == 200
    answer = logs_in(page=page)
    assert (answer.status_code, answer.headers["Content-Type"]) == (429, "text/html; charset=utf-8")
    assert f"{LOCKED} Try again in 15 minutes." in answer.text
    assert 890 <= int(answer.headers["Retry-After"]) <= 900
    for each in ("/login/", "/admin/login/"):
        refused = logs_in(PASSWORD, page=each)
        assert refused.status_code == 429
        assert not refused.cookies.get("hitcounter_session")
    assert logs_in(PASSWORD, at=THERE).status_code == 302


def test_of_fifty_wrong_logins_for_one_name_none_but_the_first_nine_is_looked_at():
    assert [logs_in().status_code for _ in range(50)] == [200] * 9 + [429] * 41
    assert AccessAttempt.objects.get().failures_since_start == 10


def test_fifty_wrong_logins_for_any_names_lock_an_address(django_user_model):
    assert {logs_in(name=f"user{n % 25}").status_code for n in range(49)} == {200}
    assert logs_in(name="somebody").status_code == 429
    assert logs_in(PASSWORD).status_code == 429
    assert logs_in(PASSWORD, at=THERE).status_code == 302


def test_others_from_the_same_address_may_log_in_while_one_name_is_locked(django_user_model):
    django_user_model.objects.create_user("bob", password=PASSWORD)
    lock()
    assert logs_in(PASSWORD, "bob").status_code == 302


def test_a_user_agent_of_their_own_does_not_help():
    answers = [logs_in(headers={"User-Agent": f"agent {n}"}).status_code for n in range(10)]
    assert answers[-1] == 429


def test_an_address_of_ones_own_in_the_same_network_does_not_help():
    answers = [logs_in(at=f"2001:db8:1:2::{n}").status_code for n in range(10)]
    assert answers[-1] == 429
    assert logs_in(PASSWORD, at="2001:db8:1:3::1").status_code == 302


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Client-IP", "X-Client-IP"])
def test_a_header_that_claims_another_address_does_not_help(header):
    answers = [logs_in(headers={header: f"198.51.100.{n}"}).status_code for n in range(10)]
    assert answers[-1] == 429
    assert logs_in(PASSWORD, headers={header: "198.51.100.99"}).status_code == 429


@pytest.mark.usefixtures("proxied")
def test_behind_a_trusted_proxy_what_the_client_itself_claims_does_not_help_and_others_are_not_locked():
    def claims(password: str, claimed: str, address: str) -> int:
        forwarded = {"X-Forwarded-For": f"{claimed}, {address}"}
        return logs_in(password, at=PROXY, headers=forwarded).status_code

    assert [claims(WRONG, f"10.0.0.{n}", HERE) for n in range(10)][-1] == 429
    assert claims(PASSWORD, "10.0.0.99", HERE) == 429
    assert claims(PASSWORD, "10.0.0.1", THERE) == 302


def test_after_a_quarter_of_an_hour_it_may_be_tried_again():
    lock()
    AccessAttempt.objects.update(attempt_time=now() - timedelta(minutes=14))
    refused = logs_in(PASSWORD)
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) <= 60
    assert "Try again in 1 minute." in refused.text
    AccessAttempt.objects.update(attempt_time=now() - timedelta(minutes=15, seconds=1))
    assert logs_in(PASSWORD).status_code == 302


def test_trying_on_does_not_prolong_it():
    lock()
    before = AccessAttempt.objects.get().attempt_time
    logs_in()
    logs_in(PASSWORD)
    assert AccessAttempt.objects.get().attempt_time == before


def test_a_login_forgets_the_wrong_ones_of_its_name_and_no_others(django_user_model):
    django_user_model.objects.create_user("bob", password=PASSWORD)
    for _ in range(9):
        logs_in()
        logs_in(name="bob")
    assert logs_in(PASSWORD).status_code == 302
    assert logs_in().status_code == 200
    assert logs_in(name="bob").status_code == 429


def test_who_is_logged_in_stays_so_while_the_address_is_locked(client, ann):
    client.force_login(ann)
    lock()
    assert client.get("/stats/", REMOTE_ADDR=HERE).status_code == 200


def test_a_program_that_does_not_ask_for_a_page_is_told_in_JSON():
    lock()
    answer = logs_in(headers={"Accept": "application/json"})
    assert answer.status_code == 429
    assert answer.json()["detail"].startswith(LOCKED)


def test_nothing_is_kept_but_the_name_and_a_hash_of_the_address(caplog):
    logs_in("a password", headers={"User-Agent": "an agent", "Accept": "text/html"}, query_params={"next": "/secret/"})
    for _ in range(10):
        logs_in("a password")
    [kept] = AccessAttempt.objects.values()
    assert kept["username"] == "ann"
    texts = " ".join(str(value) for value in kept.values())
    for private in (HERE, "a password", "agent", "html", "secret"):
        assert private not in texts and private not in caplog.text
    assert ":" in kept["ip_address"]
    for model in (AccessAttemptExpiration, AccessFailureLog, AccessLog):
        assert not model.objects.exists()
    assert "no more are taken from an address for a while" in caplog.text


def test_the_hash_of_an_address_takes_the_secret_key(settings):
    logs_in()
    settings.SECRET_KEY = "another"
    logs_in()
    assert AccessAttempt.objects.count() == 2


def test_maintenance_forgets_wrong_logins_when_they_do_not_matter_any_more(settings):
    logs_in()
    maintenance._prune(now())
    assert AccessAttempt.objects.exists()
    maintenance._prune(now() + timedelta(minutes=16))
    assert not AccessAttempt.objects.exists()


@pytest.mark.parametrize("command", [["axes_reset"], ["axes_reset_username", "ann"]])
def test_who_runs_the_service_lets_them_in_again(command, capsys):
    lock()
    call_command(*command)
    assert logs_in(PASSWORD).status_code == 302
