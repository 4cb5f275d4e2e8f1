"""Virtual environments for what benchmarks need and the service does not, each with its own pinned requirements."""

import subprocess
import sys
from pathlib import Path

from tests.service import PROJECT

BENCHMARKS = PROJECT / "benchmarks"
RIVALS = BENCHMARKS / "rivals"
ENVIRONMENTS = BENCHMARKS / ".venvs"
#: Rivals that run on what the service runs on, in the same versions.
AT_HAND = ("django_update",)


def python_for(rival: str) -> Path:
    """The interpreter that has a rival's requirements; the environment is made when there is none."""
    return Path(sys.executable) if rival in AT_HAND else python_with(rival, RIVALS / rival / "requirements.txt")


def python_for_pictures() -> Path:
    """The interpreter that has what draws them."""
    return python_with("pictures", BENCHMARKS / "requirements.txt")


def python_with(name: str, requirements: Path) -> Path:
    """The interpreter of an environment with these requirements, made anew when they have changed."""
    python, installed = ENVIRONMENTS / name / "bin" / "python", ENVIRONMENTS / name / "installed.txt"
    wanted = requirements.read_text()
    if not installed.exists() or installed.read_text() != wanted:
        print(f"Installing {requirements.relative_to(PROJECT)} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENTS / name)], check=True)
        install = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            str(requirements),
        ]
        subprocess.run(install, check=True)
        installed.write_text(wanted)
    return python
