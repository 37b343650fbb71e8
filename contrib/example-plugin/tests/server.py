"""A small key-value server for the tests: `python tests/server.py PORT [TOKEN]`; it forgets all when it ends."""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class Handler(BaseHTTPRequestHandler):
    """PUT, GET and DELETE of any path."""

    values: ClassVar[dict[str, tuple[bytes, float]]] = {}
    token = ""

    def do_PUT(self) -> None:
        """Keep the body for the seconds that the header `Lifetime` says."""
        value = self.rfile.read(int(self.headers["Content-Length"]))
        if self.allowed():
            self.values[self.path] = value, time.monotonic() + float(self.headers["Lifetime"])
            self.answer(204)

    def do_GET(self) -> None:
        """What was put, unless its lifetime is over."""
        value, end = self.values.get(self.path, (b"", 0.0))
        if self.allowed():
            self.answer(200 if time.monotonic() < end else 404, value)

    def do_DELETE(self) -> None:
        """Forget it."""
        if self.allowed():
            self.answer(204 if self.values.pop(self.path, None) else 404)

    def allowed(self) -> bool:
        """Whether the token is right; if not, it is answered."""
        if "busy" in self.path:
            self.answer(503)
        elif self.token and self.headers["Authorization"] != f"Bearer {self.token}":
            self.answer(401)
        else:
            return True
        return False

    def answer(self, code: int, value: bytes = b"") -> None:
        """Send an answer."""
        self.send_response(code)
        if code == 503:
            self.send_header("Retry-After", "7")
        if code != 204:
            self.send_header("Content-Length", str(len(value)))
        self.end_headers()
        if code == 200:
            self.wfile.write(value)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    Handler.token = "".join(sys.argv[2:])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
