"""Looking for many peers in every store at once: when that is done for the first time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from wgdisco.backends.memory import Memory
from wgdisco.keys import PrivateKey
from wgdisco.node import Node
from wgdisco.seek import Seeker
from wgdisco.state import State
from wgdisco.store import Store

OWN = PrivateKey(b"o" * 32)
PEERS = [PrivateKey(bytes([number]) * 32).public for number in range(1, 6)]


class Halting(Memory):
    """A store that answers for the first slot, and for the others when it is let go; or fails then."""

    name = "halting"

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.fails, self.gate = fails, asyncio.Event()

    async def follow(self, slots):
        for count, slot in enumerate(slots):
            if count:
                await self.gate.wait()
                if self.fails:
                    raise ConnectionError("it broke")
            yield slot, []
        await asyncio.Event().wait()


@asynccontextmanager
async def seeking(folder, *backends):
    node = Node([Store(backend) for backend in backends], State.open(OWN.public, folder), OWN)
    seeker = Seeker(node, PEERS, lambda *_: None, lambda _: None)
    task = asyncio.ensure_future(seeker.run())
    try:
        async with asyncio.timeout(10):
            yield seeker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await node.close()


async def test_it_is_complete_when_every_store_has_answered_for_every_peer(tmp_path):
    halting = Halting()
    async with seeking(tmp_path, halting, Memory()) as seeker:
        await seeker.looked.wait()
        await asyncio.sleep(0.1)
        assert not seeker.complete.is_set()
        halting.gate.set()
        await seeker.complete.wait()


async def test_a_store_that_has_nothing_is_told_from_one_that_has_not_answered(tmp_path):
    async with seeking(tmp_path, Memory()) as seeker:
        await seeker.looked.wait()
        await seeker.complete.wait()
        assert {str(search.answers["memory"]) for search in seeker.searches.values()} == {"memory: nothing there"}


async def test_a_store_that_fails_on_the_way_is_not_waited_for(tmp_path):
    halting = Halting(fails=True)
    async with seeking(tmp_path, halting, Memory()) as seeker:
        await seeker.looked.wait()
        halting.gate.set()
        await seeker.complete.wait()
        assert list(seeker.errors) == ["halting"]
