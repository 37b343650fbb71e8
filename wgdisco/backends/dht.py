"""Backend dht: the BitTorrent Mainline DHT, or a private network of `wgdisco dht-node`s (BEP 5, BEP 44)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from msgspec import Meta

from wgdisco.backend import Backend, Slot
from wgdisco.bep44 import Item, NoAnswer, Node, Stored
from wgdisco.bep44.entry import Entry, enter
from wgdisco.bep44.known import known
from wgdisco.bep44.krpc import Code
from wgdisco.bep44.memory import Memory, remembered_in
from wgdisco.bep44.node import ANYWHERE
from wgdisco.bep44.resolve import split
from wgdisco.endpoint import Endpoint
from wgdisco.errors import StoreError
from wgdisco.hookspecs import hookimpl

__all__ = ["BOOTSTRAP", "DHT"]

BOOTSTRAP = (
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "router.utorrent.com:6881",
    "dht.libtorrent.org:25401",
    "dht.aelitis.com:6881",
)
"""The nodes that let anybody into the public Mainline network; a private network sets its own `bootstrap`."""
VALUES = 16  # that a reader takes from a slot (SPEC section 4)
LONGEST = 4.0  # seconds a lookup may go on once a value was found
SAVED = 600.0  # seconds between two savings of the nodes known

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class DHT(Backend):
    """The BitTorrent DHT: no account, no server; values are signed, so nodes cannot forge, only withhold."""

    name = "dht"
    max_size = 681
    keeps = 7200.0
    deadline: ClassVar[float] = 8.0

    bootstrap: list[str] = field(default_factory=lambda: list(BOOTSTRAP))
    """Nodes to start from, each HOST:PORT; your own ones for a private network."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """UDP port to ask from; 0 takes any."""
    bind: str = ""
    """Address to ask from; empty means all, IPv4 and IPv6."""

    async def open(self) -> None:
        """Open the sockets; the network is entered at the first use, so that it may come later."""
        for name in self.bootstrap:
            split(name)
        self._node = Node()
        self._entering = asyncio.Lock()
        self._saved = 0.0
        try:
            await self._node.start([self.bind] if self.bind else ANYWHERE, self.port)
        except (OSError, ValueError) as error:
            where = f"{self.bind or 'any address'}, UDP port {self.port or 'any'}"
            raise StoreError(f"cannot open a socket on {where}: {error}; choose with -o bind=… -o port=…") from error

    async def close(self) -> None:
        """Remember the nodes that answered, and close the sockets."""
        if hasattr(self, "_node"):
            self._remember(0.0)
            await self._node.close()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:  # noqa: ARG002 - nodes keep for two hours
        """Put the blob, signed for its slot, on the eight nodes closest to it; one that takes it is enough."""
        item = Item.signed(slot.public, slot.seq, blob, slot.sign)
        stored = await self._inside(lambda: self._node.put(item))
        if not stored.count:
            raise StoreError(_refused(stored, slot.seq))
        log.info("%s is stored on %d nodes", slot.text, stored.count)

    async def get(self, slot: Slot) -> list[bytes]:
        """Every value that carries the slot's signature, the one with the greatest number first."""
        items = await self._inside(lambda: self._find(slot))
        values = [item.value for item in sorted(items, key=lambda item: -item.seq)]
        return [value for value in values if value is not None][:VALUES]

    async def known(self) -> list[Endpoint]:
        """Nodes that may answer, the best first, without entering the network; takes at most a second."""
        return await known(self.bootstrap, Memory.load(self._file).endpoints)

    async def _find(self, slot: Slot) -> list[Item]:
        """The items of a lookup, which slow nodes do not hold up for long once one was found."""
        items: list[Item] = []
        try:
            async with asyncio.timeout(LONGEST), aclosing(self._node.get(slot.public)) as found:
                async for item in found:
                    items.append(item)  # noqa: PERF401 - what was found before the time was up has to stay
        except TimeoutError:
            if not items:
                raise
        return items

    async def _inside(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Run an operation in the network; when every node we knew has gone silent, enter anew and run it again."""
        await self._enter()
        try:
            result = await operation()
        except NoAnswer:
            await self._enter()
            try:
                result = await operation()
            except NoAnswer as error:
                raise StoreError(f"{error}; the network may be down, or a firewall may have closed") from error
        self._remember(SAVED)
        return result

    async def _enter(self) -> None:
        """Enter the network unless we know nodes that answer; raises StoreError within 3 s when none does."""
        async with self._entering:
            if any(table.closest(table.own, 1) for table in self._node.tables.values()):
                return
            entry = await enter(self._node, self.bootstrap, Memory.load(self._file).endpoints)
            if not entry.answered:
                raise StoreError(_unanswered(entry))

    def _remember(self, pause: float) -> None:
        """Save the nodes we know, if we know any and the last time is `pause` seconds ago."""
        now = asyncio.get_running_loop().time()
        contacts = self._node.contacts()
        if contacts and (not self._saved or now - self._saved >= pause):
            Memory.of(contact.endpoint for contact in contacts).save(self._file)
            self._saved = now

    @property
    def _file(self) -> Path | None:
        return remembered_in(self.cache, "nodes", self.bootstrap)


def _unanswered(entry: Entry) -> str:
    """Why the network could not be entered, and what to do."""
    what = f"asked {len(entry.asked)} bootstrap nodes, none answered"
    if entry.unknown:
        what += f"; no address was found for {', '.join(entry.unknown)}"
    return (
        f"{what}. Give a node that answers with -o bootstrap=HOST:PORT, let UDP through the firewall, "
        "or use another backend"
    )


def _refused(stored: Stored, seq: int) -> str:
    """Why no node took a value."""
    if stored.newer is not None or stored.refusals[Code.OLD_SEQ]:
        there = f"number {stored.newer.seq}" if stored.newer is not None else "the same or a greater number"
        return (
            f"a value with {there} is already in the slot, ours has {seq}: another host publishes with this key, "
            "or the state of this one was lost or its clock set back"
        )
    if stored.refusals:
        told = ", ".join(f"{count} with error {code}" for code, count in stored.refusals.most_common(4))
        return f"no node took the value: {told}"
    return "no node took the value: the nodes near the slot gave no token or did not answer; try again"


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The one backend of this module."""
    return [DHT]
