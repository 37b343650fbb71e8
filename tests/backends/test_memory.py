"""Backend memory: the documented test double."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from uuid import uuid4

import pytest

from wgdisco.backends.memory import Memory
from wgdisco.testing import Author, BackendContract


class TestMemory(BackendContract):
    @pytest.fixture(autouse=True)
    def room(self) -> None:
        self.name = uuid4().hex

    def backend(self) -> Memory:
        return Memory(room=self.name)


async def test_stores_of_one_room_share_and_of_two_do_not() -> None:
    room, slot = uuid4().hex, Author().slot()
    await Memory(room=room).put(slot, b"x", 60)
    assert await Memory(room=room).get(slot) == [b"x"]
    assert await Memory(room=uuid4().hex).get(slot) == []


async def test_a_value_is_gone_after_its_lifetime() -> None:
    memory, slot = Memory(room=uuid4().hex), Author().slot()
    await memory.put(slot, b"x", 0)
    assert await memory.get(slot) == []


def test_a_room_outlives_an_event_loop_also_when_it_was_watched() -> None:
    room, author = uuid4().hex, Author()

    async def watch(blob: bytes) -> None:
        memory = Memory(room=room)
        async with asyncio.timeout(10), aclosing(memory.watch(author.reading())) as news:
            await anext(news)
            await memory.put(author.slot(), blob, 60)
            assert await anext(news) == [blob]

    asyncio.run(watch(b"first"))
    asyncio.run(watch(b"second"))
