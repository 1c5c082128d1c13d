"""A reverse proxy as people put it in front of the server: below a path, with limits, and with errors in HTML."""

from __future__ import annotations

import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "date", "server")


class Proxy:
    """A proxy of the server on a port. A test may set `status` and `max_bytes` while it runs.

    It passes on what is below `prefix`, without the prefix. A POST with more than `max_bytes` gets 413, and with
    `status`, every POST gets that: both in HTML, readable for pages of any origin. `posts` has the size of each POST.
    """

    def __init__(self, port: int, prefix: str = "") -> None:
        self.port, self.prefix = port, prefix
        self.status = 0
        self.headers: dict[str, str] = {}  # of the answers with `status`
        self.max_bytes = 1 << 30
        self.posts: list[int] = []
        self._site = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    @property
    def url(self) -> str:
        """The address of the proxied page."""
        return f"http://localhost:{self._site.server_port}{self.prefix}/"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._site.serve_forever, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._site.shutdown()
        self._site.server_close()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            proxy.posts.append(len(body))
            if status := 413 if len(body) > proxy.max_bytes else proxy.status:
                page = f"<html><body><center><h1>{status}</h1></center></body></html>".encode()
                headers = {"Content-Type": "text/html", "Access-Control-Allow-Origin": "*"} | proxy.headers
                return self._send(status, headers, page)
            return self._answer(body)

        def _answer(self, body: bytes) -> None:
            if not self.path.startswith(f"{proxy.prefix}/"):
                return self._send(404, {"Content-Type": "text/html"}, b"<html><body>Another page</body></html>")
            connection = HTTPConnection("127.0.0.1", proxy.port, timeout=60)
            connection.request(self.command, self.path.removeprefix(proxy.prefix), body, dict(self.headers.items()))
            with connection.getresponse() as answer:
                content = answer.read()
            connection.close()
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
            return self._send(answer.status, headers, content)

        def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
