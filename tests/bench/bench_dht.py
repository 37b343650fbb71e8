"""DHT: what put and get cost on networks of local nodes, all of them healthy and with 30 % dead.

Every figure is the median (and the worst) of cold clients: each enters the network through two nodes first.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.backends.dhtnodes import Swarm, item, node, swarm
from wgdisco.bep44 import Item, Node

ITEMS = 20


async def timed(network: Swarm, made: Item, work: Callable[[Node, Item], Awaitable[None]]) -> tuple[float, float]:
    """Milliseconds until a cold client has entered, and of the work after that."""
    async with node() as (client, _):
        start = time.perf_counter()
        assert await client.bootstrap(random.sample(network.endpoints, 2))
        entered = time.perf_counter()
        await work(client, made)
        return (entered - start) * 1000, (time.perf_counter() - entered) * 1000


async def puts(network: Swarm, items: list[Item]) -> tuple[str, list[tuple[float, float]]]:
    """Puts, and on how many nodes: just after a crash the others still name the dead, so it may be fewer than eight."""
    counts: list[int] = []

    async def put(client: Node, made: Item) -> None:
        counts.append((await client.put(made)).count)

    figures = [await timed(network, made, put) for made in items]
    return f"put on {min(counts)} to {max(counts)}", figures


async def gets(network: Swarm, items: list[Item], *, whole: bool) -> list[tuple[float, float]]:
    """To the first value, or to the end of the lookup."""

    async def get(client: Node, made: Item) -> None:
        found = []
        async for each in client.get(made.public):
            found.append(each)
            if not whole:
                break
        assert found == [made]

    return [await timed(network, made, get) for made in items]


def tell(what: str, figures: list[tuple[float, float]]) -> None:
    worked = [each for _, each in figures]
    entered = median(each for each, _ in figures)
    print(f"  {what:22} median {median(worked):7.1f} ms   worst {max(worked):7.1f} ms   (entering {entered:.1f} ms)")


async def measure(size: int) -> None:
    start = time.perf_counter()
    async with swarm(size) as network:
        print(f"{size} nodes (set up in {time.perf_counter() - start:.1f} s)")
        items = [item(value=random.randbytes(320)) for _ in range(ITEMS)]
        tell(*await puts(network, items))
        tell("get, first value", await gets(network, items, whole=False))
        tell("get, whole lookup", await gets(network, items, whole=True))
        await network.kill(random.sample(network.endpoints, size * 3 // 10))
        print(f"{size} nodes, 30 % of them dead")
        tell("get, first value", await gets(network, items, whole=False))
        tell("get, whole lookup", await gets(network, items, whole=True))
        tell(*await puts(network, [item(value=random.randbytes(320)) for _ in range(ITEMS)]))


for nodes in (30, 100):
    asyncio.run(measure(nodes))
