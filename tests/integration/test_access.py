"""Who may do what: every address of the project, as everybody there is, held to the table in docs/access.md."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern

from counters import sharing
from counters.hits import now
from counters.models import ApiKey, Counter, ImportedLog, LoadTestRun, Scope, ShareLink, Verification
from tests.service import PROJECT

pytestmark = pytest.mark.django_db

PEOPLE = ("nobody", "share link", "reader", "staff")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
TOKEN = "t" * 32  # of CSRF: in the cookie and in the header
HEAD_OF_TABLE = "| request | nobody | share link | reader | staff | `stats` | `ingest` | `loadtest` | `admin` |"
PREFIX = "/shared/"
#: A question that is answered, where an address alone is none.
QUERIES = {
    "/path/": f"?path={PREFIX}a",
    "/stats/path/": f"?path={PREFIX}a",
    "/pixel.gif": "?path=/a",
}


@pytest.fixture(autouse=True)
def _connection_of_the_test(monkeypatch):
    """Each test is one transaction, which ends with its connection."""
    monkeypatch.setattr("counters.access.close_old_connections", lambda: None)


class Request(NamedTuple):
    """A method and an address with variables, as the table has them."""

    method: str
    address: str


def table() -> dict[Request, dict[str, str]]:
    """What the table says of each request, by who asks."""
    text = (PROJECT / "docs/access.md").read_text().split(HEAD_OF_TABLE, 1)[1]
    rows = [line.strip("|").split("|") for line in text.split("\n\n", 1)[0].splitlines()[2:]]
    roles = (*PEOPLE, *Scope.values)
    return {
        Request(*request.split(" ")): dict(zip(roles, map(str.strip, cells), strict=True))
        for first, *cells in rows
        for request in re.findall(r"`([^`]+)`", first)
    }


TABLE = table()
PERMITTED = [request for request, row in TABLE.items() if row["staff"] == "permitted"]


def addresses(patterns: list[URLPattern | URLResolver], prefix: str = "/") -> Iterator[str]:
    """The project's addresses, with variables by their name; those of the admin's models as one."""
    for pattern in patterns:
        address = prefix + re.sub(r"<\w+:(\w+)>", r"<\1>", str(pattern.pattern))
        if isinstance(pattern.pattern, RegexPattern):
            address = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"<\1>", address).replace("^", "")
            address = address.removesuffix("$") if address.endswith("$") else f"{address}…"
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, address)
        else:
            yield re.sub(r"^/admin/(?:counters|auth)/\w+/", "/admin/<app>/<model>/", address)


def test_the_table_has_every_address_of_the_project_and_no_other():
    assert {request.address for request in TABLE} == set(addresses(get_resolver().url_patterns))


def test_the_table_is_about_the_models_that_the_admin_has():
    from django.contrib import admin

    assert {model._meta.app_label for model in admin.site._registry} == {"counters", "auth"}
    assert set(admin.site._registry) == set(objects())


def test_what_is_said_is_one_of_a_few():
    cells = {cell for row in TABLE.values() for cell in row.values()}
    assert cells == {"yes", "401", "403", "log in", "its part", "permitted"}


def objects() -> dict[type, object]:
    """One of each model that the admin has."""
    log = {"name": "a.log", "head": b"", "offset": 0, "tail": b"", "marks": b"", "lines": 0, "hits": 0}
    key, _ = ApiKey.objects.create_key(name="a", scopes=["stats"])
    made = [
        key,
        Counter.objects.create(id=uuid4(), path=f"{PREFIX}a", hits=1, first_hit=now(), last_hit=now()),
        ImportedLog.objects.create(**log),
        LoadTestRun.objects.create(url="", requested=1, concurrency=1),
        Verification.objects.create(at=now(), checked=0, differing=0, rollups_differing=0),
        ShareLink.objects.create(name="a", prefix=PREFIX),
        User.objects.create_user(str(uuid4())),
        Group.objects.create(name=str(uuid4())),
    ]
    return {type(one): one for one in made}


def targets(address: str) -> Iterator[str]:
    """The address with values for its variables, which are those of one object of each model in turn."""
    if "<model>" not in address:
        run, link = LoadTestRun.objects.create(url="", requested=1, concurrency=1), ShareLink(name="a", prefix=PREFIX)
        link.save()
        values = {
            "dimension": "country",
            "id": run.id,
            "token": sharing.token(link),
            "requests": "0",
            "app_label": "counters",
            "content_type_id": 1,
            "object_id": 1,
            "url": "nowhere",
        }
        filled = re.sub(r"<(\w+)>", lambda name: str(values[name[1]]), address).replace("…", "shared/a.svg")
        yield filled + QUERIES.get(address, "")
        return
    for model, one in objects().items():
        if "password" in address and model is not User:
            continue
        meta = model._meta  # type: ignore[attr-defined]
        filled = address.replace("<app>", meta.app_label).replace("<model>", meta.model_name)
        yield re.sub("<object_id>|<id>", str(one.pk).replace("_", "_5F"), filled)  # type: ignore[attr-defined]


def key(*scopes: str, **fields: object) -> dict[str, str]:
    _, text = ApiKey.objects.create_key(name="a", scopes=scopes, **fields)
    return {"Authorization": f"Bearer {text}"}


class Asker:
    """Somebody who sends requests: a browser with its cookies and the CSRF token of its pages, or a program."""

    def __init__(self, role: str) -> None:
        self.headers: dict[str, str] = {}
        self.client = Client(enforce_csrf_checks=True)
        if role in Scope.values:
            self.headers = key(role)
            return
        self.client.cookies["hitcounter_csrf"] = TOKEN
        self.headers = {"X-CSRFToken": TOKEN}
        if role == "share link":
            link = ShareLink.objects.create(name="a", prefix=PREFIX)
            self.client.cookies[sharing.COOKIE] = sharing.token(link)
        elif role != "nobody":
            staff = {"is_staff": role != "reader", "is_superuser": role == "superuser"}
            self.client.force_login(User.objects.create_user(str(uuid4()), **staff))

    def asks(self, method: str, target: str) -> HttpResponse:
        return self.client.generic(method, target, content_type="application/json", headers=self.headers)


def said(answer: HttpResponse) -> str:
    """What an answer comes to, in the words of the table."""
    if answer.status_code == 302 and re.match(r"(/admin)?/login/\?next=", answer.headers["Location"]):
        return "log in"
    return str(answer.status_code) if answer.status_code in (401, 403) else "yes"


def expected_of_open(request: Request, role: str) -> str:
    """What the table comes to where the service is open."""
    row = TABLE[request]
    if request.address.startswith("/admin/"):
        return row[role]
    return row["staff"] if role in PEOPLE else row["admin"]


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("role", [*PEOPLE, *Scope.values])
@pytest.mark.parametrize("request_", TABLE, ids=" ".join)
def test_everybody_may_do_what_the_table_says(settings, request_, role, is_open):
    settings.HITCOUNTER_OPEN = is_open
    expected = expected_of_open(request_, role) if is_open else TABLE[request_][role]
    asker = Asker(role)
    for target in targets(request_.address):
        found = asker.asks(request_.method, target)
        assert found.status_code != 500
        assert said(found) == {"its part": "yes", "permitted": "403"}.get(expected, expected), target


@pytest.mark.parametrize(
    "request_", [request for request, row in TABLE.items() if row["staff"] == "permitted"], ids=" ".join
)
def test_what_is_permitted_in_the_admin_is_done_by_who_may_do_everything(request_):
    asker = Asker("superuser")
    found = [said(asker.asks(request_.method, target)) for target in targets(request_.address)]
    assert "yes" in found and set(found) <= {"yes", "403"}  # 403: figures are not edited, by nobody


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("state", ["unknown", "expired", "revoked"])
@pytest.mark.parametrize("request_", TABLE, ids=" ".join)
def test_a_key_that_is_not_valid_opens_nothing(settings, request_, state, is_open):
    """It is 401 wherever it is looked at; where keys are not, it is as without one."""
    settings.HITCOUNTER_OPEN = is_open
    asker = Asker("nobody")
    asker.headers |= {
        "unknown": lambda: {"Authorization": "Bearer V0dMquWE.XIFZFCPe3sTqSNmgVUHTTiN3qLPC0fpf"},
        "expired": lambda: key("admin", expiry_date=now() - timedelta(seconds=1)),
        "revoked": lambda: key("admin", revoked=True),
    }[state]()
    row = TABLE[request_]
    is_looked_at = row["stats"] != row["nobody"] and not request_.address.startswith(("/admin/", "/login", "/logout"))
    expected = "401" if is_looked_at else row["nobody"]
    for target in targets(request_.address):
        assert said(asker.asks(request_.method, target)) == expected, target


@pytest.mark.parametrize("role", [*PEOPLE, *Scope.values])
@pytest.mark.parametrize("address", dict.fromkeys(request.address for request in TABLE))
def test_methods_that_the_table_does_not_name_open_nothing(settings, address, role):
    """They are refused, or no more than those that it names."""
    settings.HITCOUNTER_OPEN = False
    named = {TABLE[request][role] for request in TABLE if request.address == address}
    asker = Asker(role)
    for method in [method for method in METHODS if Request(method, address) not in TABLE]:
        for target in targets(address):
            found = asker.asks(method, target)
            assert found.status_code in (302, 401, 403, 404, 405) or "yes" in named, (method, target)


@pytest.mark.parametrize("role", [*PEOPLE, *Scope.values])
@pytest.mark.parametrize("address", [request.address for request in TABLE if request.method == "GET"])
def test_HEAD_is_as_GET(settings, address, role):
    settings.HITCOUNTER_OPEN = False
    asker = Asker(role)
    for target in targets(address):
        assert said(asker.asks("HEAD", target)) == said(asker.asks("GET", target)), target


def test_a_key_with_two_scopes_may_do_what_each_may(client, settings):
    settings.HITCOUNTER_OPEN = False
    headers = key("stats", "ingest")
    assert client.get("/stats/", headers=headers).status_code == 200
    assert client.post("/hits/", [{"path": "/a"}], "application/json", headers=headers).status_code == 200
    assert client.post("/test/1/", headers=headers).status_code == 403


def test_who_is_not_active_any_more_is_nobody(client, settings, django_user_model):
    settings.HITCOUNTER_OPEN = False
    user = django_user_model.objects.create_user("ann", is_staff=True)
    client.force_login(user)
    assert client.get("/stats/").status_code == 200
    django_user_model.objects.update(is_active=False)
    assert client.get("/stats/").status_code == 401
