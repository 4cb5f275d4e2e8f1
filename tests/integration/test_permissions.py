"""Who may read statistics and start load tests, and who may not."""

from base64 import b64encode

import pytest
from django.core import signing

from counters.access import SERVICE_HEADER, service_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def closed(settings):
    settings.HITCOUNTER_OPEN = False


@pytest.fixture
def opened(settings):
    settings.HITCOUNTER_OPEN = True


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.usefixtures("opened")
def test_an_open_service_asks_nobody_who_they_are(client):
    assert client.get("/stats/").status_code == 200
    assert client.post("/test/0/").status_code == 400


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize(("method", "target"), [("get", "/stats/"), ("post", "/test/1/"), ("post", "/hits/")])
def test_a_closed_service_asks_strangers_to_log_in(client, method, target):
    answer = getattr(client, method)(target)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert answer.json()["detail"]


@pytest.mark.usefixtures("closed")
def test_counting_stays_open(client):
    assert client.get("/api/a/").status_code == 200


@pytest.mark.usefixtures("closed")
def test_staff_may_read_with_their_password(client, django_user_model):
    django_user_model.objects.create_user("ann", password="pw", is_staff=True)
    assert client.get("/stats/", headers=basic("ann", "pw")).status_code == 200
    assert client.get("/stats/", headers=basic("ann", "wrong")).status_code == 401


@pytest.mark.usefixtures("closed")
def test_staff_may_send_hits_with_their_password(client, django_user_model):
    django_user_model.objects.create_user("ann", password="pw", is_staff=True)
    answer = client.post("/hits/", [{"path": "/a"}], "application/json", headers=basic("ann", "pw"))
    assert (answer.status_code, answer.json()) == (200, {"counted": 1})


@pytest.mark.usefixtures("closed")
def test_a_user_who_is_not_staff_may_not(client, django_user_model):
    django_user_model.objects.create_user("bob", password="pw")
    assert client.get("/stats/", headers=basic("bob", "pw")).status_code == 403


@pytest.mark.usefixtures("closed")
def test_the_service_recognises_its_own_requests(client):
    assert client.get("/stats/", headers={SERVICE_HEADER: service_token()}).status_code == 200


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize(
    "token",
    ["", "service", "service:1:x", signing.TimestampSigner(salt="other").sign("service")],
    ids=["none", "unsigned", "made up", "for something else"],
)
def test_a_made_up_service_token_opens_nothing(client, token):
    assert client.get("/stats/", headers={SERVICE_HEADER: token}).status_code == 401


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("target", ["/test/1/", "/hits/"])
def test_another_sites_page_starts_no_load_test_and_sends_no_hits_through_a_visitors_browser(client, target, site):
    answer = client.post(target, headers={"Sec-Fetch-Site": site})
    assert (answer.status_code, answer.json()) == (403, {"detail": "Another site's page may not ask for this."})


@pytest.mark.parametrize("target", ["/test/0/", "/hits/"])
def test_a_logged_in_browser_needs_its_csrf_token_to_start_a_load_test_and_to_send_hits(admin_user, settings, target):
    from django.test import Client

    settings.HITCOUNTER_OPEN = False
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    answer = client.post(target)
    assert answer.status_code == 403
    assert "CSRF" in answer.json()["detail"]


@pytest.mark.usefixtures("closed")
def test_a_name_or_session_that_cannot_be_looked_up_is_a_bad_request(client):
    assert client.get("/stats/", headers=basic("a\0b", "pw")).status_code == 400
    client.cookies["hitcounter_session"] = "aaaaaaaaaa\0"
    answer = client.get("/admin/")
    assert (answer.status_code, list(answer.json())) == (400, ["detail"])
