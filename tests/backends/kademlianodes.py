"""A swarm of kademlia members on loopback for tests: in this process, or as a server of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

from tests.support import Server
from wgdisco.backends._kademlia_member import Member
from wgdisco.endpoint import Endpoint

__all__ = ["SwarmServer", "swarm", "where"]


def where(member: Member) -> Endpoint:
    """Where a member listens."""
    host, port = member.transport.get_extra_info("sockname")[:2]
    return Endpoint(ip_address(host), port)


@asynccontextmanager
async def swarm(size: int, ports: list[int] | None = None) -> AsyncIterator[list[Member]]:
    """`size` members that know each other through the first one."""
    members: list[Member] = []
    try:
        for index in range(size):
            member = Member()
            await member.listen(ports[index] if ports else 0, "127.0.0.1")
            members.append(member)
            if index:
                await member.enter([where(members[0])])
        yield members
    finally:
        for member in members:
            member.stop()
        await asyncio.sleep(0)


class SwarmServer(Server):
    """A swarm of eight members in a process of its own, on ports that stay the same."""

    program = sys.executable
    ports_needed = 8
    environment: ClassVar[dict[str, str]] = {"PYTHONPATH": str(Path(__file__).parents[2])}

    def prepare(self) -> None:
        self.log = self.folder / "swarm.log"
        self.arguments = ("-m", "tests.backends.kademlianodes", *map(str, self.ports))
        self.log.write_bytes(b"")

    def ready(self) -> bool:
        return b"ready" in self.log.read_bytes()


async def main() -> None:
    """Run a swarm on the ports named."""
    ports = [int(each) for each in sys.argv[1:]]
    async with swarm(len(ports), ports):
        print("ready", flush=True)
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main())
