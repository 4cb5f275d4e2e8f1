"""Configuration: every malformed value stops the start with one sentence that names it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from environs import EnvError

from counters import conf
from hitcounter.environment import check_dotenv
from tests.service import PROJECT
from tests.unit.test_countries import country_file

SECRETS = ("HITCOUNTER_SECRET_KEY", "HITCOUNTER_ADMIN_PASSWORD")
LONG = "0123456789abcdef" * 4


@pytest.fixture(autouse=True, scope="module")
def _starter() -> Iterator[None]:
    yield
    starter().communicate()
    starter.cache_clear()


@cache
def starter() -> subprocess.Popen[str]:
    """Starts `manage.py` without loading the libraries anew each time."""
    command = [sys.executable, "-m", "tests.starting"]
    return subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


IN_CONTAINER = {"HITCOUNTER_BIND": "0.0.0.0:1", "HITCOUNTER_IN_CONTAINER": "on"}


def run(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`manage.py` in an environment of its own, which never gets so far as to need a database."""
    return in_a_process(
        tmp_path, f"import manage, sys; sys.argv[1:] = {arguments}; sys.exit(manage.main())", environment
    )


def value(tmp_path: Path, name: str, **environment: str) -> str:
    done = in_a_process(tmp_path, f"from hitcounter import settings; print(settings.{name})", environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_a_process(tmp_path: Path, code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    given = {"PATH": "/usr/bin:/bin", "DATABASE_URL": "postgresql://unused", "HITCOUNTER_DATA_DIR": str(tmp_path)}
    assert starter().stdin and starter().stdout
    starter().stdin.write(json.dumps({"code": code, "environment": {**given, **environment}}) + "\n")
    starter().stdin.flush()
    return subprocess.CompletedProcess([], **json.loads(starter().stdout.readline()))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("HITCOUNTER_BIND", "5000"),
        ("HITCOUNTER_BIND", "127.0.0.1:x"),
        ("HITCOUNTER_BIND", ":5000"),
        ("HITCOUNTER_BIND", "127.0.0.1:70000"),
        ("HITCOUNTER_WORKERS", "0"),
        ("HITCOUNTER_WORKERS", "two"),
        ("HITCOUNTER_OPEN", "perhaps"),
        ("HITCOUNTER_TLS", "perhaps"),
        ("HITCOUNTER_BIND", ":::5000"),
        ("HITCOUNTER_BIND", "https://127.0.0.1:5000"),
        *(
            (name, bad)
            for name in ("HITCOUNTER_BIND", "HITCOUNTER_PUBLISH")
            for bad in ("nonsense:5000", "[:::::]:5000", "[127.0.0.1]:5000", "999.1.1.1:5000", "127.1:5000", "::1:5000")
        ),
        ("HITCOUNTER_PUBLISH", "5000"),
        *(("HITCOUNTER_HOSTS", bad) for bad in ("999.1.1.1", "127.1", ".192.0.2.7", "[:::::]", "[192.0.2.7]", "::1")),
        ("HITCOUNTER_HOSTS", "https://counts.example.org"),
        ("HITCOUNTER_HOSTS", "counts.example.org:8443"),
        ("HITCOUNTER_HOSTS", "counts.example.org,*"),
        ("HITCOUNTER_SECRET_KEY", "x" * 31),
        *((f"{name}_FILE", bad) for name in SECRETS for bad in ("nowhere", "counters")),
        *((f"{name}_FILE", "docs/screenshots/path-light.webp") for name in SECRETS),
        ("DATABASE_URL", "mysql://localhost/x"),
        ("DATABASE_URL", "nonsense"),
        *((setting.name, bad) for setting in conf.NUMBERS for bad in ("1.5", str(setting.greatest + 1))),
        (conf.QUEUE.name, "x"),
        (conf.QUEUE.name, "-1"),
        ("HITCOUNTER_CONSUMER_HEADER", "X Consumer"),
        ("HITCOUNTER_CONSUMER_HEADER", "X-Consumer:"),
        ("HITCOUNTER_CONSUMER_HEADER", "X-Verbraucher-Ä"),
        ("HITCOUNTER_COUNTRY_HEADER", '"'),
        ("HITCOUNTER_FORWARDED_HEADER", "X-Real-IP"),
        ("HITCOUNTER_TRUSTED_PROXIES", "-1"),
        ("HITCOUNTER_TRUSTED_PROXIES", "100"),
        ("HITCOUNTER_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("HITCOUNTER_TRUSTED_PROXIES", "127.0.0.1,"),
        ("HITCOUNTER_TRUSTED_PROXIES", "proxy.example"),
        ("HITCOUNTER_GEOIP_DATABASE", "nowhere.mmdb"),
        ("HITCOUNTER_GEOIP_DATABASE", "counters"),
        ("HITCOUNTER_GEOIP_DATABASE", "README.md"),
        ("HITCOUNTER_KEEP_HOURS_DAYS", "29"),
        ("HITCOUNTER_LOG_FORMAT", "xml"),
        ("HITCOUNTER_LOG_FORMAT", "JSON"),
    ],
)
def test_a_malformed_value_stops_the_start_in_one_sentence_that_names_it(tmp_path: Path, name: str, bad: str):
    done = run(tmp_path, "check", **{name: bad})
    assert done.returncode != 0
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "local"),
    [
        ({"HITCOUNTER_BIND": "127.0.0.1:1"}, True),
        ({"HITCOUNTER_BIND": "localhost:1"}, True),
        ({"HITCOUNTER_BIND": "[::1]:1"}, True),
        ({"HITCOUNTER_BIND": "0.0.0.0:1"}, False),
        ({"HITCOUNTER_BIND": "192.0.2.7:1"}, False),
        ({**IN_CONTAINER, "HITCOUNTER_PUBLISH": "127.0.0.1:80"}, True),
        ({**IN_CONTAINER, "HITCOUNTER_PUBLISH": "0.0.0.0:80"}, False),
        (IN_CONTAINER, False),
        ({"HITCOUNTER_BIND": "0.0.0.0:1", "HITCOUNTER_PUBLISH": "127.0.0.1:80"}, False),
        ({"HITCOUNTER_BIND": "127.0.0.1:1", "HITCOUNTER_PUBLISH": "192.0.2.7:80"}, True),
        ({"HITCOUNTER_BIND": "127.0.0.1:1", "HITCOUNTER_HOSTS": "counts.example.org"}, False),
        ({"HITCOUNTER_BIND": "127.0.0.1:1", "HITCOUNTER_TRUSTED_PROXIES": "1"}, False),
    ],
    ids=lambda given: " ".join(given.values()) if isinstance(given, dict) else None,
)
def test_what_is_for_local_use_is_open_and_without_tls_and_nothing_else_is(tmp_path: Path, given, local):
    shown = value(tmp_path, "HITCOUNTER_OPEN, settings.HITCOUNTER_TLS", HITCOUNTER_SECRET_KEY=LONG, **given)
    assert shown == f"{local} {not local}"


