"""What the tests of "where am I" run inside a host of the lab: each function is called there, in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from wgdisco.bep44.known import known
from wgdisco.device.port import WireGuardPort
from wgdisco.device.routes import Route, Routes
from wgdisco.endpoint import Endpoint
from wgdisco.policy import Ground, tryable
from wgdisco.record import Candidate, Kind
from wgdisco.sources import Where
from wgdisco.sources.interface import InterfaceSource
from wgdisco.sources.observed import ObservedSource
from wgdisco.sources.stun import StunSource
from wgdisco.stun import Message

__all__ = ["addresses", "ask_often", "observed", "observed_often", "punch", "route", "stun", "verdicts"]


async def stun(
    servers: Sequence[str], port: int = 51820, fwmark: int = 0, deadline: float = 8.0, behaviour: bool = False
) -> Where:
    """What STUN servers say, asked from WireGuard's port."""
    async with WireGuardPort(port, fwmark=fwmark) as opened:
        return await StunSource(opened, servers, behaviour).find(deadline)


async def observed(nodes: Sequence[str], deadline: float = 8.0) -> Where:
    """What nodes of the DHT say, asked from WireGuard's port."""
    async with WireGuardPort(51820) as opened:
        return await ObservedSource(opened, lambda: known(nodes)).find(deadline)


async def observed_often(nodes: Sequence[str], times: int) -> int:
    """How often, one time after the other, the nodes said where we are."""
    async with WireGuardPort(51820) as opened:
        source = ObservedSource(opened, lambda: known(nodes))
        return sum([len((await source.find(8)).found) for _ in range(times)])


async def ask_often(server: str, times: int) -> int:
    """How many of so many transactions, all at once, had an answer."""
    async with WireGuardPort(51820) as opened:
        tasks = [opened.transact(Message(), Endpoint.parse(server)) for _ in range(times)]
        return sum(isinstance(answer, Message) for answer in await asyncio.gather(*tasks, return_exceptions=True))


async def addresses(fwmark: int = 0, allowed_ips: Sequence[str] = ()) -> list[str]:
    """The host candidates of this host."""
    source = InterfaceSource(51820, fwmark, [ip_network(each) for each in allowed_ips])
    return [str(found.endpoint.address) for found in (await source.find(1)).found]


async def punch(to: str, ttls: Sequence[int | None]) -> None:
    """Send one datagram for each TTL from WireGuard's port; it says its TTL."""
    async with WireGuardPort(51820) as opened:
        for ttl in ttls:
            opened.send(str(ttl).encode(), Endpoint.parse(to), ttl)


def route(address: str, mark: int = 0) -> Route | None:
    """The route from here."""
    routes = Routes()
    try:
        return routes.lookup(ip_address(address), mark)
    finally:
        routes.close()


def verdicts(candidates: Sequence[str], mark: int, allowed_ips: Sequence[str]) -> list[str | None]:
    """Why candidates must not be tried from here."""
    routes = Routes()
    try:
        ground = Ground(lambda address: routes.lookup(address, mark), (), [ip_network(each) for each in allowed_ips])
        listed = [Candidate(Kind.HOST, Endpoint.parse(each)) for each in candidates]
        return [reason for _, reason in tryable(listed, ground)]
    finally:
        routes.close()
