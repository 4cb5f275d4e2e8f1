"""`manage.py showconfig`: what is in force, where from, and no secret."""

import json
from pathlib import Path

import pytest

from counters import conf
from hitcounter.environment import source_of, unknown
from tests.unit.test_docs import table
from tests.unit.test_settings import LONG, run

MASK = "********"


def shown(tmp_path: Path, **environment: str) -> dict[str, tuple[object, str]]:
    """Each variable's value and source."""
    done = run(tmp_path, "showconfig", "--json", **environment)
    assert done.returncode == 0, done.stderr
    return {row["name"]: (row["value"], row["source"]) for row in json.loads(done.stdout)}


def test_every_variable_that_is_documented_is_shown_and_no_other(tmp_path: Path):
    assert set(shown(tmp_path)) == set(table("Settings")) - {"POSTGRES_PASSWORD"}


def test_what_nobody_has_set_is_at_its_default(tmp_path: Path):
    found = shown(tmp_path)
    for setting in conf.SETTINGS:
        assert found[setting.name] == (setting.default, "default")
    assert found["HITCOUNTER_BIND"] == ("127.0.0.1:5000", "default")
    assert found["HITCOUNTER_OPEN"] == (True, "default")
    assert found["HITCOUNTER_SECRET_KEY"] == (MASK, "made on first start")


def test_what_is_shown_is_what_is_in_force(tmp_path: Path):
    found = shown(tmp_path, HITCOUNTER_HOSTS="a.example,b.example", HITCOUNTER_QUEUE="7", HITCOUNTER_OPEN="1")
    assert found["HITCOUNTER_HOSTS"] == (["a.example", "b.example"], "environment")
    assert found["HITCOUNTER_QUEUE"] == (7, "environment")
    assert found["HITCOUNTER_OPEN"] == (True, "environment")
    assert found["HITCOUNTER_TLS"] == (True, "default")


def test_what_is_in_dot_env_is_said_to_be_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".env").write_text("HITCOUNTER_QUEUE=7\nHITCOUNTER_WORKERS=3\n")
    monkeypatch.setattr("hitcounter.environment.DOTENV", tmp_path / ".env")
    monkeypatch.setenv("HITCOUNTER_WORKERS", "4")
    monkeypatch.delenv("HITCOUNTER_OPEN", raising=False)
    assert [source_of(f"HITCOUNTER_{name}") for name in ("QUEUE", "WORKERS", "OPEN")] == [
        ".env",
        "environment",
        "default",
    ]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@db.example/counts",
        "postgresql://me@db.example/counts?password=s3cret",
        "postgresql://me@db.example/counts?sslpassword=s3cret",
        "host=db.example user=me dbname=counts password=s3cret",
    ],
)
def test_no_secret_is_shown(tmp_path: Path, url: str):
    (tmp_path / "password").write_text("s3cret")
    given = {
        "DATABASE_URL": url,
        "HITCOUNTER_SECRET_KEY": f"s3cret{LONG}",
        "HITCOUNTER_ADMIN_PASSWORD_FILE": str(tmp_path / "password"),
    }
    for arguments in ([], ["--json"]):
        printed = run(tmp_path, "showconfig", *arguments, **given).stdout
        assert "db.example" in printed
        assert MASK in printed
        assert "s3cret" not in printed
    assert shown(tmp_path, **given)["HITCOUNTER_ADMIN_PASSWORD"] == (MASK, "file")


def test_for_people_each_setting_is_a_line(tmp_path: Path):
    lines = run(tmp_path, "showconfig", HITCOUNTER_QUEUE="7").stdout.splitlines()
    assert len(lines) == len(set(table("Settings")) - {"POSTGRES_PASSWORD"})
    assert "HITCOUNTER_QUEUE 7 environment" in [" ".join(line.split()) for line in lines]
    assert "HITCOUNTER_OPEN on default" in [" ".join(line.split()) for line in lines]


def test_a_setting_that_is_misspelt_is_told_with_the_name_that_is_near(tmp_path: Path):
    done = run(tmp_path, "showconfig", "--json", HITCOUNTER_OPNE="off", HITCOUNTER_XYZZY="1")
    assert done.returncode == 0
    assert json.loads(done.stdout)
    assert done.stderr.splitlines() == [
        "HITCOUNTER_OPNE (environment) is no setting and is ignored. Is HITCOUNTER_OPEN meant?",
        "HITCOUNTER_XYZZY (environment) is no setting and is ignored.",
    ]


def test_in_dot_env_it_is_told_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".env").write_text("HITCOUNTER_QUEU=7\nHITCOUNTER_PORT=6100\nPOSTGRES_PASSWORD=x\n")
    monkeypatch.setattr("hitcounter.environment.DOTENV", tmp_path / ".env")
    told = "\n".join(unknown())
    assert "HITCOUNTER_QUEU (.env) is no setting and is ignored. Is HITCOUNTER_QUEUE meant?" in told
    assert "HITCOUNTER_PORT (.env)" in told
    assert "POSTGRES_PASSWORD" not in told


def test_what_is_set_by_kubernetes_and_what_is_a_setting_is_not_told(tmp_path: Path):
    by_kubernetes = {
        "HITCOUNTER_SERVICE_HOST": "10.0.0.1",
        "HITCOUNTER_SERVICE_PORT_HTTP": "80",
        "HITCOUNTER_PORT": "tcp://10.0.0.1:80",
        "HITCOUNTER_PORT_80_TCP_ADDR": "10.0.0.1",
        "HITCOUNTER_DB_PORT": "tcp://10.0.0.2:5432",
    }
    (tmp_path / "key").write_text(LONG)
    done = run(
        tmp_path, "showconfig", **by_kubernetes, HITCOUNTER_OPEN="off", HITCOUNTER_SECRET_KEY_FILE=f"{tmp_path}/key"
    )
    assert (done.returncode, done.stderr) == (0, "")
