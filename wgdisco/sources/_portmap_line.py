"""The questions of PCP and NAT-PMP to one router, sent until they are answered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from wgdisco.device.family import FAMILIES, mark
from wgdisco.device.routes import Route
from wgdisco.endpoint import Endpoint
from wgdisco.sources import _portmap_pcp as codec
from wgdisco.sources._portmap_pcp import Reply

__all__ = ["Line"]

WAITS = (0.25, 0.5, 0.75)
"""Seconds after each transmission, as RFC 6886 section 3.1 has it; RFC 6887's 3 s are for routers that are far away."""


class Line:
    """What can be asked about one UDP `port` of ours; `way` leads to the router, `nonce` has 12 bytes.

    Each question raises OSError when it is not answered: TimeoutError, or what the network said; and AccessError when
    we may not send with the fwmark.
    """

    def __init__(self, way: Route, port: int, nonce: bytes, fwmark: int) -> None:
        self._way, self._port, self._nonce, self._fwmark = way, port, nonce, fwmark

    async def map_pcp(self, lifetime: int, suggested: Endpoint | None = None) -> Reply:
        """Map by PCP for `lifetime` seconds, to the suggested endpoint if the router likes; 0 removes our mapping."""
        request = codec.pcp_map(self._way.source, self._nonce, self._port, lifetime, suggested)
        return await self._ask(request, lambda data: codec.read_pcp(data, self._nonce, self._port))

    async def announce(self) -> Reply:
        """PCP's epoch alone."""
        return await self._ask(codec.pcp_announce(self._way.source), codec.read_pcp)

    async def map_natpmp(self, lifetime: int, outer: int = 0) -> Reply:
        """Map by NAT-PMP for `lifetime` seconds, from the port `outer` if the router likes; 0 removes our mapping."""
        request = codec.natpmp_map(self._port, outer, lifetime)
        return await self._ask(request, lambda data: codec.read_natpmp(data, self._port))

    async def address(self) -> Reply:
        """The router's outer address and epoch, by NAT-PMP."""
        return await self._ask(codec.natpmp_address(), codec.read_natpmp)

    async def _ask(self, request: bytes, read: Callable[[bytes], Reply | None]) -> Reply:
        """Send a request from a port of its own until `read` makes something of an answer.

        The socket is connected, so that the kernel passes on nothing but the router's own datagrams.
        """
        loop, family = asyncio.get_running_loop(), FAMILIES[self._way.source.version == 6]
        with socket.socket(family.number, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            mark(sock, self._fwmark)
            sock.bind((str(self._way.source), 0))
            sock.connect(_place(self._way))
            for wait in WAITS:
                sock.send(request)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        while (answer := read(await loop.sock_recv(sock, 2048))) is None:
                            pass
                        return answer
        raise TimeoutError


def _place(way: Route) -> tuple[str, int] | tuple[str, int, int, int]:
    """The router's address for the socket; a link-local one means something on its interface only."""
    if way.source.version == 4:
        return str(way.gateway), codec.PORT
    return str(way.gateway), codec.PORT, 0, socket.if_nametoindex(way.interface)
