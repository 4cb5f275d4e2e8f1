"""A web site of somebody's on the loopback address, whose pages embed what the service offers."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Site:
    """Serves `pages`, HTML by path, all with the same headers. `localhost` is another site than 127.0.0.1."""

    def __init__(self, pages: dict[str, str], headers: dict[str, str]) -> None:
        #: The paths that were asked for.
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(pages, headers, self.asked))
        self.url = f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> "Site":
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(pages: dict[str, str], headers: dict[str, str], asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            page = pages.get(self.path.partition("?")[0])
            body = f"<!doctype html><title>A page</title><link rel=icon href=data:,>{page}".encode()
            self.send_response(404 if page is None else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *message: Any) -> None:
            """Nobody reads it."""

    return Handler
