"""HOST:PORT to endpoints, without ever holding up the event loop or the end of the process."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address

from wgdisco.endpoint import Endpoint
from wgdisco.errors import UsageError

__all__ = ["resolve", "split"]


def split(text: str) -> tuple[str, int]:
    """Host (name or address) and port (1 … 65535) of `HOST:PORT`; raises UsageError quoting the text."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"node {text!r}: expected HOST:PORT, as dht.example.org:6881 or [2001:db8::1]:6881")
    if ":" in host.strip("[]") and not (host.startswith("[") and host.endswith("]")):
        raise UsageError(f"node {text!r}: an IPv6 address is written in brackets, as [2001:db8::1]:6881")
    return host.strip("[]"), int(port)


async def resolve(text: str) -> list[Endpoint]:
    """The endpoints behind `HOST:PORT`, all addresses of both families; raises UsageError or OSError.

    The system's resolver may hang for long; it runs in a daemon thread, since a thread of the event loop's own pool
    would hold the process at its end.
    """
    host, port = split(text)
    with suppress(ValueError):
        return [Endpoint(ip_address(host), port)]
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def tell(addresses: list[str] | OSError) -> None:
        if answer.done():
            return
        if isinstance(addresses, OSError):
            answer.set_exception(addresses)
        else:
            answer.set_result(addresses)

    def ask() -> None:
        try:
            found: list[str] | OSError = [str(each[4][0]) for each in socket.getaddrinfo(host, port, proto=17)]
        except (OSError, UnicodeError) as error:
            found = error if isinstance(error, OSError) else OSError(f"{host!r} is no host name")
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    return [Endpoint(ip_address(address.partition("%")[0]), port) for address in await answer]
