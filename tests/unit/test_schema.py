"""The description of the API: complete, valid, of this version, and made without a database."""

import tomllib

import pytest
from django.core.management import call_command
from django.urls import get_resolver

from counters.api.queries import DIMENSIONS
from counters.api.schema import schema
from hitcounter import VERSION
from tests.service import PROJECT


def test_it_is_valid_and_made_without_a_warning(tmp_path):
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yaml"))


def test_it_names_this_version():
    assert schema()["info"]["version"] == VERSION
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_it_describes_every_endpoint():
    described = {path.partition("{")[0] for path in schema()["paths"]}
    answering = {f"/{pattern.pattern}".replace("^", "").partition("<")[0] for pattern in own_views()}
    assert described == answering - {"/schema/", "/docs/"}


def own_views():
    return get_resolver("counters.api.urls").url_patterns


def test_operations_have_names_of_their_own():
    names = [operation["operationId"] for path in schema()["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["", "total/", "series/", "by/{dimension}/", "tree/", "path/"])
def test_statistics_take_a_period_and_every_dimension_and_tell_their_errors(name):
    described = schema()["paths"][f"/stats/{name}"]["get"]
    assert {"from", "to", "tz", *DIMENSIONS} <= {parameter["name"] for parameter in described["parameters"]}
    assert {"200", "304", "400", "401", "403", "422", "503"} <= set(described["responses"])


@pytest.mark.parametrize("name", ["", "series/", "by/{dimension}/", "tree/"])
def test_lists_are_described_in_all_their_forms(name):
    described = schema()["paths"][f"/stats/{name}"]["get"]
    answer = described["responses"]["200"]
    assert set(answer["content"]) == {"application/json", "text/csv", "application/x-ndjson"}
    assert answer["content"]["application/json"]["schema"]["type"] == "array"
    assert "Link" in answer["headers"]
    assert {"limit", "cursor", "format"} <= {parameter["name"] for parameter in described["parameters"]}
