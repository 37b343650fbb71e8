"""The contract on trouble: a server that is frozen, killed and back."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from wgdisco.backend import Backend
from wgdisco.discovery import follow
from wgdisco.errors import StoreError
from wgdisco.store import Store
from wgdisco.testing.base import LIFETIME, Contract, hasten
from wgdisco.testing.slots import Author

__all__ = ["Trouble"]


class Trouble(Contract):
    """Failures; most need a `control`."""

    def test_close_after_a_failed_open_and_without_open(self) -> None:
        """`close` lets go of whatever there is, and there may be nothing."""
        asyncio.run(self.backend().close())

    def test_a_frozen_server_holds_up_nothing(self) -> None:
        """A call to a server that does not answer can be cut off, the loop goes on, and it works again afterwards."""
        control, author = self.needs("freeze", "thaw"), Author()

        async def work(backend: Backend) -> None:
            await backend.put(author.slot(), b"before", LIFETIME)
            store = Store(backend, deadline=self.impatience)
            store._opening = asyncio.ensure_future(asyncio.sleep(0))  # noqa: SLF001 - it is open already
            control.freeze()
            try:
                start = time.monotonic()
                with pytest.raises(StoreError):
                    await store.put(author.slot(), b"lost", LIFETIME)
                assert time.monotonic() - start < self.impatience + 2.0
            finally:
                control.thaw()
            assert await self._recovered(backend, author, b"after")

        self.run(work)

    def test_a_killed_server_is_an_error_and_works_when_it_is_back(self) -> None:
        """While the server is gone calls raise; afterwards the same instance works."""
        control, author = self.needs("kill", "restart"), Author()

        async def work(backend: Backend) -> None:
            await backend.put(author.slot(), b"before", LIFETIME)
            control.kill()
            try:
                with pytest.raises(Exception):  # noqa: B017, PT011 - backends raise what their library raises
                    async with asyncio.timeout(self.deadline):
                        await backend.get(author.reading())
            finally:
                control.restart()
            assert await self._recovered(backend, author, b"after")

        self.run(work)

    def test_news_come_again_after_the_server_was_killed(self) -> None:
        """What follows either goes on by itself or raises, so that the core follows again; never silently dead."""
        control, author = self.needs("kill", "restart"), Author()

        async def work(backend: Backend) -> None:
            hasten(backend)
            await backend.put(author.slot(), b"before", LIFETIME)
            store = Store(backend, deadline=self.deadline)
            store._opening = asyncio.ensure_future(asyncio.sleep(0))  # noqa: SLF001 - it is open already
            changes = follow([store], [author.reading()], lambda *_: None)
            async with aclosing(changes):
                await self._heard(changes, b"before")
                control.kill()
                await asyncio.sleep(0.2)
                control.restart()
                async with self.opened() as writer:
                    assert await self._recovered(writer, author, b"after")
                await self._heard(changes, b"after")

        self.run(work)

    async def _heard(self, changes: Any, blob: bytes) -> None:
        async with asyncio.timeout(4 * self.deadline):
            async for _, _, values in changes:
                if blob in values:
                    return

    async def _recovered(self, backend: Backend, author: Author, blob: bytes) -> bool:
        """Whether a put and a get succeed within the deadline."""
        end = time.monotonic() + 2 * self.deadline
        while time.monotonic() < end:
            try:
                async with asyncio.timeout(self.deadline):
                    await backend.put(author.slot(), blob, LIFETIME)
                    return blob in await self.until(backend, author.reading(), lambda values: blob in values)
            except Exception:  # noqa: BLE001 - not back yet
                await asyncio.sleep(0.1)
        return False