def test_the_operator_has_the_last_word_on_both(tmp_path: Path):
    given = {"HITCOUNTER_BIND": "0.0.0.0:1", "HITCOUNTER_OPEN": "on", "HITCOUNTER_TLS": "off"}
    shown = value(tmp_path, "HITCOUNTER_OPEN, settings.HITCOUNTER_TLS", HITCOUNTER_SECRET_KEY=LONG, **given)
    assert shown == "True False"


@pytest.mark.parametrize(
    ("proxied", "is_open"),
    [
        ({"HITCOUNTER_HOSTS": "counts.example.org"}, False),
        ({"HITCOUNTER_TRUSTED_PROXIES": "1"}, False),
        ({"HITCOUNTER_HOSTS": "", "HITCOUNTER_TRUSTED_PROXIES": ""}, True),
        ({"HITCOUNTER_HOSTS": "counts.example.org", "HITCOUNTER_OPEN": "on"}, True),
    ],
    ids=str,
)
def test_a_service_on_loopback_is_not_open_by_itself_where_others_come_through_a_proxy(tmp_path, proxied, is_open):
    assert value(tmp_path, "HITCOUNTER_OPEN", **proxied) == str(is_open)


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
    ],
)
def test_the_service_reaches_itself_where_it_listens(tmp_path: Path, bind: str, url: str):
    assert value(tmp_path, "HITCOUNTER_OWN_URL", HITCOUNTER_BIND=bind, HITCOUNTER_SECRET_KEY=LONG) == url


