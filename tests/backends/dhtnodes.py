"""Networks of real storing nodes on loopback for tests: in this process, or as a server of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tests.support import Server
from wgdisco.bep44 import Item, Node
from wgdisco.bep44.limits import Limits
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PrivateKey, SlotSigner

__all__ = ["GENEROUS", "DhtServer", "Swarm", "item", "node", "signer", "swarm"]

GENEROUS = Limits(rate=1e9, burst=1e9, total_rate=1e9, total_burst=1e9)
"""All nodes of a test share one host, so what is meant for one host would hold for the whole network."""


def signer() -> SlotSigner:
    """Somebody new who can sign for one slot."""
    return PrivateKey.generate().slot_signer(os.urandom(31) + b"\0")


def item(seq: int = 1, value: bytes = b"value", by: SlotSigner | None = None) -> Item:
    """A signed item, of somebody new unless `by` is given."""
    by = by or signer()
    return Item.signed(by.public, seq, value, by.sign)


@dataclass
class Swarm:
    """Running nodes with their endpoints."""

    nodes: dict[Endpoint, Node] = field(default_factory=dict)

    @property
    def endpoints(self) -> list[Endpoint]:
        return list(self.nodes)

    async def kill(self, endpoints: list[Endpoint]) -> None:
        """Let nodes vanish."""
        for endpoint in endpoints:
            await self.nodes.pop(endpoint).close()


@asynccontextmanager
async def node(
    *, storing: bool = False, address: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[tuple[Node, Endpoint]]:
    """One node and where it listens."""
    made = Node(storing=storing, limits=GENEROUS)
    (endpoint,) = await made.start([address], port)
    async with made:
        yield made, endpoint


@asynccontextmanager
async def swarm(size: int, address: str = "127.0.0.1", ports: list[int] | None = None) -> AsyncIterator[Swarm]:
    """`size` storing nodes that know each other through the first one."""
    made = Swarm()
    try:
        for index in range(size):
            one = Node(storing=True, limits=GENEROUS)
            (endpoint,) = await one.start([address], ports[index] if ports else 0)
            made.nodes[endpoint] = one
            if index:
                assert await one.bootstrap([made.endpoints[0]]) == 1
        yield made
    finally:
        await made.kill(made.endpoints)


class DhtServer(Server):
    """A network of eight nodes in a process of its own, on ports that stay the same."""

    program = sys.executable
    ports_needed = 8
    environment: ClassVar[dict[str, str]] = {"PYTHONPATH": str(Path(__file__).parents[2])}

    def prepare(self) -> None:
        self.log = self.folder / "dht.log"
        self.arguments = ("-m", "tests.backends.dhtnodes", *map(str, self.ports))
        self.log.write_bytes(b"")

    def ready(self) -> bool:
        return b"ready" in self.log.read_bytes()


async def main() -> None:
    """Run a network on the ports named."""
    ports = [int(each) for each in sys.argv[1:]]
    async with swarm(len(ports), ports=ports):
        print("ready", flush=True)
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main())
