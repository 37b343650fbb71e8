"""Where a command learns where we are: the sources that the options and the configuration choose."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from wgdisco.cli.setting import Setting, note

if TYPE_CHECKING:
    from wgdisco.device.port import Port
    from wgdisco.sources import Source, Where

__all__ = ["gathering", "open_port", "release", "sources"]


async def open_port(here: Setting, stack: AsyncExitStack) -> Port | None:
    """The raw socket on WireGuard's own port; None with a remark when it cannot be had."""
    from wgdisco.device.port import WireGuardPort
    from wgdisco.errors import AccessError

    _, interface, _ = here.wireguard
    if not interface.listen_port:
        raise AccessError(f"{interface.name} has no listen port; is it up? (ip link set up dev {interface.name})")
    try:
        return await stack.enter_async_context(WireGuardPort(interface.listen_port, fwmark=interface.fwmark))
    except AccessError as error:
        note(str(error))
        return None


def sources(here: Setting, port: Port | None, *, resident: bool = False, outlive: bool = False) -> list[Source]:
    """The sources of whereabouts; given endpoints alone when there are some.

    `resident`: for the agent, which may ask the router as configured. `outlive`: what is asked of the router stays when
    the source is closed, for as long as the record that names it.
    """
    from wgdisco.endpoint import Endpoint
    from wgdisco.sources.interface import InterfaceSource
    from wgdisco.sources.static import StaticSource

    if given := here.given():
        return [StaticSource([Endpoint.parse(text) for text in given])]
    _, interface, _ = here.wireguard
    allowed = [network for peer in interface.peers.values() for network in peer.allowed_ips]
    found: list[Source] = [InterfaceSource(interface.listen_port, interface.fwmark, allowed)]
    if port is not None:
        found += _outside(here, port)
    if here.options.portmap or (resident and here.config.portmap):
        found.append(_portmap(here, resident=resident, outlive=outlive))
    return found


def _portmap(here: Setting, *, resident: bool, outlive: bool) -> Source:
    """The router; the agent does not wait for a slow one, and has its answer next time."""
    from wgdisco.sources.portmap import PortmapSource

    _, interface, private = here.wireguard
    return PortmapSource(
        interface.listen_port,
        lifetime=here.config.lifetime,
        fwmark=interface.fwmark,
        secret=private.agree(private.public),
        patience=0.3 if resident and not outlive else None,
        outlive=outlive,
    )


async def release(listed: Sequence[Source]) -> None:
    """Take back what sources asked of others, as a forwarded port."""
    for source in listed:
        if (close := getattr(source, "close", None)) is not None:
            await close()


def _outside(here: Setting, port: Port) -> list[Source]:
    """Who sees us from outside: STUN servers, and DHT nodes where none of those answers."""
    from wgdisco.sources.otherwise import Otherwise
    from wgdisco.sources.stun import DEFAULT_STUN_SERVERS, StunSource

    servers = here.options.stun or here.config.stun
    if servers is None:
        servers = DEFAULT_STUN_SERVERS
    stun = StunSource(port, servers) if servers and servers != ["none"] else None
    observed = _observed(here, port)
    if stun is None or observed is None:
        return [each for each in (stun, observed) if each is not None]
    return [Otherwise(stun, observed)]


def _observed(here: Setting, port: Port) -> Source | None:
    """The DHT nodes that were named, or those of the backend dht; None where neither is used."""
    from wgdisco.config import combine
    from wgdisco.plugins import build
    from wgdisco.state import folder_for

    options = here.options
    names = options.observer or here.config.observers
    if names is not None:
        return _named(names, port) if names else None
    tables = combine(here.config, getattr(options, "backend", ()), getattr(options, "option", ())).backends
    if "dht" not in tables:
        return None
    from wgdisco.backends.dht import DHT
    from wgdisco.sources.observed import ObservedSource

    dht = build("dht", tables["dht"], folder_for(os.environ, os.getuid()) / "cache" / "dht")
    return ObservedSource(port, dht.known) if isinstance(dht, DHT) else None


def _named(names: Sequence[str], port: Port) -> Source:
    from wgdisco.bep44.known import known
    from wgdisco.bep44.resolve import split
    from wgdisco.sources.observed import ObservedSource

    for name in names:
        split(name)
    return ObservedSource(port, lambda: known(names))


def gathering(quick: Sequence[Source]) -> Callable[[bool], Awaitable[Where]]:
    """What asks these sources: quickly, or thoroughly with the NAT tests that take seconds."""
    from wgdisco.cli.endpoints import THOROUGH, thorough
    from wgdisco.sources import gather

    slow = [thorough(source) for source in quick]

    def look(slowly: bool) -> Awaitable[Where]:
        return gather(slow, THOROUGH) if slowly else gather(quick)

    return look
