"""What must hold before a change lands, as `.ci/run` has it."""

import os
import subprocess

from tests.service import PROJECT


def test_whoever_runs_it_a_browser_or_nginx_that_is_missing_is_no_excuse(tmp_path):
    for name, script in {
        "make": 'echo "$1, CI=$CI"',
        "chromium": "",
        "nginx": "",
        "openssl": "",
        "faketime": "",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    done = subprocess.run([PROJECT / ".ci/run"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["lint, CI=true", "test, CI=true", "test-long, CI=true"]
