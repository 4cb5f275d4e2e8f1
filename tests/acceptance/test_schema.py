"""The running service against its own description: requests drawn from it, good and bad (https://schemathesis.io)."""

import json
from copy import deepcopy
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import seed as seeded
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.pytest.lazy import get_all_tests
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from counters.api.schema import JSON, NDJSON, schema
from tests.service import Service

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Drawn from a pattern alone, hardly any two dates are a period, and no name is that of a time zone.
LIKELY = {
    "from": ["0001-01-01", "2026-03-29", "2026-03-29T02:30", "1970-01-01T00:00:00Z", "9999-12-30"],
    "to": ["2026-10-25", "2026-10-25T02:30+01:00", "2030-01-01", "9999-12-31", "9999-12-31T23:59:59.999999"],
    "tz": ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"],
    "prefix": ["/", "/api/", "/api/schema/"],
    "path": ["/api/schema/a", "/"],
    "consumer": ["acme", ""],
    "at": ["2026-03-29T02:30:00Z", "1970-01-01 00:00:00+00:00", None],
    "cursor": ["WzEsICIvYXBpL3NjaGVtYS9hIl0=", "2"],
}
MOST_LOAD = 20
MOST_HITS = 20
LONGEST = 200
LONGEST_KEY = 255


@schemathesis.serializer(NDJSON)
def lines(context: Any, value: Any) -> bytes:
    """A list of hits as NDJSON; what is no list, as it is."""
    return "\n".join(json.dumps(item) for item in (value if isinstance(value, list) else [value])).encode()


def described(generation: list[GenerationMode], *, load_test: bool) -> Any:
    """The service's description, with values that are likelier to be answered, and load tests that end soon."""
    raw = deepcopy(schema())
    for path in raw["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                narrow(parameter)
    narrow_hits(raw["paths"]["/hits/"]["post"]["requestBody"]["content"])
    loaded = schemathesis.openapi.from_dict(raw)
    loaded.config.generation.update(modes=generation, with_security_parameters=False)
    return loaded.include(path_regex="^/test/") if load_test else loaded.exclude(path_regex="^/test/")


def narrow(parameter: dict[str, Any]) -> None:
    if parameter["name"] == "Idempotency-Key":
        parameter["schema"]["minLength"] = LONGEST_KEY  # so that there are few of which another body is known
    if parameter["name"] == "requests":
        parameter["schema"]["maximum"] = MOST_LOAD
    if parameter["schema"].get("maxLength", 0) > LONGEST and parameter["in"] == "query":
        parameter["schema"]["maxLength"] = LONGEST  # ten filters of the greatest length are no address any more
    if parameter["in"] == "query" and parameter["name"] in LIKELY:
        parameter["schema"] = {"anyOf": [parameter["schema"], {"enum": LIKELY[parameter["name"]]}]}


def narrow_hits(content: dict[str, Any]) -> None:
    """Few hits at a time, often of a time that can be counted; the lines of NDJSON are those of such a list."""
    hits = content[JSON]["schema"]
    hits["maxItems"] = MOST_HITS
    times = hits["items"]["properties"]["at"]
    hits["items"]["properties"]["at"] = {"anyOf": [times, {"enum": LIKELY["at"]}]}
    content[NDJSON]["schema"] = deepcopy(hits)


answers = described([GenerationMode.POSITIVE, GenerationMode.NEGATIVE], load_test=False)
load_tests = described([GenerationMode.POSITIVE], load_test=True)
unhurried = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def labels(described: Any) -> list[str]:
    return [found.ok().label for found in described.get_all_operations()]


def ask(described: Any, service: Service, limits: settings, seed: int | None = None) -> int:
    """Send what is drawn for each operation, here: `parametrize` draws when tests are collected, in every process.

    Returns how many requests that were.
    """
    sent = 0

    def send(case: Any) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(base_url=service.url, checks=CHECKS, timeout=30)

    for found in get_all_tests(schema=described, test_func=send, settings=limits, given_kwargs=None):
        _, test = found.ok()
        (test if seed is None else seeded(seed)(test))()
    return sent


@pytest.fixture(scope="module")
def asked(service: Service) -> Service:
    """The service with some hits."""
    for path in ("a", "a", "b/c", "b/d"):
        service.get(f"/api/schema/{path}", headers={"X-Consumer": "acme", "User-Agent": "curl/8.0"}).raise_for_status()
    return service


def test_the_service_gives_this_description(service: Service):
    assert service.get("/schema/").json() == schema()


@pytest.mark.parametrize("most", [5, pytest.param(25, marks=pytest.mark.long)])
@pytest.mark.parametrize("operation", labels(answers))
def test_every_answer_is_one_that_is_described(operation: str, most: int, asked: Service):
    ask(answers.include(name=operation), asked, settings(unhurried, max_examples=most))


@pytest.mark.parametrize("operation", labels(load_tests))
def test_a_load_test_answers_as_described(operation: str, asked: Service):
    ask(load_tests.include(name=operation), asked, settings(unhurried, max_examples=3))
