"""A pkarr relay on loopback: it verifies signatures and refuses what is older, as relays do (design/relays.md).

Written apart from the backend: its own z-base-32 and its own check of the signature.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tests.support import Server

__all__ = ["Relay"]

ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"


class Relay(Server):
    """A relay in a process of its own, which forgets all when it ends."""

    program = sys.executable
    arguments: ClassVar[tuple[str, ...]] = ("-m", "tests.backends.pkarrrelay", "{port}")
    environment: ClassVar[dict[str, str]] = {"PYTHONPATH": str(Path(__file__).parents[2])}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def key_of(path: str) -> bytes:
    """The 32 bytes that a path names; ValueError when it names none."""
    bits = "".join(f"{ALPHABET.index(letter):05b}" for letter in path.removeprefix("/"))
    if len(bits) != 260 or bits[256:] != "0000":
        raise ValueError(path)
    return int(bits[:256], 2).to_bytes(32)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body leave in two packets, and the second one should not wait
    packets: ClassVar[dict[bytes, bytes]] = {}

    def do_GET(self) -> None:
        try:
            packet = self.packets.get(key_of(self.path))
        except ValueError:
            self.answer(400)
        else:
            self.answer(404 if packet is None else 200, packet or b"")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.answer(self.stored(key_of(self.path), body))
        except (ValueError, BadSignatureError):
            self.answer(400)

    def stored(self, key: bytes, body: bytes) -> int:
        """The status: taken, too large or older."""
        if len(body) > 1072:
            return 413
        signature, seq, packet = body[:64], int.from_bytes(body[64:72]), body[72:]
        VerifyKey(key).verify(b"3:seqi%de1:v%d:" % (seq, len(packet)) + packet, signature)
        before = self.packets.get(key)
        if before is not None and int.from_bytes(before[64:72]) > seq:
            return 409
        self.packets[key] = body
        return 204

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Listener(ThreadingHTTPServer):
    request_queue_size = 64  # a reader asks for 16 slots at once


if __name__ == "__main__":
    Listener(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
