"""A storing node that runs until it is cancelled: what `wgdisco dht-node` does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from wgdisco.bep44.entry import enter
from wgdisco.bep44.memory import Memory
from wgdisco.bep44.node import ANYWHERE, Node

__all__ = ["serve", "tend"]

PAUSE = 30.0  # seconds between two rounds of upkeep
PINGS, REFRESHED = 16, 2  # nodes asked whether they are still there, and buckets refreshed, in one round
SAVED = 20  # rounds after which the state is written


async def serve(
    bind: Sequence[str] = ANYWHERE,
    port: int = 6881,
    bootstrap: Sequence[str] = (),
    state: Path | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Run a storing node on UDP `port` of the addresses in `bind` until cancelled; raises OSError when it cannot.

    `bootstrap` (HOST:PORT) may be empty: the first node of a private network knows no other. `state` is a file in
    which its id and its neighbours outlive a restart. `report` gets a line for people at every change.
    """
    memory = Memory.load(state)
    async with Node(storing=True, identity=memory.identity) as node:
        for endpoint in await node.start(bind, port):
            report(f"storing node listens on {endpoint}")
        try:
            await _run(node, bootstrap, memory, state, report)
        finally:
            _save(node, state)


async def _run(
    node: Node, bootstrap: Sequence[str], memory: Memory, state: Path | None, report: Callable[[str], None]
) -> None:
    told, rounds = "", 0
    while True:
        if not node.contacts():
            entry = await enter(node, bootstrap, memory.endpoints)
            if not entry.answered and (bootstrap or memory.endpoints):
                report(f"none of {len(entry.asked) + len(entry.unknown)} nodes answered; asking again in {PAUSE:g} s")
        line = f"{len(node.contacts())} nodes known, {len(node.storage or ())} items stored"
        if line != told:
            report(line)
        told, rounds = line, rounds + 1
        if rounds % SAVED == 1:
            _save(node, state)
        await asyncio.sleep(PAUSE)
        await tend(node)


async def tend(node: Node) -> None:
    """One round of upkeep: expired items go, silent nodes are asked again, buckets long unheard of are refreshed."""
    now = asyncio.get_running_loop().time()
    if node.storage is not None:
        node.storage.expire(now)
    for version, table in list(node.tables.items()):
        await asyncio.gather(*(node.ping(contact) for contact in table.questionable(now)[:PINGS]))
        await asyncio.gather(*(node.find(version, target) for target in table.stale(now)[:REFRESHED]))
    if node.misplaced():
        await node.join()


def _save(node: Node, state: Path | None) -> None:
    """Keep the old list when the network is gone."""
    if node.contacts():
        Memory.of((contact.endpoint for contact in node.contacts()), node.identity).save(state)
