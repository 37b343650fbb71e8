"""nginx with its dav module for the tests, and a server in this process that says whatever a test wants."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, NamedTuple

from tests.support import Server

__all__ = ["PASSWORD", "Nginx", "Request", "Said", "speaking"]

PASSWORD = "correct horse"
LONG = 1 << 25  # bytes
CONF = """
daemon off; master_process off; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
    scgi_temp_path {folder}/tmp; uwsgi_temp_path {folder}/tmp;
    root {folder}/data; dav_methods PUT DELETE; create_full_put_path on; client_max_body_size 1k;
    server {{
        listen 127.0.0.1:{port}{tls};
        location /open/ {{ }}
        location /members/ {{ limit_except GET {{ auth_basic wgdisco; auth_basic_user_file {folder}/users; }} }}
        location /closed/ {{ deny all; }}
        location /plain/ {{ dav_methods off; }}
        location /small/ {{ client_max_body_size 8; }}
    }}
}}
"""


class Nginx(Server):
    """One process (so that SIGSTOP freezes all of it), with folders of different rights."""

    program = "nginx"
    arguments: ClassVar[tuple[str, ...]] = ("-e", "stderr", "-p", "{folder}", "-c", "{folder}/nginx.conf")

    def __init__(self, folder: Path, certificate: tuple[str, str] | None = None) -> None:
        super().__init__(folder)
        self.certificate = certificate

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        tls = " ssl; ssl_certificate {}; ssl_certificate_key {}".format(*self.certificate) if self.certificate else ""
        for name in ("tmp", "data/open", "data/members", "data/closed", "data/plain", "data/small"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "users").write_text(f"writer:{{PLAIN}}{PASSWORD}\n")
        (self.folder / "nginx.conf").write_text(CONF.format(folder=self.folder, port=self.port, tls=tls))

    def asked(self) -> list[str]:
        """The status codes of the requests so far, as nginx logged them."""
        return [line.split('" ')[1][:3] for line in (self.folder / "access.log").read_text().splitlines()]


class Request(NamedTuple):
    """What a server was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Said(NamedTuple):
    """What a server answers."""

    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    body: bytes = b""
    endless: list[int] | None = None
    """When given, zeros follow for long, and the list gets how many bytes at a time."""


@contextmanager
def speaking(
    answer: Callable[[Request], Said], certificate: tuple[str, str] | None = None
) -> Iterator[tuple[str, list[Request]]]:
    """The URL of a server on loopback that answers as told, and the list of what it was asked."""
    heard: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the client has read enough, or does not like our certificate
                self.close_connection = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            heard.append(request)
            said = answer(request)
            self.send_response(said.status)
            self.close_connection = said.endless is not None
            for name, value in (
                ({} if said.endless is not None else {"Content-Length": str(len(said.body))}) | said.headers
            ).items():
                self.send_header(name, value)
            self.end_headers()
            if said.status != 304:
                self.wfile.write(said.body)
            while said.endless is not None and sum(said.endless) < LONG:
                said.endless.append(self.wfile.write(bytes(65536)))

        do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _serve  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
