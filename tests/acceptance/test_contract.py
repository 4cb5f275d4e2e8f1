"""The heart's contract, tried from outside against the running service."""

import subprocess
import sys
from pathlib import Path

from tests.service import Service


def test_every_claim_of_the_shared_contract_holds(service: Service, shared: Path):
    done = subprocess.run(
        [sys.executable, str(shared / "accept" / "contract.py"), service.url],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].endswith(" 0 failed"), done.stdout
