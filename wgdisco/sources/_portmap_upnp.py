"""UPnP Internet Gateway Devices, by the library miniupnpc: only the router itself is ever asked for anything.

The library's own discovery fetches descriptions from wherever an answer points to. So the search (UPnP Device
Architecture 1.1 section 1.3) is done here: an answer counts when it comes from the router and names the router, and a
control address elsewhere is not used. The library follows no redirects.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, TypeVar

from wgdisco.device.family import mark
from wgdisco.device.routes import Route
from wgdisco.endpoint import Address, Endpoint
from wgdisco.errors import MissingExtra

__all__ = ["DESCRIPTION", "Igd", "aside", "location", "search"]

DESCRIPTION = "wgdisco"
"""What a mapping of ours is called in the router."""
PORT, MULTICAST = 1900, "239.255.255.250"
AGAIN = 0.5  # seconds after which the question is sent once more
QUESTION = (
    "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"
    'MAN: "ssdp:discover"\r\nMX: 1\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:%d\r\n\r\n'
)
TAKEN, PERMANENT = "ConflictInMappingEntry", "OnlyPermanentLeasesSupported"  # errors 718 and 725 in the library's words
TRIES = 4  # outer ports that are tried

T = TypeVar("T")


def aside(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run what blocks in a daemon thread, which holds up neither the event loop nor the end of the process."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if not outcome.done():
            outcome.set_exception(error) if error is not None else outcome.set_result(result)  # type: ignore[arg-type] # T may be None

    def run() -> None:
        try:
            told: tuple[T | None, Exception | None] = work(), None
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for; the library raises no other type
            told = None, error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, *told)

    threading.Thread(target=run, daemon=True, name="wgdisco UPnP").start()
    return outcome


async def search(way: Route, fwmark: int, seconds: float) -> str | None:
    """Where the router of an IPv4 route describes itself; None when it does not say so within so many seconds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(TimeoutError):
        sock.setblocking(False)
        mark(sock, fwmark)
        sock.bind((str(way.source), 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, way.source.packed)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
        async with asyncio.timeout(seconds):
            for patience in (AGAIN, seconds):
                _question(sock, str(way.gateway))
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        return await _answer(sock, str(way.gateway))
    return None


def _question(sock: socket.socket, router: str) -> None:
    """To the router, and to everybody for routers that listen only there; every version answers to its own number."""
    for number in (1, 2):
        for host in (router, MULTICAST):
            with suppress(OSError):  # no route, or a queue that is full
                sock.sendto((QUESTION % number).encode(), (host, PORT))


async def _answer(sock: socket.socket, router: str) -> str:
    loop = asyncio.get_running_loop()
    while True:
        data, source = await loop.sock_recvfrom(sock, 2048)
        if source[0] == router and (found := location(data, ip_address(router))) is not None:
            return found


def location(answer: bytes, router: Address) -> str | None:
    """The URL of the description in an answer to the search; None when it is not on the router itself."""
    header = re.search(rb"^location:[ \t]*([!-~]+)[ \t]*\r?$", answer, re.IGNORECASE | re.MULTILINE)
    url = header[1].decode() if header else ""
    return url if _is_on(url, router) else None


def _is_on(url: str, router: Address) -> bool:
    """Whether a URL names the router by its address, so that nothing has to be looked up."""
    return re.fullmatch(rf"http://{re.escape(str(router))}(:\d{{1,5}})?/[!-~]*", url) is not None


class Igd:
    """The Internet Gateway Device of one router. Every method blocks, for seconds if need be; one runs at a time.

    Raises MissingExtra without miniupnpc, ConnectionError with the device's own words when it refuses.
    """

    def __init__(self, way: Route) -> None:
        """Take the route to the router."""
        self._way = way
        self._lock = threading.Lock()
        self._device: Any = None
        self._mapped: tuple[int, int] | None = None  # the outer and the inner port of what we made

    def open(self, description: str) -> Address:
        """Read the description at the URL that `search` gave; the outer address as the router knows it."""
        with self._lock:
            self._device = None
            try:
                self._device = self._opened(description)
            except (MissingExtra, ConnectionError):
                raise
            except Exception as error:
                raise ConnectionError(str(error) or type(error).__name__) from error
            return self._outside()

    def map(self, port: int, lifetime: int, wanted: int) -> int:
        """Forward UDP `port` to us for so many seconds, from the outer port `wanted` if nobody has it; the outer port.

        A mapping to us that somebody else made is used as it is, and stays when we go.
        """
        with self._lock:
            for outer in (wanted, *random.sample(range(20000, 60000), TRIES - 1)):
                entry = self._entry(outer)
                if entry is not None and not self._is_ours(entry, port):
                    continue
                if entry is not None and entry[2] != DESCRIPTION:
                    return outer
                if self._add(outer, port, lifetime):
                    self._mapped = outer, port
                    return outer
            raise ConnectionError(f"{TRIES} outer ports are taken, {wanted} among them")

    def holds(self, port: int, seen: Endpoint) -> bool:
        """Whether UDP `port` is still forwarded to us from there."""
        with self._lock:
            entry = self._entry(seen.port)
            return self._outside() == seen.address and entry is not None and self._is_ours(entry, port)

    def unmap(self) -> None:
        """Remove what we made, if it is still ours."""
        with self._lock:
            if self._mapped is None:
                return
            (outer, port), self._mapped = self._mapped, None
            entry = self._entry(outer)
            if entry is not None and self._is_ours(entry, port) and entry[2] == DESCRIPTION:
                self._call("deleteportmapping", outer, "UDP")

    def _entry(self, outer: int) -> tuple[Any, ...] | None:
        """Inner address, inner port, description, enabled and seconds left of a mapping; None when there is none."""
        entry: tuple[Any, ...] | None = self._call("getspecificportmapping", outer, "UDP")
        return entry

    def _is_ours(self, entry: tuple[Any, ...], port: int) -> bool:
        return entry[:2] == (str(self._way.source), port)

    def _add(self, outer: int, port: int, lifetime: int) -> bool:
        """False when somebody else has the outer port."""
        for seconds in (lifetime, 0):
            try:
                self._call("addportmapping", outer, "UDP", str(self._way.source), port, DESCRIPTION, "", seconds)
            except ConnectionError as error:
                if str(error) == TAKEN:
                    return False
                if str(error) != PERMANENT or not seconds:
                    raise
            else:
                return True
        return False

    def _outside(self) -> Address:
        said = self._call("externalipaddress")
        try:
            return ip_address(said)
        except ValueError:
            raise ConnectionError(f"it says that its outer address is {said!r}") from None

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call the library, whose errors are of no type of their own."""
        try:
            return getattr(self._device, name)(*arguments)
        except Exception as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    def _opened(self, description: str) -> Any:
        try:
            import miniupnpc  # type: ignore[import-not-found] # a C module without stubs
        except ImportError as error:
            raise MissingExtra("install what that needs with: pip install 'wgdisco[upnp]'") from error
        device = miniupnpc.UPnP()
        control = device.selectigd(description)
        if not _is_on(control, ip_address(str(self._way.gateway))):
            raise ConnectionError(f"it wants to be controlled at {control!r}, which is not the router itself")
        return device
