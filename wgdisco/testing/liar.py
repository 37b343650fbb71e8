"""A store that lies: it wraps an honest one and serves what an attacker would."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from wgdisco.backend import Backend, Slot

__all__ = ["LIES", "Liar"]


class Liar(Backend):
    """Serves what `lie` makes of the honest values; `LIES` names the usual ones."""

    name = "liar"

    def __init__(self, honest: Backend, lie: str) -> None:
        """Take an unopened backend and the name of a lie."""
        self.honest, self.lie = honest, lie
        self.first: dict[bytes, list[bytes]] = {}
        self.seen: list[bytes] = []

    async def open(self) -> None:
        """Open the honest one."""
        await self.honest.open()

    async def close(self) -> None:
        """Close the honest one."""
        await self.honest.close()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Store it, unless the lie is to pretend."""
        if self.lie != "pretends to store":
            await self.honest.put(slot, blob, lifetime)
        self.first.setdefault(slot.id, [blob])
        self.seen.append(blob)

    async def get(self, slot: Slot) -> list[bytes]:
        """What the lie makes of what is there."""
        if self.lie == "hangs":
            await asyncio.sleep(3600)
        if self.lie == "fails":
            raise ConnectionResetError("the store hung up")
        return LIES[self.lie](self, slot, await self.honest.get(slot))


LIES: dict[str, Callable[[Liar, Slot, list[bytes]], list[bytes]]] = {
    "withholds": lambda _liar, _slot, _values: [],
    "garbage": lambda _liar, _slot, _values: [os.urandom(233), b"", b"\x01" * 681],
    "flips a bit": lambda _liar, _slot, values: [bytes([*value[:-1], value[-1] ^ 1]) for value in values],
    "floods": lambda _liar, _slot, values: [os.urandom(300) for _ in range(10_000)] + values,
    "endless": lambda _liar, _slot, values: [b"\x01" * 10_000_000, *values],
    "replays the first": lambda liar, slot, _values: liar.first.get(slot.id, []),
    "serves other slots": lambda liar, _slot, _values: list(liar.seen),
    "pretends to store": lambda _liar, _slot, _values: [],
    "hangs": lambda _liar, _slot, values: values,
    "fails": lambda _liar, _slot, values: values,
}
"""What each lie makes of the values that are there, by its name."""
