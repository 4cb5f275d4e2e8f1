"""What counting costs a host: a Django project's request with the middleware and without, in turn.

    python -m benchmarks.middleware [--requests 5000] [--rounds 15]

Requests go straight into Django's WSGI handler, one after the other: a small view, with the headers of a browser. Hits
are spooled to a directory made in the current one and sent, meanwhile, to a stand-in for the service
in a process of its own. Prints medians of the rounds, and of the differences between neighbouring ones.
"""

import argparse
import atexit
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

from tests.hits_stub import HitsStub

ENVIRON = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/page/benchmark", "RAW_URI": "/page/benchmark?page=2",
    "QUERY_STRING": "page=2", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "REMOTE_ADDR": "203.0.113.7",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "HTTP_REFERER": "https://example.org/page/1?q=2", "HTTP_X_CONSUMER": "acme", "wsgi.url_scheme": "http",
}  # fmt: skip
Handler = Callable[..., Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000, help="in a round")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    held = ExitStack()
    atexit.register(held.close)  # after the sender's own end, which is registered later
    plain, counting = _handlers(
        url=held.enter_context(_stand_in()),
        spool=held.enter_context(tempfile.TemporaryDirectory(prefix=".benchmark-", dir=".")),
    )
    pairs = [(_round(plain, options.requests), _round(counting, options.requests)) for _ in range(options.rounds)]
    without, with_ = zip(*pairs[1:], strict=True)  # the first warms up
    print(f"without the middleware  {statistics.median(without):6.1f} µs per request")
    print(f"with it                 {statistics.median(with_):6.1f} µs per request")
    differences = [b - a for a, b in pairs[1:]]
    print(
        f"difference              {statistics.median(differences):6.1f} µs"
        f" ({min(differences):.1f} to {max(differences):.1f})"
    )


def _handlers(url: str, spool: str) -> tuple[Handler, Handler]:
    """The host project as it is without the middleware, and with it."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "tests.host.settings",
        "HOST_HITCOUNTER_URL": url,
        "HOST_HITCOUNTER_SPOOL": spool,
    }
    import django
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import override_settings

    django.setup()
    with override_settings(MIDDLEWARE=[]):
        plain = WSGIHandler()
    return plain, WSGIHandler()


def _round(handler: Handler, requests: int) -> float:
    """Microseconds per request."""
    start = perf_counter()
    for _ in range(requests):
        handler({**ENVIRON, "wsgi.input": BytesIO()}, _start_response).close()
    return (perf_counter() - start) / requests * 1e6


def _start_response(status: str, headers: list[tuple[str, str]], *error: object) -> None:
    assert status.startswith("200")


@contextmanager
def _stand_in() -> Iterator[str]:
    """The address of a stand-in for the service, whose work is not this process's."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,))
    process.start()
    yield ours.recv()
    ours.send("done")
    process.join()


def _serve(pipe: Connection) -> None:
    with HitsStub() as stub:
        pipe.send(stub.url)
        pipe.recv()


if __name__ == "__main__":
    main()
