"""The documentation names what there is, and nothing else."""

import ast
import re
import tomllib
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.urls import URLPattern, URLResolver, get_resolver

from counters import conf
from counters.pixel import PageView, page_view
from tests.service import PROJECT

README = (PROJECT / "README.md").read_text()
DECISIONS = sorted((PROJECT / "docs/adr").glob("[0-9]*.md"))
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])


def settings_read() -> set[str]:
    """Every variable that the code reads from the environment."""
    named = {setting.name for setting in conf.SETTINGS}
    for source in (PROJECT / "hitcounter").rglob("*.py"):
        named.update(_variables_in(ast.parse(source.read_text())))
    return named


def _variables_in(tree: ast.AST) -> Iterator[str]:
    """The names in calls like `env.str("NAME", …)`, and `secret("NAME")`, which reads a file's name, too."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="env"), attr=reads), args=[ast.Constant(value=str(name)), *_]
            ) if reads != "read_env":
                yield name
            case ast.Call(func=ast.Name(id="secret"), args=[ast.Constant(value=str(name))]):
                yield from (name, f"{name}_FILE")


def table(title: str) -> dict[str, list[str]]:
    """The first table of a section: the code in a row's first cell, and the text of the others."""
    section = README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    first_table = re.search(r"(?m)^\|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", section)
    assert first_table, f"There is no table under {title}"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in first_table[1].splitlines()]
    return {name: others for first, *others in rows for name in re.findall(r"`([^`]+)`", first)}


def endpoints(patterns: list[URLPattern | URLResolver], prefix: str = "/") -> Iterator[str]:
    """The addresses of the project's own views up to the first part that varies; the admin as one."""
    for pattern in patterns:
        address = prefix + str(pattern.pattern).removeprefix("^")
        if isinstance(pattern, URLResolver) and pattern.app_name != "admin":
            yield from endpoints(pattern.url_patterns, address)
        else:
            yield address.partition("<")[0]


def test_the_settings_table_names_the_variables_that_are_read():
    assert set(table("Settings")) - {"POSTGRES_PASSWORD"} == settings_read()


@pytest.mark.parametrize("setting", conf.SETTINGS, ids=lambda setting: setting.name)
def test_the_settings_table_has_default_and_meaning(setting):
    assert table("Settings")[setting.name] == [
        "none" if setting.default == "" else f"`{setting.default}`",
        setting.help,
    ]


def test_every_setting_of_the_app_is_listed_in_conf():
    assert set(conf.SETTINGS) == {value for value in vars(conf).values() if isinstance(value, conf.Setting)}


def test_the_endpoints_table_names_the_urls_of_the_project():
    documented = {re.sub(r"^[A-Z]+ ", "", address).partition("<")[0] for address in table("Endpoints")}
    assert documented == set(endpoints(get_resolver().url_patterns))


def test_the_pixels_that_are_shown_tell_of_a_page_view_once_html_is_read():
    views = []
    for address in re.findall(r'<img src="[^"]*/pixel\.gif\?([^"]*)"', README):
        assert "&" not in address.replace("&amp;", "")
        views.append(page_view(unescape(address).encode()))
    assert views == [PageView("/example.org/blog/post/", b""), PageView("/a%20b/", b"https://search.example/")]


def test_the_commands_table_names_the_commands_of_the_project():
    ours = {name for name, app in get_commands().items() if app in ("counters", "hitcounter")}
    assert set(table("Commands")) == ours


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_every_decision_is_listed_under_its_title(decision):
    number, title = re.match(r"# (\d{4}): (.+)\n", decision.read_text()).groups()
    assert decision.name.startswith(f"{number}-")
    assert f"| [{number}]({decision.name}) | {title} |" in (PROJECT / "docs/adr/README.md").read_text()


def test_decisions_are_numbered_without_a_gap():
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_decisions_that_the_code_refers_to_exist():
    known = {path.name[:4] for path in DECISIONS}
    for package in ("counters", "hitcounter", "benchmarks", "tests"):
        for source in (PROJECT / package).rglob("*.py"):
            assert set(re.findall(r"docs/adr/(\d{4})", source.read_text())) <= known, source


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_to_files_that_exist(document):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    missing = [target for target in targets if "://" not in target and not (document.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_files_that_are_named_exist(document):
    named = set(re.findall(r"`((?:counters|hitcounter|benchmarks|tests|docs|\.ci)/[\w./-]*)`", document.read_text()))
    assert [path for path in named if not (PROJECT / path).exists()] == []


def test_the_changelog_has_an_entry_for_this_version():
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    entry = (PROJECT / "CHANGELOG.md").read_text().partition(f"\n## [{version}]")[2].partition("\n## [")[0]
    assert "\n- " in entry


def test_paths_in_documents_are_those_of_no_machine():
    for document in DOCUMENTS:
        assert not re.search(r"(?<![\w.])/(work|root|home|tmp|Users)/", document.read_text()), document


def test_the_documents_are_found():
    assert Path(PROJECT / "docs/architecture.md") in DOCUMENTS
    assert DECISIONS
