"""A port that our router forwards to us because we asked: PCP (RFC 6887), NAT-PMP (RFC 6886) or UPnP.

PCP also opens the router's firewall for our IPv6 address. The mapping is renewed when half of it is over, checked
in between, and made again at once when the router lost it. A router that refuses or is silent is asked again after ten
minutes, or when the way out changes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from ipaddress import ip_address

from wgdisco.device.routes import Route, Routes
from wgdisco.device.rtnetlink import RouteNetlink
from wgdisco.policy import is_private
from wgdisco.record import Kind
from wgdisco.sources import Found, Where
from wgdisco.sources._portmap_pcp import NONCE
from wgdisco.sources._portmap_router import Router

__all__ = ["LIFETIME", "PortmapSource", "routes_out"]

LIFETIME = 3600
"""Seconds for which a port is forwarded, unless the router chooses less."""
ABROAD = (ip_address("198.41.0.4"), ip_address("2001:503:ba3e::2:30"))
"""Where the way out is looked up: a root name server. Nothing is sent there."""


def routes_out(fwmark: int = 0) -> list[Route]:
    """The default route of each family that leads to a router; WireGuard's own way out with its fwmark."""
    with RouteNetlink() as netlink:
        found = [Routes(netlink).lookup(address, fwmark) for address in ABROAD]
    return [way for way in found if way is not None and way.gateway is not None and not way.wireguard]


class PortmapSource:
    """Mapped candidates for UDP `port`. Call `close` to take back what was asked for; else it ends with its lifetime.

    `routes(fwmark)` gives the ways to our routers now. `lifetime` is in seconds. `secret` is anything that only this
    node knows: with it, the next process may renew or remove what this one mapped. `patience` is how long `find` waits
    at most for a router that has not answered yet, in seconds; it goes on meanwhile, and the next `find` has the
    result. With `outlive`, what was asked for stays when we are closed, until its lifetime is over.
    """

    name = "portmap"

    def __init__(
        self,
        port: int,
        routes: Callable[[int], Sequence[Route]] = routes_out,
        lifetime: int = LIFETIME,
        *,
        fwmark: int = 0,
        secret: bytes = b"",
        patience: float | None = None,
        outlive: bool = False,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._port, self._routes, self._lifetime, self._fwmark = port, routes, lifetime, fwmark
        self._secret, self._patience, self._outlive = secret or os.urandom(32), patience, outlive
        self._clock = clock
        self._routers: dict[Route, Router] = {}

    async def find(self, deadline: float) -> Where:
        """What the routers forward to us, from memory as long as nothing is due; takes at most `deadline` seconds."""
        ways = self._routes(self._fwmark)
        asked = [way for way in ways if _is_worth_asking(way)]
        if not asked:
            return Where(problems=[f"{self.name}: {_nobody(ways)}"])
        await self._keep(asked)
        patience = deadline if self._patience is None else min(deadline, self._patience)
        await asyncio.gather(*(router.find(patience) for router in self._routers.values()))
        return self._where()

    async def close(self) -> None:
        """Take back what was asked for: at most a second for each router, all at once."""
        await self._keep(())

    async def _keep(self, ways: Sequence[Route]) -> None:
        """Have a router for each of these ways and for no other."""
        gone = [router for way, router in self._routers.items() if way not in ways]
        self._routers = {way: self._routers.get(way) or self._router(way) for way in ways}
        await asyncio.gather(*(router.close(take_back=not self._outlive) for router in gone))

    def _router(self, way: Route) -> Router:
        place = f"{way.gateway} {way.source} {self._port}".encode()
        nonce = blake2b(place, key=self._secret[:64], digest_size=NONCE, person=b"wgdisco portmap").digest()
        return Router(way, self._port, self._lifetime, nonce, self._fwmark, self._clock)

    def _where(self) -> Where:
        """IPv4 first; a router that is silent for IPv6, as most are, is a problem only where there is no other one."""
        found = [self._found(way, router) for way, router in self._routers.items()]
        problems = [
            f"{self.name}: {router.problem}"
            for way, router in self._routers.items()
            if router.problem and not (router.silent and way.source.version == 6 and len(self._routers) > 1)
        ]
        return Where([each for each in found if each is not None], problems=problems)

    def _found(self, way: Route, router: Router) -> Found | None:
        if router.lease is None:
            return None
        detail = f"forwarded by the router {way.gateway}, {router.lease.protocol}"
        return Found(router.lease.endpoint, Kind.MAPPED, self.name, detail)


def _is_worth_asking(way: Route) -> bool:
    """An IPv4 router translates when our address is private; an IPv6 firewall opens for a global address."""
    source = way.source
    return is_private(source) if source.version == 4 else not (is_private(source) or source.is_link_local)


def _nobody(ways: Sequence[Route]) -> str:
    if not ways:
        return "no router to ask: there is no default route by one"
    if ways[0].source.version == 6:
        return f"no router to ask: {ways[0].source} is a local address, and no firewall would pass anybody to it"
    return f"no router to ask: {ways[0].source} is a public address, and no router translates it"
