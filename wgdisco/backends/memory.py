"""A store in this process's memory, for tests: stores of one `room` share what is in them, and push."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import ClassVar

from wgdisco.backend import Backend, Slot
from wgdisco.hookspecs import hookimpl

__all__ = ["Memory"]


@dataclass
class _Room:
    """What is stored, and an event of everyone who watches, set at every change."""

    values: dict[bytes, tuple[bytes, float]] = field(default_factory=dict)
    watchers: set[asyncio.Event] = field(default_factory=set)


@dataclass
class Memory(Backend):
    """Keeps blobs until their lifetime is over; a documented test double, of no use between processes."""

    name = "memory"
    lasting: ClassVar[bool] = False

    room: str = "default"
    """Stores with the same room share their content."""
    _rooms: ClassVar[dict[str, _Room]] = {}

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Replace what is in the slot."""
        self._change(slot, (bytes(blob), time.monotonic() + lifetime))

    async def get(self, slot: Slot) -> list[bytes]:
        """The value, unless its lifetime is over."""
        blob, end = self._room.values.get(slot.id, (b"", 0.0))
        return [blob] if time.monotonic() < end else []

    async def remove(self, slot: Slot) -> None:
        """Empty the slot."""
        self._change(slot, None)

    async def watch(self, slot: Slot) -> AsyncGenerator[list[bytes], None]:
        """The slot now, and at every change."""
        before: list[bytes] | None = None
        changed = asyncio.Event()
        watchers = self._room.watchers
        watchers.add(changed)
        try:
            while True:
                changed.clear()
                values = await self.get(slot)
                if values != before:
                    yield values
                    before = values
                await changed.wait()
        finally:
            watchers.discard(changed)

    @property
    def _room(self) -> _Room:
        return self._rooms.setdefault(self.room, _Room())

    def _change(self, slot: Slot, value: tuple[bytes, float] | None) -> None:
        room = self._room
        if value is None:
            room.values.pop(slot.id, None)
        else:
            room.values[slot.id] = value
        for changed in room.watchers:
            changed.set()


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The backend of this file."""
    return [Memory]
