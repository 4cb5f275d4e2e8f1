"""API keys, the load test's own token, and what another site's page may ask for."""

import re
from datetime import timedelta

import pytest
from django.core import signing
from django.db import IntegrityError, OperationalError, transaction
from django.test import Client

from counters import access
from counters.access import SERVICE_HEADER, service_token
from counters.hits import now
from counters.models import ApiKey, Scope

pytestmark = pytest.mark.django_db

LOG_IN = {"detail": "Log in, or send an API key: Authorization: Bearer <key>."}
NO_SUCH = {"detail": "There is no such API key."}


@pytest.fixture(autouse=True)
def _closed(settings):
    settings.HITCOUNTER_OPEN = False


@pytest.fixture
def opened(settings):
    settings.HITCOUNTER_OPEN = True


def made(*scopes: str, **fields: object) -> tuple[ApiKey, str]:
    return ApiKey.objects.create_key(name="a", scopes=list(scopes) or ["stats"], **fields)


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


@pytest.mark.usefixtures("opened")
def test_an_open_service_asks_nobody_who_they_are(client):
    assert client.get("/stats/").status_code == 200
    assert client.post("/test/0/").status_code == 400


@pytest.mark.parametrize(("method", "target"), [("get", "/stats/"), ("post", "/test/1/"), ("post", "/hits/")])
def test_a_closed_service_says_what_to_send(client, method, target):
    answer = getattr(client, method)(target)
    assert (answer.status_code, answer.headers["WWW-Authenticate"], answer.json()) == (401, "Bearer", LOG_IN)


def test_counting_stays_open(client):
    assert client.get("/api/a/").status_code == 200


def test_a_key_has_190_random_bits_and_its_hash_alone_is_kept():
    key, text = made()
    assert re.fullmatch(r"[0-9A-Za-z]{8}\.[0-9A-Za-z]{32}", text)
    assert text.startswith(f"{key.prefix}.")
    assert key.hashed_key.startswith("sha512$$")
    secret = text.partition(".")[2]
    assert not any(secret in str(value) for value in ApiKey.objects.values_list().get())


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer ", " Bearer"])
def test_the_name_of_the_scheme_is_read_as_HTTP_has_it(client, scheme):
    _, text = made()
    assert client.get("/stats/", headers={"Authorization": f"{scheme} {text}"}).status_code == 200


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("credentials", ["Basic YTpi", "Digest x", "", "Bearertoken"])
def test_credentials_of_other_kinds_are_a_proxys_own(client, credentials):
    assert client.get("/stats/", headers={"Authorization": credentials}).status_code == 200


def test_a_password_opens_nothing_any_more(client, django_user_model):
    django_user_model.objects.create_superuser("ann", password="pw")
    answer = client.get("/stats/", headers={"Authorization": "Basic YW5uOnB3"})
    assert (answer.status_code, answer.json()) == (401, LOG_IN)


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize(
    "text",
    ["", "x", "a.b", "V0dMquWE.XIFZFCPe3sTqSNmgVUHTTiN3qLPC0fpf", "V0dMquWE\0" + "x" * 32, "é" * 41, "x" * 8000, "a b"],
    ids=["empty", "short", "parts", "unknown", "NUL", "not ASCII", "long", "two"],
)
@pytest.mark.parametrize("target", ["/stats/", "/badge/a.svg", "/schema/", "/live/events/", "/", "/docs/"])
def test_a_key_that_there_is_not_is_told_so_everywhere(client, settings, target, text, is_open):
    settings.HITCOUNTER_OPEN = is_open
    answer = client.get(target, headers=bearer(text))
    assert (answer.status_code, answer.headers["WWW-Authenticate"], answer.json()) == (401, "Bearer", NO_SUCH)


@pytest.mark.parametrize(
    "state", [{}, {"revoked": True}, {"expiry_date": now()}], ids=["in force", "revoked", "expired"]
)
def test_a_key_that_is_wrong_past_its_name_is_as_unknown_as_any_other(client, state):
    _, text = made(**state)
    wrong = text[:-1] + ("b" if text[-1] == "a" else "a")
    assert client.get("/stats/", headers=bearer(wrong)).json() == NO_SUCH


@pytest.mark.parametrize("is_open", [True, False])
@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"revoked": True}, "This API key has been revoked."),
        ({"expiry_date": now()}, "This API key has expired."),
        ({"revoked": True, "expiry_date": now()}, "This API key has been revoked."),
    ],
    ids=["revoked", "expired", "both"],
)
def test_a_key_that_is_over_says_why(client, settings, state, said, is_open):
    settings.HITCOUNTER_OPEN = is_open
    _, text = made(*Scope.values, **state)
    answer = client.post("/hits/", [{"path": "/a"}], "application/json", headers=bearer(text))
    assert (answer.status_code, answer.json()) == (401, {"detail": said})


def test_a_key_ends_when_it_is_revoked_and_when_its_time_has_come(client, monkeypatch):
    key, text = made(expiry_date=now() + timedelta(days=1))
    assert client.get("/stats/", headers=bearer(text)).status_code == 200
    with monkeypatch.context() as later:
        later.setattr("counters.access.now", lambda: now() + timedelta(days=1))
        assert client.get("/stats/", headers=bearer(text)).json() == {"detail": "This API key has expired."}
    ApiKey.objects.filter(pk=key.pk).update(revoked=True)
    assert client.get("/stats/", headers=bearer(text)).json() == {"detail": "This API key has been revoked."}


