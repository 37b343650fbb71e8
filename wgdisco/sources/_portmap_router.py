"""One router that is asked to forward our port: what it granted, when it is asked again, and what is taken back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from wgdisco.device.family import FAMILIES, mark
from wgdisco.device.routes import Route
from wgdisco.endpoint import Address, Endpoint
from wgdisco.errors import MissingExtra
from wgdisco.policy import is_private, refused
from wgdisco.sources import _portmap_pcp as codec
from wgdisco.sources._portmap_pcp import SUCCESS, TEMPORARY, UNSUPPORTED, Epoch, Reply
from wgdisco.sources._portmap_upnp import Igd, aside, search

__all__ = ["Lease", "Refused", "Router"]

PCP, NAT_PMP, UPNP = "PCP", "NAT-PMP", "UPnP"
WAITS = (0.25, 0.5, 0.75)  # seconds after each transmission; a router is near (RFC 6886 section 3.1)
FAREWELL = 1.0  # seconds that taking everything back may take
SEARCH = 2.0  # seconds for UPnP's search, beside the other two
CHECK = {PCP: 15.0, NAT_PMP: 15.0, UPNP: 120.0}
"""Seconds between two questions whether the router still has what it granted: 24 or 2 bytes, or two HTTP requests."""
REST = 600.0  # seconds for which a router that refused or was silent is left alone
BREATH = 60.0  # seconds the same when it was for want of something that it may have soon
SHORTEST = 60  # seconds that a lease counts at least, whatever the router says

T = TypeVar("T")


class Refused(OSError):  # noqa: N818 - named after what the router did
    """The router's no; the text says to what and why. `last`: other protocols need not be tried."""

    def __init__(self, text: str, *, rest: float = REST, last: bool = False) -> None:
        super().__init__(text)
        self.rest, self.last = rest, last


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
        self._way, self._port, self._lifetime, self._nonce = way, port, lifetime, nonce
        self._fwmark, self._clock = fwmark, clock
        self._due = self._checked = clock()
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
            self.problem = self._silence() if self.silent else str(error)
            rest = error.rest if isinstance(error, Refused) else REST
            self._due = self._clock() + rest
            if self.lease is not None:  # the first half of it is over
                left = self.lease.granted + self.lease.lifetime - self._clock()
                self._due = self._clock() + max(BREATH, left / 2)
        else:
            self.problem, self.silent, self._suggested = "", False, self.lease.endpoint
            self._checked = self._clock()
            self._due = self._checked + self.lease.lifetime / 2

    async def _check(self) -> None:
        """Ask whether the router still has our mapping; if not, or if its outer address changed, map again at once."""
        assert self.lease is not None
        self._checked = self._clock()
        checks = {PCP: self._check_pcp, NAT_PMP: self._check_natpmp, UPNP: self._check_upnp}
        try:
            holds = await checks[self.lease.protocol](self.lease)
        except OSError:  # silent: it may be starting, and will tell then
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
            return await self._upnp(description, str(refusal) if isinstance(refusal, Refused) else "")
        finally:
            searching.cancel()
            await asyncio.gather(searching, return_exceptions=True)

    async def _pcp_or_natpmp(self) -> Lease:
        """Both questions at once, but one mapping: NAT-PMP's is only made when PCP's is not (RFC 6887 appendix A)."""
        probe = asyncio.ensure_future(self._transact(codec.natpmp_address(), codec.read_natpmp))
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
            return await self._natpmp(reply, f"{refusal}; " if isinstance(refusal, Refused) else "")
        finally:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)

    async def _pcp(self) -> Lease:
        self._asked[PCP] = lambda: self._map_pcp(0)
        reply = await self._map_pcp(self._lifetime)
        self._require(PCP, reply)
        assert reply.address is not None
        endpoint = Endpoint(reply.address, reply.port)
        try:
            self._require_reachable(endpoint.address)
        except Refused:
            await self._asked.pop(PCP)()
            raise
        return self._leased(PCP, endpoint, reply)

    async def _map_pcp(self, lifetime: int) -> Reply:
        suggested = self._suggested if lifetime else None
        request = codec.pcp_map(self._way.source, self._nonce, self._port, lifetime, suggested)
        return await self._transact(request, lambda data: codec.read_pcp(data, self._nonce, self._port))

    async def _check_pcp(self, lease: Lease) -> bool:
        return self._continues(lease, await self._transact(codec.pcp_announce(self._way.source), codec.read_pcp))

    async def _natpmp(self, outer: Reply, before: str) -> Lease:
        """Map by NAT-PMP, once the router has told its outer address; `before` is what PCP had to say."""
        self._require(NAT_PMP, outer, before)
        assert outer.address is not None
        self._require_reachable(outer.address)
        self._asked[NAT_PMP] = lambda: self._map_natpmp(0, 0)
        reply = await self._map_natpmp(self._suggested.port if self._suggested else self._port, self._lifetime)
        self._require(NAT_PMP, reply, before)
        return self._leased(NAT_PMP, Endpoint(outer.address, reply.port), reply)

    async def _map_natpmp(self, outer: int, lifetime: int) -> Reply:
        request = codec.natpmp_map(self._port, outer, lifetime)
        return await self._transact(request, lambda data: codec.read_natpmp(data, self._port))

    async def _check_natpmp(self, lease: Lease) -> bool:
        reply = await self._transact(codec.natpmp_address(), codec.read_natpmp)
        return self._continues(lease, reply) and reply.address in (None, lease.endpoint.address)

    async def _upnp(self, description: str, before: str) -> Lease:
        igd = self._igd = self._igd or Igd(self._way, description)
        try:
            address = await aside(igd.address)
            self._require_reachable(address)
            self._asked[UPNP] = lambda: aside(igd.unmap)
            wanted = self._suggested.port if self._suggested else self._port
            outer = await aside(lambda: igd.map(self._port, self._lifetime, wanted))
        except (ConnectionError, MissingExtra) as error:
            self._igd = None if not self._asked.get(UPNP) else igd
            both = "; ".join(filter(None, (before, f"the router {self._way.gateway}: {error} (UPnP)")))
            raise Refused(both) from error
        return Lease(UPNP, Endpoint(address, outer), self._clock(), self._lifetime)

    async def _check_upnp(self, lease: Lease) -> bool:
        igd = self._igd
        return igd is not None and await aside(lambda: igd.holds(self._port, lease.endpoint))

    def _leased(self, protocol: str, endpoint: Endpoint, reply: Reply) -> Lease:
        now = self._clock()
        return Lease(protocol, endpoint, now, max(SHORTEST, reply.lifetime), Epoch(reply.epoch, now))

    def _continues(self, lease: Lease, reply: Reply) -> bool:
        """Whether the router's epoch says that it has lost nothing; the lease remembers the newer one."""
        epoch = Epoch(reply.epoch, self._clock())
        if reply.result == UNSUPPORTED or lease.epoch is None or not epoch.continues(lease.epoch):
            return False
        self.lease = replace(lease, epoch=epoch)
        return True

    def _require(self, protocol: str, reply: Reply, before: str = "") -> None:
        if reply.result == SUCCESS:
            return
        what = f"refuses to forward UDP port {self._port}: {reply.result} ({protocol})"
        text = f"{before}the router {self._way.gateway} {what}"
        rest = BREATH if reply.result in TEMPORARY else REST
        # a router that is not next to us would forward the port of whoever stands between
        raise Refused(text, rest=rest, last=reply.result == "ADDRESS_MISMATCH")

    def _require_reachable(self, address: Address) -> None:
        """Raise Refused for an outer address at which nobody reaches the router."""
        what = f"the router {self._way.gateway} has {address} outside"
        if is_private(address):
            text = f"{what}, a private address: it is behind another NAT, and a port forwarded there is not reached"
            raise Refused(text, last=True)
        if (reason := refused(Endpoint(address, 1))) is not None:
            raise Refused(f"{what}, which nobody can reach: {reason}", rest=BREATH, last=True)

    def _silence(self) -> str:
        spoken = "PCP, NAT-PMP nor UPnP" if self._way.source.version == 4 else "PCP"
        neither = "answers neither" if self._way.source.version == 4 else "does not answer"
        return (
            f"the router {self._way.gateway} {neither} {spoken}; forward UDP port {self._port} there by hand and name "
            "it with --endpoint ADDRESS:PORT"
        )

    async def _transact(self, request: bytes, read: Callable[[bytes], T | None], waits: Sequence[float] = WAITS) -> T:
        """Send a request until the router answers it; raises OSError: TimeoutError when it is silent.

        The socket is connected, so that the kernel passes on nothing but the router's own datagrams.
        """
        loop, family = asyncio.get_running_loop(), FAMILIES[self._way.source.version == 6]
        with socket.socket(family.number, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            mark(sock, self._fwmark)
            sock.bind((str(self._way.source), 0))
            sock.connect(_socket_address(self._way))
            for wait in waits:
                sock.send(request)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        while (answer := read(await loop.sock_recv(sock, 2048))) is None:
                            pass
                        return answer
        raise TimeoutError


def _socket_address(way: Route) -> tuple[str, int] | tuple[str, int, int, int]:
    if way.source.version == 4:
        return str(way.gateway), codec.PORT
    return str(way.gateway), codec.PORT, 0, socket.if_nametoindex(way.interface)