def test_a_database_url_is_read_as_libpq_reads_it(tmp_path: Path):
    url = "postgresql://me:p%40ss@db.example:6432/counts?sslmode=require"
    database = value(tmp_path, "DATABASES['default']", DATABASE_URL=url)
    for part in (
        "'USER': 'me'",
        "'PASSWORD': 'p@ss'",
        "'HOST': 'db.example'",
        "'PORT': '6432'",
        "'sslmode': 'require'",
    ):
        assert part in database


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se%zzcret@localhost/x",
        "postgresql://me@localhost/x?se%zzcret=1",
        "host=localhost password=my se%zzcret",
    ],
)
def test_a_malformed_database_url_is_refused_without_what_may_be_its_password(tmp_path: Path, url: str):
    done = run(tmp_path, "check", DATABASE_URL=url)
    assert done.returncode != 0
    assert "DATABASE_URL" in done.stderr
    assert "cret" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("url", ["mysql://x/y", "mysql://x/y?a=b", "sqlite:///db", "hitcounter"])
def test_another_database_is_refused_with_what_it_must_be(tmp_path: Path, url: str):
    done = run(tmp_path, "check", DATABASE_URL=url)
    assert done.returncode != 0
    assert "must be a PostgreSQL URL, like postgresql://" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["serve", "verifycounts", "migrate", "backup"])
def test_a_database_that_cannot_be_reached_is_told_in_one_sentence_without_its_password(tmp_path: Path, command: str):
    file = [str(tmp_path / "backup")] if command == "backup" else []
    done = run(tmp_path, command, *file, DATABASE_URL="postgresql://me:s3cret@127.0.0.1:1/counts")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith("Connection refused.\n")
    assert "s3cret" not in done.stderr


def test_the_service_has_a_pool_which_commands_have_not(tmp_path: Path):
    assert "'pool': {" in value(tmp_path, "DATABASES")
    code = "import manage; from django.conf import settings; manage.leave_the_pool(); print(settings.DATABASES)"
    without = in_a_process(tmp_path, code, {"DJANGO_SETTINGS_MODULE": "hitcounter.settings"}).stdout
    assert "'OPTIONS': {'connect_timeout': 2}" in without


def test_the_secret_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path):
    first, second = value(tmp_path, "SECRET_KEY"), value(tmp_path, "SECRET_KEY")
    assert first == second
    assert len(first) >= 40
    assert (tmp_path / "secret-key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "name", ["counts.example.org", ".example.org", "192.0.2.7", "[2001:db8::7]", "web", "1.a", "x_y"]
)
def test_a_host_is_a_name_or_an_address(tmp_path: Path, name: str):
    assert value(tmp_path, "HITCOUNTER_HOSTS", HITCOUNTER_HOSTS=name) == repr([name])


def test_a_secret_key_from_the_environment_is_taken_as_it_is(tmp_path: Path):
    assert value(tmp_path, "SECRET_KEY", HITCOUNTER_SECRET_KEY=LONG) == LONG
    assert not (tmp_path / "secret-key").exists()


@pytest.mark.parametrize("bind", ["0.0.0.0:1", "192.0.2.7:1"])
def test_who_listens_on_more_than_loopback_is_told_to_bring_a_secret_key(tmp_path: Path, bind: str):
    done = run(tmp_path, "check", HITCOUNTER_BIND=bind)
    assert done.returncode == 1
    assert "HITCOUNTER_SECRET_KEY" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "secret-key").exists()


@pytest.mark.parametrize(
    ("name", "attribute"),
    [("HITCOUNTER_SECRET_KEY", "SECRET_KEY"), ("HITCOUNTER_ADMIN_PASSWORD", "HITCOUNTER_ADMIN_PASSWORD")],
)
def test_a_secret_may_stand_in_a_file(tmp_path: Path, name: str, attribute: str):
    (tmp_path / "secret").write_text(LONG + "\n")
    assert value(tmp_path, attribute, **{f"{name}_FILE": str(tmp_path / "secret")}) == LONG


def test_the_database_may_stand_in_a_file(tmp_path: Path):
    (tmp_path / "secret").write_text("postgresql://me@db.example/counts\n")
    given = {"DATABASE_URL": "", "DATABASE_URL_FILE": str(tmp_path / "secret")}
    assert value(tmp_path, "DATABASES['default']['HOST']", **given) == "db.example"


@pytest.mark.parametrize("name", ["DATABASE_URL", *SECRETS])
def test_a_secret_that_is_given_twice_stops_the_start(tmp_path: Path, name: str):
    (tmp_path / "secret").write_text(LONG)
    done = run(tmp_path, "check", **{name: LONG, f"{name}_FILE": str(tmp_path / "secret")})
    assert done.returncode == 1
    assert f'"{name}" and "{name}_FILE" are both set' in done.stderr


