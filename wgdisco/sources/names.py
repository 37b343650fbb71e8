"""Host names of STUN servers, looked up without blocking anything, the end of the process included.

The system's resolver does the work, so the questions carry no fwmark: in a full tunnel they go through the tunnel, as
all other names of the host do (device/resolver.py tells when). Where that must not happen, or DNS is not there yet,
write addresses instead of names.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address

from wgdisco.endpoint import Endpoint
from wgdisco.errors import UsageError

__all__ = ["Answer", "ask", "split"]

STUN_PORT = 3478

Answer = list[Endpoint] | OSError


def split(server: str) -> tuple[str, int]:
    """Host and port of `HOST`, `HOST:PORT`, `ADDRESS:PORT` or `[V6]:PORT`; raises UsageError quoting the text."""
    host, _, port = server.rpartition(":") if not server.endswith("]") and ":" in server else (server, "", "")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise UsageError(f"STUN server {server!r}: an IPv6 address is written in brackets, as [2001:db8::1]:3478")
    number = port or str(STUN_PORT)
    if not host or not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        raise UsageError(f"STUN server {server!r}: expected HOST:PORT, as stun.example.org:3478")
    return host, int(number)


def ask(server: str, version: int) -> asyncio.Future[Answer]:
    """The server's addresses of IP version 4 or 6, at least one, or an OSError; raises UsageError as `split`.

    getaddrinfo(3) runs in a daemon thread: asyncio's own pool would keep the process alive as long as DNS is silent.
    """
    host, port = split(server)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()
    with suppress(ValueError):
        address = ip_address(host)
        fits = address.version == version
        answer.set_result([Endpoint(address, port)] if fits else OSError(f"{server} is no IPv{version} address"))
        return answer

    def tell(result: Answer) -> None:
        if not answer.done():
            answer.set_result(result)

    def run() -> None:
        result = _addresses(host, port, version)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result)

    threading.Thread(target=run, daemon=True, name=f"look up {host}").start()
    return answer


def _addresses(host: str, port: int, version: int) -> Answer:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        found = socket.getaddrinfo(host, 0, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        return OSError(f"the name {host!r} has no address: {error}")
    return [Endpoint(ip_address(str(each[4][0])), port) for each in found]
