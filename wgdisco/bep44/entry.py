"""Getting into the network: every bootstrap node and every node remembered is asked at once, the first answer does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wgdisco.bep44.node import Node
from wgdisco.bep44.resolve import resolve
from wgdisco.endpoint import Endpoint

__all__ = ["Entry", "enter"]

SECONDS = 2.8  # for the first answer; a person is waiting


@dataclass(slots=True)
class Entry:
    """How an entry went: whether a node answered, which were asked, which names could not be looked up."""

    answered: bool = False
    asked: set[Endpoint] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


async def enter(node: Node, names: Sequence[str], known: Iterable[Endpoint], seconds: float = SECONDS) -> Entry:
    """Ask the nodes behind `names` (HOST:PORT) and those in `known` until one answers; then a storing node joins.

    Answers that come later still reach the routing table. Raises UsageError for a name of the wrong form.
    """
    entry = Entry()

    async def by_name(name: str) -> bool:
        entry.unknown.append(name)
        endpoints = await resolve(name)
        entry.unknown.remove(name)
        entry.asked.update(endpoints)
        return bool(endpoints) and await _any([node.greet(endpoint, seconds) for endpoint in endpoints])

    remembered = list(known)
    entry.asked.update(remembered)
    asking = [by_name(name) for name in names] + [node.greet(endpoint, seconds) for endpoint in remembered]
    entry.answered = await _any(asking, seconds)
    if entry.answered and node.storage is not None:
        await node.join()
    return entry


async def _any(asking: Sequence[Coroutine[Any, Any, bool]], seconds: float | None = None) -> bool:
    """Whether one of these coroutines gave true within `seconds`; an OSError counts as false."""
    waiting = {asyncio.ensure_future(each) for each in asking}
    every = list(waiting)
    end = None if seconds is None else asyncio.get_running_loop().time() + seconds
    try:
        while waiting:
            left = None if end is None else end - asyncio.get_running_loop().time()
            done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if any(not isinstance(each.exception(), OSError) and each.result() for each in done):
                return True
            if not done:
                return False
        return False
    finally:
        for each in every:
            each.cancel()
        await asyncio.gather(*every, return_exceptions=True)
