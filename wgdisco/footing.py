"""What sessions stand on: one configuration, opened. Its node, WireGuard's port, and the sources of our whereabouts.

Port and sources live as long as the interface's key, port and firewall mark stay, whatever becomes of its peers: a
router would else be asked to close our port, and to open it again, whenever a peer is added.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import NamedTuple

from wgdisco.audience import Audience, Scope
from wgdisco.backend import Secret, ordinary
from wgdisco.device import Interface
from wgdisco.device.port import Port, WireGuardPort
from wgdisco.errors import AccessError, ConfigError, NoDevice, UsageError, WgdiscoError
from wgdisco.keys import PublicKey
from wgdisco.node import Node
from wgdisco.sources import Source, Where
from wgdisco.store import Store
from wgdisco.supervise import described

__all__ = ["Configuration", "Footing", "Means"]


@dataclass(frozen=True)
class Means:
    """What the configuration says; made anew at every start and at SIGHUP.

    `node(interface, broken)` opens the node, telling `broken` of each backend that cannot be built; `sources` gives
    what says where we are, and `gather` makes of them what asks them all; `scope` is who may read.
    """

    node: Callable[[Interface, Callable[[WgdiscoError], None]], AbstractAsyncContextManager[Node]]
    sources: Callable[[Interface, Port | None], Sequence[Source]]
    gather: Callable[[Sequence[Source]], Callable[[bool], Awaitable[Where]]]
    scope: Scope
    expose_hosts: bool = False


class _Spot(NamedTuple):
    """What port and sources were made for."""

    public: PublicKey | None
    port: int
    fwmark: int


class Footing:
    """Made by `open`; `stand` before each session, `close` at the end. `say` hears what does not work."""

    def __init__(self, means: Means, node: Node, fwmark: int, say: Callable[[str], None]) -> None:
        self.means, self.node, self.fwmark, self._say = means, node, fwmark, say
        self.port: Port | None = None
        self.sources: list[Source] = []
        self._spot: _Spot | None = None
        self._opened, self._around = AsyncExitStack(), AsyncExitStack()

    @classmethod
    async def open(cls, means: Means, interface: Interface, say: Callable[[str], None]) -> Footing:
        """Open everything that a session needs; raises what makes the configuration unusable, as UsageError."""
        broken: list[WgdiscoError] = []
        async with AsyncExitStack() as stack:
            try:
                node = await stack.enter_async_context(means.node(interface, broken.append))
            except WgdiscoError as error:
                if not broken:
                    raise
                raise UsageError("; ".join(map(str, [*broken, error]))) from error
            footing = cls(means, node, interface.fwmark, say)
            footing.readers(interface)
            for each in broken:
                say(f"{each}; going on without it")
            stack.push_async_callback(footing.leave)
            await footing.stand(interface)
            footing._opened = stack.pop_all()
        return footing

    def fits(self, interface: Interface) -> bool:
        """Whether the interface still has the node's key and mark: connections without it may lead into the tunnel."""
        key = self.node.private.public if self.node.private is not None else None
        return (interface.public, interface.fwmark) == (key, self.fwmark)

    def readers(self, interface: Interface) -> list[Audience]:
        """Who may read what is published; raises UsageError where the choice makes no sense."""
        return self.node.readers(self.means.scope, list(interface.peers))

    async def stand(self, interface: Interface) -> None:
        """Have port and sources for this reading: those from before, or others when key, port or mark have changed."""
        spot = _Spot(interface.public, interface.listen_port, interface.fwmark)
        if spot != self._spot:
            await self.leave()
            self._spot = spot
            try:
                port = WireGuardPort(interface.listen_port, fwmark=interface.fwmark)
                self.port = await self._around.enter_async_context(port)
            except AccessError as error:
                self._say(str(error))
        # what asked others for something goes on; the rest is made for the peers there are now
        kept = {source.name: source for source in self.sources if _closing(source) is not None}
        self.sources = [kept.get(source.name, source) for source in self.means.sources(interface, self.port)]

    async def leave(self) -> None:
        """Take back what sources asked of others, and close the port; what cannot be closed is said."""
        sources, self.sources, self.port, self._spot = self.sources, [], None, None
        try:
            await asyncio.gather(*(self._release(source) for source in sources))
        finally:
            await self._around.aclose()

    async def _release(self, source: Source) -> None:
        if (close := _closing(source)) is None:
            return
        try:
            await ordinary(close)
        except Exception as error:  # noqa: BLE001 - sources may be plugins
            self._say(f"{source.name}: {described(error)}")

    async def close(self) -> None:
        """Leave, and close the node."""
        await self._opened.aclose()


class Configuration:
    """The configuration, read when told to; one that cannot be used is said, and the last that could be used stays."""

    def __init__(self, prepare: Callable[[Interface], Means], say: Callable[[str], None]) -> None:
        """`prepare` reads it for an interface; `say` hears what cannot be used."""
        self.prepare, self._say = prepare, say
        self._good: Means | None = None
        self._refused = ""

    async def read(self, interface: Interface) -> Footing:
        """What it says now, opened; raises WgdiscoError for one that cannot be used."""
        means = self.prepare(interface)
        footing = await Footing.open(means, interface, self._say)
        if self._good is not None and (trouble := _secrets_missing(footing.node.stores)):
            await footing.close()
            raise UsageError(trouble)
        self._good, self._refused = means, ""
        return footing

    async def begin(self, interface: Interface) -> Footing:
        """What it says now; else what it said when it last could be used, and each reason against it is said once."""
        try:
            return await self.read(interface)
        except NoDevice:
            raise
        except Exception as error:
            if self._good is None:
                raise
            if (trouble := described(error)) != self._refused:
                self._refuse(trouble)
            return await Footing.open(self._good, interface, self._say)

    async def reread(self, interface: Interface) -> Footing | None:
        """What it says now, opened beside the one in use, which is not touched; None where that cannot be done."""
        try:
            return await self.read(interface)
        except NoDevice:
            return None  # it is read again when the interface is back
        except Exception as error:  # noqa: BLE001 - whatever a file or a plugin raises
            self._refuse(described(error))
            return None

    def _refuse(self, trouble: str) -> None:
        self._refused = trouble
        self._say(f"{trouble}; the configuration before that stays in use")


def _secrets_missing(stores: Sequence[Store]) -> str:
    """Why no store can be opened, as far as secrets tell; at the start they may still come, and the store says so."""
    troubles = [_secret_missing(store) for store in stores]
    return "; ".join(troubles) if all(troubles) else ""


def _secret_missing(store: Store) -> str:
    try:
        for value in getattr(store.backend, "__dict__", {}).values():
            if isinstance(value, Secret):
                value.reveal()
    except ConfigError as error:
        return f"{store.name}: {error}"
    return ""


def _closing(source: Source) -> Callable[[], Awaitable[None]] | None:
    return getattr(source, "close", None)
