"""The contract on news: what watches and follows says, and when."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from wgdisco.backend import Backend
from wgdisco.testing.base import LIFETIME, Contract, checked, hasten, removes
from wgdisco.testing.slots import Author

__all__ = ["News"]


class News(Contract):
    """Watch and follow."""

    def test_watch_starts_with_what_is_there(self) -> None:
        """The first thing a watch says is what the slot holds already, be it nothing."""
        author = Author()

        async def work(backend: Backend) -> None:
            await backend.put(author.slot(0), b"there", LIFETIME)
            await self.until(backend, author.reading(0), bool)
            for number, wanted in ((0, [b"there"]), (1, [])):
                async with asyncio.timeout(self.deadline), aclosing(backend.watch(author.reading(number))) as answers:
                    assert checked(await anext(answers)) == wanted

        self.run(work)

    def test_watch_reports_changes(self) -> None:
        """A watch sees what another instance puts, again and again."""
        author = Author()

        async def work(backend: Backend) -> None:
            hasten(backend)
            async with self.opened() as writer, aclosing(backend.watch(author.reading())) as answers:
                await anext(answers)
                for blob in (b"one", b"two", b"three"):
                    await writer.put(author.slot(), blob, LIFETIME)
                    async with asyncio.timeout(self.deadline):
                        while blob not in checked(await anext(answers)):
                            pass

        self.run(work)

    def test_watch_reports_a_removal(self) -> None:
        """A watch sees that a slot became empty, where the store can remove."""
        author = Author()

        async def work(backend: Backend) -> None:
            hasten(backend)
            if not removes(backend):
                pytest.skip("this store leaves removal to expiry")
            async with self.opened() as writer:
                await writer.put(author.slot(), b"gone", LIFETIME)
                await self.until(backend, author.reading(), bool)
                async with aclosing(backend.watch(author.reading())) as answers, asyncio.timeout(self.deadline):
                    assert checked(await anext(answers)) == [b"gone"]
                    await writer.remove(author.slot())
                    while checked(await anext(answers)):
                        pass

        self.run(work)

    def test_follow_reports_changes_of_every_slot(self) -> None:
        """`follow` begins with what is there and reports a change of any slot."""
        author = Author()

        async def work(backend: Backend) -> None:
            hasten(backend)
            await backend.put(author.slot(0), b"before", LIFETIME)
            await self.until(backend, author.reading(0), bool)
            seen: dict[bytes, list[bytes]] = {}
            slots = [author.reading(number) for number in range(5)]
            async with self.opened() as writer, aclosing(backend.follow(slots)) as answers:
                async with asyncio.timeout(self.deadline):
                    while seen.get(slots[0].id) != [b"before"]:
                        slot, values = await anext(answers)
                        seen[slot.id] = checked(values)
                for number in (3, 0, 4):
                    await writer.put(author.slot(number), b"news", LIFETIME)
                    async with asyncio.timeout(self.deadline):
                        while b"news" not in seen.get(slots[number].id, []):
                            slot, values = await anext(answers)
                            seen[slot.id] = checked(values)

        self.run(work)
