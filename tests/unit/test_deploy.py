"""What is there to adapt, in deploy/, agrees with the service; nginx's is tried in tests/acceptance/test_nginx.py."""

import re
import shutil
import subprocess
from collections import defaultdict

import pytest

from counters import conf
from hitcounter import gunicorn
from tests.service import PROJECT

UNIT = (PROJECT / "deploy/hitcounter.service").read_text()
NGINX = (PROJECT / "deploy/nginx.conf").read_text()


def unit() -> dict[str, dict[str, list[str]]]:
    sections: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in UNIT.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            sections[section][name].append(value)
    return sections


def test_the_unit_starts_reloads_and_keeps_data_as_the_service_has_it():
    service = unit()["Service"]
    assert service["ExecStart"] == ["/opt/hitcounter/.venv/bin/python manage.py serve"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert service["WorkingDirectory"] == ["/opt/hitcounter"]
    assert service["StateDirectory"] == ["hitcounter"]
    assert "HITCOUNTER_DATA_DIR=/var/lib/hitcounter" in UNIT
    assert "HITCOUNTER_DATA_DIR=/var/lib/hitcounter" in (PROJECT / "docs/deployment.md").read_text()
    # What stands in the unit is not read anew by a reload, nor seen by commands that are run by hand.
    assert "HITCOUNTER_" not in "".join(service["Environment"])
    # gunicorn and the private PostgreSQL are stopped by the main process, in their order.
    assert service["KillMode"] == ["mixed"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("User", "hitcounter"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
    ],
)
def test_the_unit_can_do_no_more_than_it_must(name: str, value: str):
    assert unit()["Service"][name] == [value]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd")
def test_systemd_understands_the_unit(tmp_path):
    # The program that it starts need not be on this machine.
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT)
    file = tmp_path / "hitcounter.service"
    file.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "hitcounter.service" not in done.stderr


def test_nginx_lets_through_what_the_service_takes():
    megabytes = int(re.search(r"client_max_body_size (\d+)m;", NGINX)[1])
    assert conf.MOST_BODY_BYTES < megabytes * 1024 * 1024 < conf.MOST_BODY_BYTES * 1.1
    buffers = re.findall(r"large_client_header_buffers \d+ (\d+)k;", NGINX)
    assert all(int(size) * 1024 > gunicorn.limit_request_line for size in buffers)


def test_nginx_closes_its_connections_before_the_service_does():
    upstream = re.search(r"upstream \w+ \{(.*?)\n\}", NGINX, re.S)[1]
    assert int(re.search(r"keepalive_timeout (\d+)s;", upstream)[1]) < gunicorn.keepalive


def test_nginx_says_the_same_of_clients_wherever_it_passes_requests_on():
    def said(block: str) -> set[str]:
        return set(re.findall(r"proxy_set_header ([^;]+);", block))

    https, http = NGINX.split("\nserver {\n")[1:]
    assert said(https) == said(http)
    assert "X-Forwarded-For $remote_addr" in said(https)
    assert NGINX.count("proxy_next_upstream off;") == 2
    assert not re.search(r"proxy_pass \S+//\w+/", NGINX), "a path of its own would have targets decoded"
