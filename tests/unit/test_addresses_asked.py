"""No endpoint fetches an address that a request names: what could fetch is imported where the address is our own."""

import ast
import re

import pytest

from tests.service import PROJECT

FETCHING = re.compile(r"(requests|aiohttp|httpx|urllib3|urllib\.request|http\.client|ftplib|smtplib|socket|ssl)(\.|$)")
#: The load test, whose address is the service's own or the command line's; the middleware, which runs in other
#: projects; sockets to listen on, and to the private PostgreSQL.
ALLOWED = {
    "counters/loadtest/generator.py": {"aiohttp"},
    "counters/loadtest/runs.py": {"requests"},
    "counters/middleware/service.py": {
        "requests",
        "requests.auth",
        "requests.utils",
        "urllib3.exceptions",
        "urllib3.util",
    },
    "hitcounter/gunicorn.py": {"socket"},
    "hitcounter/leave.py": {"socket"},
    "hitcounter/management/commands/serve.py": {"socket"},
    "hitcounter/postgres.py": {"socket"},
}
SOURCES = {
    str(path.relative_to(PROJECT)): ast.parse(path.read_text())
    for package in ("counters", "hitcounter")
    for path in sorted((PROJECT / package).rglob("*.py"))
}


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return names


def test_what_can_fetch_an_address_is_imported_in_few_places():
    found = {}
    for name, tree in SOURCES.items():
        modules = {module for module in imported(tree) if FETCHING.match(module)}
        if modules:
            found[name] = modules
    assert set(found) == set(ALLOWED)
    for name, modules in found.items():
        assert {module for module in modules if not any(module.startswith(each) for each in ALLOWED[name])} == set()


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith(("counters/api", "counters/dashboard"))])
def test_whoever_begins_a_load_test_from_outside_it_goes_to_this_service(name: str):
    for node in ast.walk(SOURCES[name]):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Plan"):
            assert [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "url"] == [
                "settings.HITCOUNTER_OWN_URL"
            ]


def test_load_tests_are_begun_from_outside_in_two_places():
    found = [
        name for name in SOURCES if re.search(r"\bPlan\(", (PROJECT / name).read_text()) and "management" not in name
    ]
    generator = "counters/loadtest/generator.py"  # which does what it is told
    assert found == ["counters/api/views.py", "counters/dashboard/loadtests.py", generator]
