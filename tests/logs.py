"""Access logs of our own, `manage.py importlog` on them within the process and in one of its own, and what it left."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from psycopg.conninfo import conninfo_to_dict

from counters.books import verify
from counters.models import Counter
from hitcounter.asgi import conninfo
from tests.service import PROJECT

FIRST = datetime(2026, 3, 1, 8, tzinfo=UTC)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
WAIT_SECONDS = 20


def line(number: int = 0, request: str = "GET /a HTTP/1.1", status: int = 200, at: datetime | None = None) -> str:
    """A line of the combined format, one of many that differ."""
    time = (at or FIRST + timedelta(seconds=number)).strftime("%d/%b/%Y:%H:%M:%S %z")
    return f'192.0.2.{number % 250} - - [{time}] "{request}" {status} 512 "https://example.org/x?y" "{FIREFOX}"\n'


def lines(*numbers: int) -> str:
    return "".join(line(number, f"GET /{number % 7} HTTP/1.1") for number in numbers)


def run(*arguments: Any) -> list[str]:
    """The lines that the command prints."""
    out = io.StringIO()
    call_command("importlog", *map(str, arguments), stdout=out)
    return out.getvalue().splitlines()


def refused(*arguments: Any) -> str:
    """The sentence that the command ends with."""
    with pytest.raises(CommandError) as error:
        run(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def counts() -> dict[str, int]:
    return dict(Counter.objects.filter(hits__gt=0).values_list("path", "hits"))


def balance() -> bool:
    return verify(lambda difference: pytest.fail(str(difference)))[1:] == (0, 0)


def in_log(first: int, end: int) -> dict[str, int]:
    """What lines(first … end - 1) come to."""
    numbers = [f"/{number % 7}" for number in range(first, end)]
    return {path: numbers.count(path) for path in sorted(set(numbers))}


def until(condition: Callable[[], object]) -> None:
    stop = threading.Event()
    for _ in range(WAIT_SECONDS * 50):
        if condition():
            return
        stop.wait(0.02)
    raise AssertionError("waited in vain")


def url() -> str:
    """The test database's, for processes beside."""
    parts = {name: str(value) for name, value in conninfo_to_dict(conninfo()).items() if value}
    return "postgresql://?" + "&".join(f"{name}={value.replace('/', '%2F')}" for name, value in parts.items())


class Import:
    """`manage.py importlog` as a process; its lines when it has ended."""

    def __init__(self, *arguments: Any, stdin: Any = subprocess.DEVNULL) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "importlog", *map(str, arguments)],
            cwd=PROJECT,
            env={**os.environ, "DATABASE_URL": url()},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, number: int | None = None) -> tuple[int, list[str], str]:
        if number:
            self.process.send_signal(number)
        out, error = self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode, out.splitlines(), error.strip()


def wait_for(expected: dict[str, int]) -> None:
    """Return once these are the counts."""
    stop = threading.Event()
    for _ in range(WAIT_SECONDS * 20):
        if counts() == expected:
            return
        stop.wait(0.05)
    assert counts() == expected
