"""The metrics, as they are named, labelled, documented and asked for by the rules that are shown."""

import re
from collections.abc import Callable

import pytest
import yaml
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver
from prometheus_client import CollectorRegistry, Metric

from counters import metrics
from counters.api.inside import Known
from counters.api.observed import observed
from counters.hits import HitRefused, now
from counters.ingest import app, recorder
from counters.models import Verification
from tests.service import PROJECT

OPERATIONS = (PROJECT / "docs/operations.md").read_text()
TYPES = {"counter": "_total"}


@pytest.fixture
def value() -> Callable[..., float]:
    """What a series of this process has come to."""

    def read(name: str, **labels: str) -> float:
        return metrics.REGISTRY.get_sample_value(name, labels) or 0.0

    return read


def named(metric: Metric) -> str:
    return metric.name + TYPES.get(metric.type, "")


@pytest.fixture
def families(monkeypatch) -> dict[str, Metric]:
    """All that /metrics may have, by name."""
    found = Verification(at=now(), checked=1, differing=0, rollups_differing=0)
    monkeypatch.setattr("counters.books.last_verification", lambda: found)
    assert app  # which says what a hit may be refused for
    registry = CollectorRegistry()
    registry.register(metrics.AllProcesses())
    registry.register(Known())
    return {named(metric): metric for metric in registry.collect()}


def rows(heading: str) -> dict[str, list[str]]:
    """A table of docs/operations.md, by the code in the first cells."""
    table = re.search(rf"(?m)^\| {heading} \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", OPERATIONS)
    assert table, heading
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]
    return {name: others for first, *others in cells for name in re.findall(r"`([^`]+)`", first)}


def test_every_metric_is_documented_and_no_other(families):
    assert set(rows("metric")) == set(families)


def test_the_documentation_names_the_labels_of_each_metric(families):
    for name, (labels, *_) in rows("metric").items():
        for sample in families[name].samples:
            assert set(sample.labels) - {"le"} <= set(re.findall(r"`(\w+)`", labels)), name


def test_every_reason_and_every_kind_is_documented(families):
    def labels(name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in families[name].samples}

    assert set(rows("`reason` of a hit that was refused")) == labels("hitcounter_hits_refused_total", "reason")
    assert set(rows("`kind` of a database error")) == labels("hitcounter_database_errors_total", "kind")
    kinds = {error.kind for error in recorder.BatchError.__subclasses__() if error.kind}
    assert kinds | {"unreachable"} == labels("hitcounter_database_errors_total", "kind")


def blocks() -> list[dict]:
    return [yaml.safe_load(block) for block in re.findall(r"(?s)```yaml\n(.*?)```", OPERATIONS)]


def test_the_rules_ask_for_metrics_and_labels_that_there_are(families):
    [rules] = [rule for block in blocks() if "groups" in block for rule in [block["groups"][0]["rules"]]]
    assert 5 <= len(rules) <= 8
    samples = [sample for family in families.values() for sample in family.samples]
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "annotations"}
        for name, matchers in re.findall(r"(hitcounter_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            assert name in families or name in {sample.name for sample in samples}, rule["alert"]
            for label, values in re.findall(r'(\w+)=~?"([^"]*)"', matchers):
                known = {sample.labels.get(label) for sample in samples if sample.name == name}
                assert label == "status" or set(values.split("|")) <= known, rule["alert"]


def test_the_configuration_that_is_shown_keeps_the_key_in_a_file():
    [job] = next(block for block in blocks() if "scrape_configs" in block)["scrape_configs"]
    assert job["authorization"]["credentials_file"]
    assert "credentials" not in job["authorization"]


def test_a_reason_has_the_name_of_its_class(value):
    class NameOfSeveralWords(HitRefused):
        pass

    metrics.refused(NameOfSeveralWords).inc(3)
    assert value("hitcounter_hits_refused_total", reason="name_of_several_words") == 3
    metrics.HITS_REFUSED.remove("name_of_several_words")


def answered(status: int) -> Callable:
    return observed(lambda _: HttpResponse(status=status))


def views(patterns: list[URLPattern | URLResolver], namespace: str = "") -> set[str]:
    """The names that `view` may have: those of views, and of the admin as one."""
    found = set()
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            found |= views(pattern.url_patterns, namespace or pattern.namespace or "")
        else:
            found.add(namespace or pattern.name or "none")
    return found


def test_whatever_is_asked_the_labels_are_names_from_the_code(client, settings, db):
    settings.HITCOUNTER_OPEN = True
    for n in range(30):
        client.get(f"/nowhere/{n}/", headers={"Host": f"{n}.example"})
        client.generic(f"M{n}", f"/stats/by/{n}/?x={n}", headers={"User-Agent": f"agent {n}"})
        client.get(f"/admin/{n}/")
        client.get(f"/healthz/live?{n}")
    series = [s for m in metrics.REGISTRY.collect() for s in m.samples if s.name == "hitcounter_responses_total"]
    assert {sample.labels["view"] for sample in series} <= views(get_resolver().url_patterns) | {"none"}
    assert {sample.labels["status"] for sample in series} <= {"1xx", "2xx", "3xx", "4xx", "5xx"}


@pytest.mark.parametrize(("status", "name"), [(200, "2xx"), (304, "3xx"), (404, "4xx"), (503, "5xx")])
def test_an_answer_is_counted_by_the_class_of_its_status(value, status, name):
    before = value("hitcounter_responses_total", view="none", status=name)
    answered(status)(RequestFactory().get("/"))
    assert value("hitcounter_responses_total", view="none", status=name) == before + 1


async def test_an_answer_that_is_awaited_is_counted_too(value):
    async def view(request):
        return HttpResponse()

    before = value("hitcounter_responses_total", view="none", status="2xx")
    answer = await observed(view)(RequestFactory().get("/"))
    assert answer["X-Request-ID"]
    assert value("hitcounter_responses_total", view="none", status="2xx") == before + 1
