"""The middleware as others install it: a wheel of its own, which counts where nothing of the service is."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.hits_stub import HitsStub
from tests.service import PROJECT

#: What the wheel says it needs, with what that needs.
NEEDED = ["django", "asgiref", "sqlparse", "requests", "urllib3", "idna", "certifi", "charset-normalizer"]
HOST = """
import sys

import django
from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from django.urls import path

urlpatterns = [path("page/<int:number>/", lambda request, number: HttpResponse(b"page"))]
settings.configure(
    SECRET_KEY="the host's own", ROOT_URLCONF="__main__", ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["counters.middleware.CountRequests"], HITCOUNTER_URL=sys.argv[1], HITCOUNTER_SPOOL=sys.argv[2],
)
django.setup()
assert Client().get("/page/7/").content == b"page"
for absent in ("counters.models", "counters.hits", "hitcounter", "psycopg", "rest_framework"):
    try:
        __import__(absent)
    except ImportError:
        continue
    raise AssertionError(f"{absent} can be imported")
"""


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is left in the checkout, nor found there."""
    scratch = tmp_path_factory.mktemp("wheel")
    source = scratch / "source"
    for directory in ("counters", "hitcounter", "docs"):
        shutil.copytree(PROJECT / directory, source / directory, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "LICENSE"):
        shutil.copy(PROJECT / file, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", scratch, source)
    [built] = scratch.glob("*.whl")
    return built


def test_the_wheel_holds_the_middleware_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert files == {f"counters/middleware/{path.name}" for path in (PROJECT / "counters/middleware").glob("*.py")}


def test_the_wheel_needs_django_and_requests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    assert metadata["Name"] == "hitcounter-middleware"
    assert set(metadata.get_all("Requires-Dist")) == {"django>=4.2", "requests>=2.31"}


def test_it_counts_where_nothing_of_the_service_is_installed(wheel, tmp_path):
    site = tmp_path / "site"
    pip("install", "--no-deps", "--no-index", "--target", site, wheel)
    for name in NEEDED:
        for part in {file.parts[0] for file in importlib.metadata.files(name)} - {".."}:
            (site / part).symlink_to(importlib.metadata.distribution(name).locate_file(part))
    environment = {"PYTHONPATH": str(site), "PATH": os.environ["PATH"]}
    with HitsStub() as stub:
        command = [sys.executable, "-S", "-W", "error", "-c", HOST, stub.url, tmp_path / "spool"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    assert [(hit["path"], hit["status"], hit["route"]) for hit in stub.hits] == [
        ("/page/7/", 200, "/page/<int:number>/")
    ]
