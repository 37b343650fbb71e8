"""One router that is asked to forward our port: what it granted, when it is asked again, and what is taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from wgdisco.device.routes import Route
from wgdisco.endpoint import Endpoint
from wgdisco.errors import MissingExtra
from wgdisco.sources._portmap_line import Line
from wgdisco.sources._portmap_pcp import UNSUPPORTED, Epoch, Reply
from wgdisco.sources._portmap_refusal import Refused, require, require_reachable, silence, told
from wgdisco.sources._portmap_upnp import Igd, aside, search

__all__ = ["Lease", "Router"]

PCP, NAT_PMP, UPNP = "PCP", "NAT-PMP", "UPnP"
FAREWELL = 1.0  # seconds that taking everything back may take
SEARCH = 2.0  # seconds for UPnP's search, beside the other two
CHECK = {PCP: 15.0, NAT_PMP: 15.0, UPNP: 120.0}
"""Seconds between two questions whether the router still has what it granted: 24 or 2 bytes, or two HTTP requests."""
REST = 600.0  # seconds for which a router that refused or was silent is left alone
BREATH = 60.0  # seconds the same at first when it may do better soon: for want of something, or starting up
SHORTEST = 60  # seconds that a lease counts at least, whatever the router says


@dataclass(frozen=True, slots=True)
class Lease:
    """What a router granted: by which protocol, where it receives for us, since when, for how many seconds."""

    protocol: str
    endpoint: Endpoint
    granted: float
    lifetime: float
    epoch: Epoch | None = None


class Router:
    """The router of one route. `find` does what is due; `lease` and `problem` are what is known then.

    `clock` gives seconds that go on while the machine sleeps; `nonce` has 12 bytes and outlives the process, so that
    the next one may change what this one mapped (RFC 6887 section 11.1).
    """

    def __init__(
        self, way: Route, port: int, lifetime: int, nonce: bytes, fwmark: int, clock: Callable[[], float]
    ) -> None:
        self.lease: Lease | None = None
        self.problem = ""
        self.silent = False
        self._way, self._port, self._lifetime = way, port, lifetime
        self._line, self._fwmark, self._clock = Line(way, port, nonce, fwmark), fwmark, clock
        self._due = self._checked = clock()
        self._rest = REST
        self._suggested: Endpoint | None = None
        self._igd: Igd | None = None
        self._asked: dict[str, Callable[[], Awaitable[object]]] = {}
        self._work: asyncio.Future[None] | None = None

    async def find(self, patience: float) -> None:
        """Do what is due, and wait for it at most so many seconds; the next call goes on waiting for the same."""
        step = self._step()
        if self._work is None and step is not None:
            self._work = asyncio.ensure_future(step())
        if self._work is not None:
            await asyncio.wait([self._work], timeout=patience)
            if self._work.done():
                work, self._work = self._work, None
                work.result()

    async def close(self, *, take_back: bool = True) -> None:
        """Take back whatever we asked for, within a second; a router that does not listen forgets it in time."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        asked, self._asked, self.lease, self._work = self._asked, {}, None, None
        self._due = self._clock()
        if not take_back:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL):
                await asyncio.gather(*(undo() for undo in asked.values()), return_exceptions=True)

    def _step(self) -> Callable[[], Awaitable[None]] | None:
        now, lease = self._clock(), self.lease
        if lease is not None and now >= lease.granted + lease.lifetime:
            self.lease = None
        if now >= self._due:
            return self._renew
        if self.lease is not None and now >= self._checked + CHECK[self.lease.protocol]:
            return self._check
        return None

    async def _renew(self) -> None:
        """Ask for the mapping, a new one or the same for longer, and note when to ask again."""
        try:
            self.lease = await self._ask()
        except OSError as error:
            self.silent = not isinstance(error, Refused)
            self.problem = silence(self._way, self._port) if self.silent else str(error)
            self._due = self._clock() + self._pause(soon=isinstance(error, Refused) and error.soon)
        else:
            self.problem, self.silent, self._suggested = "", False, self.lease.endpoint
            self._rest, self._checked = BREATH, self._clock()
            self._due = self._checked + self.lease.lifetime / 2

    def _pause(self, *, soon: bool) -> float:
        """Seconds until a router that gave us nothing is asked again: longer each time, unless it may do so `soon`."""
        if self.lease is not None:  # the first half of it is over, or it is in doubt
            return max(BREATH, (self.lease.granted + self.lease.lifetime - self._clock()) / 2)
        rest, self._rest = self._rest, min(2 * self._rest, REST)
        return BREATH if soon else rest

    async def _check(self) -> None:
        """Ask whether the router still has our mapping; if not, or if its outer address changed, map again at once."""
        assert self.lease is not None
        self._checked = self._clock()
        checks = {PCP: self._check_pcp, NAT_PMP: self._check_natpmp, UPNP: self._check_upnp}
        try:
            holds = await checks[self.lease.protocol](self.lease)
        except OSError:
            # it may be starting, and will tell then; a UPnP device may have moved to another port
            if self.lease.protocol == UPNP:
                await self._renew()
            return
        if not holds:
            self.lease = None
            await self._renew()

    async def _ask(self) -> Lease:
        """Ask by every protocol; raises Refused, or another OSError when the router is silent."""
        if self._way.source.version == 6:
            return await self._pcp()
        searching = asyncio.ensure_future(search(self._way, self._fwmark, SEARCH))
        try:
            try:
                return await self._pcp_or_natpmp()
            except OSError as error:
                refusal = error
            if getattr(refusal, "last", False) or (description := await searching) is None:
                raise refusal
            return await self._upnp(description, told(refusal))
        finally:
            searching.cancel()
            await asyncio.gather(searching, return_exceptions=True)

    async def _pcp_or_natpmp(self) -> Lease:
        """Both questions at once, but one mapping: NAT-PMP's is only made when PCP's is not (RFC 6887 appendix A)."""
        probe = asyncio.ensure_future(self._line.address())
        try:
            try:
                return await self._pcp()
            except Refused as error:
                if error.last:
                    raise
                refusal: OSError = error
            except OSError as error:
                refusal = error
            try:
                reply = await probe
            except OSError:
                raise refusal from None
            return await self._natpmp(reply, told(refusal))
        finally:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)

    async def _pcp(self) -> Lease:
        self._asked[PCP] = lambda: self._line.map_pcp(0)
        reply = await self._line.map_pcp(self._lifetime, self._suggested)
        if reply.result == UNSUPPORTED:
            del self._asked[PCP]
        require(reply, PCP, self._way.gateway, self._port)
        assert reply.address is not None
        endpoint = Endpoint(reply.address, reply.port)
        try:
            require_reachable(endpoint.address, self._way.gateway)
        except Refused:
            with suppress(OSError):
                await self._asked.pop(PCP)()
            raise
        return self._leased(PCP, endpoint, reply)

    async def _check_pcp(self, lease: Lease) -> bool:
        return self._continues(lease, await self._line.announce())

    async def _natpmp(self, outer: Reply, before: str) -> Lease:
        """Map by NAT-PMP, once the router has told its outer address; `before` is what PCP had to say."""
        require(outer, NAT_PMP, self._way.gateway, self._port, before)
        assert outer.address is not None
        require_reachable(outer.address, self._way.gateway)
        self._asked[NAT_PMP] = lambda: self._line.map_natpmp(0)
        reply = await self._line.map_natpmp(self._lifetime, self._wanted)
        require(reply, NAT_PMP, self._way.gateway, self._port, before)
        return self._leased(NAT_PMP, Endpoint(outer.address, reply.port), reply)

    async def _check_natpmp(self, lease: Lease) -> bool:
        reply = await self._line.address()
        return self._continues(lease, reply) and reply.address in (None, lease.endpoint.address)

    async def _upnp(self, description: str, before: str) -> Lease:
        """Map by UPnP at the device that describes itself there; `before` is what the others had to say."""
        igd = self._igd = self._igd or Igd(self._way)
        self._asked[UPNP] = lambda: aside(igd.unmap)
        try:
            address = await aside(lambda: igd.open(description))
            require_reachable(address, self._way.gateway)
            outer = await aside(lambda: igd.map(self._port, self._lifetime, self._wanted))
        except MissingExtra as error:
            raise Refused(f"{before}the router {self._way.gateway} speaks UPnP; {error}") from error
        except ConnectionError as error:
            raise Refused(f"{before}the router {self._way.gateway}, asked by UPnP: {error}") from error
        return Lease(UPNP, Endpoint(address, outer), self._clock(), self._lifetime)

    async def _check_upnp(self, lease: Lease) -> bool:
        igd = self._igd
        return igd is not None and await aside(lambda: igd.holds(self._port, lease.endpoint))

    @property
    def _wanted(self) -> int:
        """The outer port to ask for: the last one, else our own."""
        return self._suggested.port if self._suggested is not None else self._port

    def _leased(self, protocol: str, endpoint: Endpoint, reply: Reply) -> Lease:
        now = self._clock()
        return Lease(protocol, endpoint, now, max(SHORTEST, reply.lifetime), Epoch(reply.epoch, now))

    def _continues(self, lease: Lease, reply: Reply) -> bool:
        """Whether the router's epoch says that it has lost nothing since it granted the lease."""
        epoch = Epoch(reply.epoch, self._clock())
        return reply.result != UNSUPPORTED and lease.epoch is not None and epoch.continues(lease.epoch)
