"""Show the configuration that is in force."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings
from django.core.management import BaseCommand
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from hitcounter.conninfo import SECRETS
from hitcounter.environment import DATA_DIR, env, secret, source_of, unknown
from hitcounter.postgres import url_of_private

MASK = "********"


class Shown(NamedTuple):
    """A setting as it is shown: its variable, the value in force, and where that comes from."""

    name: str
    value: Any
    source: str


class Command(BaseCommand):
    help = "Show every setting: its value in force, secrets masked, and where it comes from."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="as a JSON list of objects")

    def handle(self, *args: Any, **options: Any) -> None:
        for sentence in unknown():
            self.stderr.write(sentence)
        shown = sorted(in_force())
        if options["json"]:
            self.stdout.write(json.dumps([row._asdict() for row in shown], indent=2))
            return
        rows = [(row.name, _as_set(row.value), row.source) for row in shown]
        name_width, value_width = (max(len(row[n]) for row in rows) for n in (0, 1))
        for name, value, source in rows:
            self.stdout.write(f"{name:{name_width}}  {value:{value_width}}  {source}")


def in_force() -> Iterator[Shown]:
    """Every variable that the settings were read from, with what was made of it."""
    for name in env.dump():
        if name == "DATABASE_URL":
            yield _database()
        elif name == "HITCOUNTER_SECRET_KEY":
            source = source_of(name)
            yield Shown(name, MASK, "made on first start" if source == "default" else source)
        else:
            value = getattr(settings, name, env.dump()[name])
            secret_value = value and name.endswith(("_PASSWORD", "_KEY"))
            yield Shown(name, MASK if secret_value else _plain(value), source_of(name))


def _database() -> Shown:
    """The connection string without what is secret in it, in libpq's other notation; manage.py sets the private one."""
    url = secret("DATABASE_URL")
    masked = {name: MASK if name in SECRETS else value for name, value in conninfo_to_dict(url).items()}
    private = url == url_of_private(DATA_DIR / "postgres")
    return Shown("DATABASE_URL", make_conninfo("", **masked), "default" if private else source_of("DATABASE_URL"))


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | list) or value is None else str(value)


def _as_set(value: Any) -> str:
    """A value as it would be written in .env."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(value) if isinstance(value, list) else str(value)