@pytest.mark.parametrize(
    ("method", "target", "missing"),
    [
        ("get", "/stats/", "stats"),
        ("get", "/badge/a.svg", "stats"),
        ("post", "/hits/", "ingest"),
        ("post", "/test/1/", "loadtest"),
    ],
)
def test_a_key_without_the_scope_is_told_which(client, method, target, missing):
    _, text = made(*(scope for scope in Scope.values if scope not in (missing, "admin")))
    answer = getattr(client, method)(target, headers=bearer(text))
    assert (answer.status_code, answer.json()) == (403, {"detail": f"This API key has not the scope {missing}."})


def test_a_key_stands_for_itself_whoever_is_logged_in(admin_client):
    _, text = made("ingest")
    assert admin_client.get("/stats/", headers=bearer(text)).status_code == 403


def test_hits_are_sent_with_a_key_and_without_a_csrf_token():
    _, text = made("ingest")
    client = Client(enforce_csrf_checks=True)
    answer = client.post("/hits/", [{"path": "/a"}], "application/json", headers=bearer(text))
    assert (answer.status_code, answer.json()) == (200, {"counted": 1})


@pytest.mark.parametrize("scopes", [[], ["everything"], ["stats", "everything"]])
def test_a_key_has_scopes_that_there_are(scopes):
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.create_key(name="a", scopes=scopes)


# The last use


def test_the_last_use_is_kept_to_the_minute(client, django_assert_num_queries, monkeypatch):
    key, text = made()
    client.get("/schema/", headers=bearer(text))
    first = ApiKey.objects.get(pk=key.pk).last_use
    assert now() - first < timedelta(minutes=1)
    with django_assert_num_queries(1):
        client.get("/schema/", headers=bearer(text))
    assert ApiKey.objects.get(pk=key.pk).last_use == first
    monkeypatch.setattr("counters.access.now", lambda: first + timedelta(minutes=1))
    client.get("/schema/", headers=bearer(text))
    assert ApiKey.objects.get(pk=key.pk).last_use == first + timedelta(minutes=1)


def test_a_request_does_not_fail_because_the_last_use_cannot_be_noted(client, monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise OperationalError("read-only")

    key, text = made()
    monkeypatch.setattr("django.db.models.query.QuerySet.update", fails)
    assert client.get("/schema/", headers=bearer(text)).status_code == 200
    assert f"The last use of the API key {key.prefix} cannot be noted: read-only" in caplog.text
    assert text not in caplog.text


def test_a_key_that_is_not_taken_is_not_used(client):
    key, text = made(revoked=True)
    client.get("/stats/", headers=bearer(text))
    assert ApiKey.objects.get(pk=key.pk).last_use is None


# The load test's own token


def test_the_service_recognises_its_own_requests(client):
    assert client.get("/stats/", headers={SERVICE_HEADER: service_token()}).status_code == 200


@pytest.mark.parametrize("target", ["/hits/", "/test/1/"])
def test_the_services_own_token_reads_and_does_nothing_else(client, target):
    assert client.post(target, headers={SERVICE_HEADER: service_token()}).status_code == 401


@pytest.mark.parametrize(
    "token",
    ["", "service", "service:1:x", signing.TimestampSigner(salt="other").sign("service")],
    ids=["none", "unsigned", "made up", "for something else"],
)
def test_a_made_up_service_token_opens_nothing(client, token):
    assert client.get("/stats/", headers={SERVICE_HEADER: token}).status_code == 401


# Browsers


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("target", ["/test/1/", "/hits/"])
def test_another_sites_page_starts_no_load_test_and_sends_no_hits_through_a_visitors_browser(client, target, site):
    answer = client.post(target, headers={"Sec-Fetch-Site": site})
    assert (answer.status_code, answer.json()) == (403, {"detail": "Another site's page may not ask for this."})


@pytest.mark.usefixtures("opened")
def test_another_sites_page_begins_no_load_test_with_a_form_either(client):
    answer = client.post("/loadtests/", {"requests": "0"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert "Another site" in answer.text


@pytest.mark.parametrize("target", ["/test/0/", "/hits/"])
def test_a_logged_in_browser_needs_its_csrf_token_to_start_a_load_test_and_to_send_hits(admin_user, target):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    answer = client.post(target)
    assert answer.status_code == 403
    assert "CSRF" in answer.json()["detail"]


@pytest.mark.parametrize("target", ["/login/", "/logout/", "/loadtests/", "/admin/login/"])
def test_a_form_without_its_csrf_token_is_not_taken(admin_user, target):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    answer = client.post(target, {"requests": "1"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert "The form was not taken" in answer.text
    assert client.get("/stats/").status_code == 200  # still logged in


def test_a_session_that_cannot_be_looked_up_is_a_bad_request(client):
    client.cookies["hitcounter_session"] = "aaaaaaaaaa\0"
    answer = client.get("/admin/")
    assert (answer.status_code, list(answer.json())) == (400, ["detail"])


def test_a_plain_view_asks_by_the_same_rules(rf, django_user_model):
    from django.contrib.auth.models import AnonymousUser
    from django.http import HttpResponse

    @access.needs(Scope.INGEST)
    def view(request):
        return HttpResponse("done")

    def answered(user, **headers: str):
        request = rf.post("/", headers=headers)
        request.user = user
        return view(request)

    assert answered(AnonymousUser()).status_code == 401
    assert answered(django_user_model(username="ann")).status_code == 403
    assert answered(django_user_model(username="bob", is_staff=True)).content == b"done"
    assert answered(AnonymousUser(), **bearer(made("ingest")[1])).content == b"done"
