"""GET /schema/ and /docs/: the API described, with nothing from elsewhere."""

import re

import pytest

from counters.api.schema import schema

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _open(settings):
    settings.HITCOUNTER_OPEN = True


def test_the_schema_is_json(client):
    answer = client.get("/schema/")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["openapi"].startswith("3.1")
    assert answer.json()["paths"].keys() == schema()["paths"].keys()


@pytest.mark.parametrize("query", ["lang=%00", "version=%0D%0A", "format=json", "lang=de"])
def test_the_schema_is_the_same_whatever_is_asked(client, query):
    assert client.get(f"/schema/?{query}").content == client.get("/schema/").content


def test_the_page_and_its_files_come_from_this_service(client):
    page = client.get("/docs/")
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(addresses) >= 4
    for address in addresses:
        assert address.startswith("/"), address
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert answer.getvalue()


def test_the_page_has_no_script_in_it(client):
    page = client.get("/docs/").text
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert not re.search(r"\son\w+=", page)


@pytest.mark.parametrize("query", ["", 'lang="><script>', "version=%00", "lang=%22;alert(1)//"])
def test_the_script_names_the_schema_and_nothing_foreign(client, query):
    page = client.get(f"/docs/?{query}")
    [script] = re.findall(r'<script src="([^"]+script=[^"]*)"', page.text)
    answer = client.get(script.replace("&amp;", "&"))
    assert answer.headers["Content-Type"].startswith("application/javascript")
    assert 'url: "/schema/' in answer.text
    assert "<script>" not in page.text
    assert '";alert' not in answer.text


@pytest.mark.parametrize("address", ["/schema/", "/docs/"])
@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_they_are_only_read(client, address, method):
    assert getattr(client, method)(address).status_code == 405