def test_a_file_without_a_secret_stops_the_start(tmp_path: Path):
    (tmp_path / "secret").write_text("\n")
    done = run(tmp_path, "check", HITCOUNTER_SECRET_KEY_FILE=str(tmp_path / "secret"))
    assert done.returncode == 1
    assert 'HITCOUNTER_SECRET_KEY_FILE" invalid' in done.stderr


def test_production_settings_pass_djangos_own_check(tmp_path: Path):
    production = {
        "HITCOUNTER_BIND": "0.0.0.0:5000",
        "HITCOUNTER_HOSTS": "counts.example.org",
        "HITCOUNTER_SECRET_KEY": LONG,
    }
    done = run(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **production)
    assert done.returncode == 0, done.stderr


def test_without_tls_djangos_own_check_does_not_pass(tmp_path: Path):
    given = {"HITCOUNTER_SECRET_KEY": LONG, "HITCOUNTER_TLS": "off"}
    done = run(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **given)
    assert done.returncode == 1
    assert "security.W008" in done.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\n# why\nHITCOUNTER_OPEN off s3cret\nB=2\n", 3),
        ("\n\n\nA='s3cret\nB=2\n", 4),
        ("A='1\n2'\n\nB=\"s3cret\" off\nC off\n", 4),
    ],
)
def test_a_line_of_dot_env_that_cannot_be_read_is_told_with_its_number_and_not_itself(
    tmp_path: Path, text: str, line: int
):
    file = tmp_path / ".env"
    file.write_text(text)
    with pytest.raises(EnvError) as refusal:
        check_dotenv(file)
    assert str(refusal.value) == f"{file}, line {line}, cannot be read: it is not like NAME=value."


def test_other_lines_of_dot_env_can_be_read_and_there_need_be_none(tmp_path: Path):
    check_dotenv(tmp_path / ".env")
    (tmp_path / ".env").write_text("# why\n\nexport A=1\nB='x\ny' # why\nC=\n")
    check_dotenv(tmp_path / ".env")


def test_the_start_ends_with_that_sentence_alone(tmp_path: Path):
    (tmp_path / ".env").write_text("HITCOUNTER_OPEN off\n")
    code = (
        "import pathlib, sys, manage;"
        f" pathlib.Path.resolve = lambda _: pathlib.Path({str(tmp_path)!r}, 'hitcounter', 'environment.py');"
        " sys.exit(manage.main())"
    )
    done = in_a_process(tmp_path, code, {})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{tmp_path}/.env, line 1, cannot be read: it is not like NAME=value.\n"


def test_hourly_figures_are_not_kept_for_fewer_days_than_hit_rows(tmp_path: Path):
    done = run(tmp_path, "check", HITCOUNTER_KEEP_HITS_DAYS="401")
    assert done.returncode != 0
    assert "HITCOUNTER_KEEP_HOURS_DAYS" in done.stderr
    assert "401" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_empty_forwarded_header_is_the_default(tmp_path: Path):
    assert value(tmp_path, "HITCOUNTER_FORWARDED_HEADER", HITCOUNTER_FORWARDED_HEADER="") == "X-Forwarded-For"


def test_no_consumer_is_read_when_its_header_is_set_to_nothing(tmp_path: Path):
    assert value(tmp_path, "HITCOUNTER_CONSUMER_HEADER", HITCOUNTER_CONSUMER_HEADER="") == ""


def test_a_database_of_countries_is_found_beside_manage_py(tmp_path: Path):
    file = country_file(tmp_path / "countries.mmdb", {"203.0.113.0/24": {"country": {"iso_code": "DE"}}})
    relative = os.path.relpath(file, PROJECT)
    assert Path(value(tmp_path, "HITCOUNTER_GEOIP_DATABASE", HITCOUNTER_GEOIP_DATABASE=relative)).samefile(file)


def test_a_process_that_loads_all_itself_ends_the_same(tmp_path: Path):
    environment = {"PATH": "/usr/bin:/bin", "DATABASE_URL": "nonsense", "HITCOUNTER_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "manage.py", "check"]
    alone = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    beside = run(tmp_path, "check", DATABASE_URL="nonsense")
    assert (alone.returncode, alone.stdout, alone.stderr) == (beside.returncode, beside.stdout, beside.stderr)
