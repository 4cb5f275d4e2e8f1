"""The rivals' requirements and folders, without running them."""

import re

import pytest

from benchmarks.contestants import KINDS
from benchmarks.environments import AT_HAND, RIVALS
from benchmarks.report import PAIRS
from benchmarks.suite import PARTS, Held, options_of
from tests.service import PROJECT

FOLDERS = sorted(path.parent.name for path in RIVALS.glob("*/requirements.txt"))


def pins(file):
    return [line for line in file.read_text().splitlines() if line and not line.startswith(("#", "-r"))]


@pytest.mark.parametrize("rival", FOLDERS)
def test_every_requirement_is_pinned(rival):
    assert all(re.fullmatch(r"[\w.-]+(\[[\w,]+\])?==[\w.]+", pin) for pin in pins(RIVALS / rival / "requirements.txt"))


@pytest.mark.parametrize("rival", AT_HAND)
def test_rivals_that_run_on_the_services_packages_ask_for_the_same_versions(rival):
    assert set(pins(RIVALS / rival / "requirements.txt")) <= set(pins(PROJECT / "requirements.txt"))


def test_every_rival_is_a_contestant():
    assert {kind.rival for kind in KINDS.values() if kind.rival} == set(FOLDERS)


def test_what_is_compared_takes_part():
    assert {name for _, *pair in PAIRS for name in pair} <= set(KINDS)


def test_without_options_all_is_measured():
    options = options_of([])
    assert options.parts == list(PARTS)
    assert options.contestants == list(KINDS)
    assert options.connections == [1, 8, 32, 64, 256, 1024]


def test_reads_are_asked_for_by_hits_and_paths():
    assert options_of(["--reads", "50000000:5000000"]).reads == [Held(50_000_000, 5_000_000)]
