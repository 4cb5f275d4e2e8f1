"""python -m tests.starting: runs code in processes of their own, in which the libraries that take long are loaded.

A line of JSON on standard input, {"code": …, "environment": {…}}, is answered by one: {"returncode": …, "stdout": …,
"stderr": …}. Nothing of the project is loaded before the code runs, and it runs in a process that ends with it.
"""

import json
import os
import sys
import tempfile
from typing import IO, Any

import csp.constants
import django.core.management
import environs
import psycopg.conninfo

LOADED = (csp.constants, django.core.management, environs, psycopg.conninfo)


def run(code: str, environment: dict[str, str], output: IO[bytes], errors: IO[bytes]) -> int:
    """Return the exit status."""
    child = os.fork()
    if not child:
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        os.environ.clear()
        os.environ.update(environment)
        exec(code, {"__name__": "__main__"})  # noqa: S102 (the test's own)
        sys.exit()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        status = run(asked["code"], asked["environment"], output, errors)
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode())
    return {"returncode": status, "stdout": texts[0], "stderr": texts[1]}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
