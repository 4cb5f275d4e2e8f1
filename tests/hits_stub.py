"""A stand-in for the service's `POST /hits/`, with its contract and with faults on demand."""

import json
import re
import threading
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

MOST_HITS, MOST_BYTES = 10_000, 8_000_000
FIELDS: dict[str, Callable[[Any], object]] = {
    "path": lambda value: re.fullmatch(r"/[\x21-\x7e]{0,2047}", value),
    "at": lambda value: datetime.fromisoformat(value).utcoffset() is not None,
    "n": lambda value: value >= 1,
    "method": lambda value: re.fullmatch(r"[A-Z-]{1,20}", value),
    "status": lambda value: 100 <= value <= 599,
    **{
        name: lambda value: len(value.encode()) <= 255 and not re.search(r"[\x00-\x1f\x7f-\x9f]", value)
        for name in ("consumer", "route", "visitor", "country")
    },
    **{name: lambda value: isinstance(value, str) for name in ("referrer", "user_agent")},
}


def fault(line: bytes) -> str:
    """Why a line would be refused; an empty string if it would not."""
    try:
        hit = json.loads(line)
        return ", ".join(name for name in hit | {"path": hit["path"]} if not FIELDS[name](hit[name]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return repr(error)


class HitsStub:
    """Counts on a loopback port, by path, whatever comes with a key that is new.

    `faults` are done to the next requests, one each: a status to answer without counting, or "drop", which counts and
    cuts the connection, or "hang", which counts and answers only when the stub is stopped.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.counts: Counter[str] = Counter()
        self.hits: list[dict[str, Any]] = []
        self.requests: list[tuple[str, bytes, Any]] = []
        self.faults: deque[int | str] = deque()
        self.headers: dict[str, str] = {}
        self.always: int | None = None
        self._answers: dict[str, tuple[bytes, int]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                stub._serve(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        key = request.headers["Idempotency-Key"]
        with self._lock:
            self.requests.append((key, body, request.headers))
            todo = self.always or (self.faults.popleft() if self.faults else None)
            if isinstance(todo, int):
                return self._answer(request, todo, {"detail": f"stub says {todo}"})
            status, answer = self._count(request, key, body)
        if todo == "hang":
            self._stopped.wait()
        if todo is None:
            self._answer(request, status, answer)
        return None

    def _count(self, request: BaseHTTPRequestHandler, key: str, body: bytes) -> tuple[int, dict[str, Any]]:
        digest = sha256(body).digest()
        if key in self._answers:
            known, counted = self._answers[key]
            return (200, {"counted": counted}) if digest == known else (422, {"detail": "another body"})
        lines = body.splitlines()
        if request.path != "/hits/" or request.headers["Content-Type"] != "application/x-ndjson" or len(key) > 255:
            return 400, {"detail": "not a report of hits"}
        if len(lines) > MOST_HITS or len(body) > MOST_BYTES:
            return 413, {"detail": "too much"}
        for index, line in enumerate(lines):
            if reason := fault(line):
                return 400, {"detail": reason, "index": index}
        self.hits += map(json.loads, lines)
        self.counts.update(json.loads(line)["path"] for line in lines)
        self._answers[key] = digest, len(lines)
        return 200, {"counted": len(lines)}

    def _answer(self, request: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        request.send_response(status)
        for name, value in {**self.headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)
