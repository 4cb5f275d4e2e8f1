"""A pytest plugin: `--chaos` runs the fault suite at its full length; the table of what came of it ends a run."""

import pytest

from tests.faults.trials import OUTCOME, Outcome, table


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", action="store_true", help="try each fault as often as docs/reliability.md says")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [report for state in ("passed", "failed") for report in terminalreporter.getreports(state)]
    outcomes = [
        Outcome(**{**value, "besides": f"FAILED {value['besides']}" if report.failed else value["besides"]})
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == OUTCOME
    ]
    if outcomes:
        terminalreporter.section(f"faults, with seed {config.getoption('randomly_seed')}")
        for line in table(outcomes):
            terminalreporter.write_line(line)
