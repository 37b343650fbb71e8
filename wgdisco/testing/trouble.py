"""The contract on trouble: a server that is frozen, killed and back."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import Any

import pytest

from wgdisco.backend import Slot
from wgdisco.discovery import follow
from wgdisco.errors import WgdiscoError
from wgdisco.store import Store
from wgdisco.testing.base import LIFETIME, Contract, Pulse, hasten
from wgdisco.testing.slots import Author

__all__ = ["Trouble"]


class Trouble(Contract):
    """Failures; all but the first two need a `control`."""

    def test_close_without_open(self) -> None:
        """`close` lets go of whatever there is, and there may be nothing."""
        asyncio.run(self.backend().close())

    def test_goes_on_after_the_host_has_moved(self) -> None:
        """After `moved` the same instance reads and writes, and can be followed anew."""
        author = Author()

        async def work() -> None:
            async with self.guarded() as store:
                hasten(store.backend)
                await store.put(author.slot(), b"before", LIFETIME)
                async with aclosing(follow([store], [author.reading()], lambda *_: None)) as changes:
                    await self._heard(changes, b"before")
                    await store.backend.moved()
                await store.put(author.slot(), b"after", LIFETIME)
                async with aclosing(follow([store], [author.reading()], lambda *_: None)) as changes:
                    await self._heard(changes, b"after")

        asyncio.run(work())

    def test_opens_again_when_the_server_is_back(self) -> None:
        """When `open` fails, `close` and another `open` of the same instance follow."""
        control, author = self.needs("kill", "restart"), Author()

        async def work() -> None:
            async with self.guarded() as store:
                control.kill()
                try:
                    with suppress(WgdiscoError):  # it may also connect at the first call
                        await store.put(author.slot(), b"lost", LIFETIME)
                finally:
                    control.restart()
                assert await self._works(store, author, b"after"), "it does not work after the server is back"

        asyncio.run(work())

    def test_a_frozen_server_holds_up_nothing(self) -> None:
        """A call to a server that does not answer can be cut off, the loop goes on, and it works again afterwards."""
        control, author = self.needs("freeze", "thaw"), Author()

        async def work() -> None:
            async with self.guarded() as store:
                await store.put(author.slot(), b"before", LIFETIME)
                store.deadline = self.impatience
                control.freeze()
                try:
                    with Pulse():
                        with pytest.raises(WgdiscoError):
                            await store.put(author.slot(), b"lost", LIFETIME)
                        with suppress(WgdiscoError):  # it may also know the answer
                            await _values(store, author.reading())
                finally:
                    control.thaw()
                store.deadline = self.deadline
                assert await self._works(store, author, b"after"), "it does not work after the server thawed"

        asyncio.run(work())

    def test_a_killed_server_is_an_error_and_works_when_it_is_back(self) -> None:
        """While the server is gone calls raise; afterwards the same instance works."""
        control, author = self.needs("kill", "restart"), Author()

        async def work() -> None:
            async with self.guarded() as store:
                await store.put(author.slot(), b"before", LIFETIME)
                control.kill()
                try:
                    with pytest.raises(WgdiscoError):
                        await _values(store, author.reading())
                    with pytest.raises(WgdiscoError):
                        await store.put(author.slot(), b"lost", LIFETIME)
                finally:
                    control.restart()
                assert await self._works(store, author, b"after"), "it does not work after the server is back"

        asyncio.run(work())

    def test_news_come_again_after_the_server_was_killed(self) -> None:
        """What follows either goes on by itself or raises, so that the core follows again; never silently dead."""
        control, author = self.needs("kill", "restart"), Author()

        async def work() -> None:
            async with self.guarded() as store, self.guarded() as writer:
                hasten(store.backend)
                await writer.put(author.slot(), b"before", LIFETIME)
                async with aclosing(follow([store], [author.reading()], lambda *_: None)) as changes:
                    await self._heard(changes, b"before")
                    control.kill()
                    await asyncio.sleep(0.2)
                    control.restart()
                    assert await self._works(writer, author, b"after"), "it does not work after the server is back"
                    await self._heard(changes, b"after")

        asyncio.run(work())

    async def _heard(self, changes: Any, blob: bytes) -> None:
        async with asyncio.timeout(4 * self.deadline):
            async for _, _, values in changes:
                if blob in values:
                    return

    async def _works(self, store: Store, author: Author, blob: bytes) -> bool:
        """Whether a put and a get succeed within twice the deadline."""
        end = time.monotonic() + 2 * self.deadline
        while time.monotonic() < end:
            with suppress(WgdiscoError):  # not back yet
                await store.put(author.slot(), blob, LIFETIME)
                if blob in await _values(store, author.reading()):
                    return True
            await asyncio.sleep(0.1)
        return False


async def _values(store: Store, slot: Slot) -> list[bytes]:
    return [value async for _, values in store.fetch([slot]) for value in values]
