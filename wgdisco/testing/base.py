"""What the tests of the contract share: an opened backend, patience, and the checks of every answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self, cast

import pytest

from wgdisco.backend import Backend, Slot
from wgdisco.blocking import BlockingBackend
from wgdisco.store import Store

__all__ = ["LIFETIME", "Contract", "Control", "Pulse", "checked", "hasten", "removes"]

LIFETIME = 600  # seconds


class Control(Protocol):
    """What a test can do to the server; what it cannot is left out, and the tests that need it are skipped."""

    def freeze(self) -> None:
        """Stop answering without closing anything (SIGSTOP)."""

    def thaw(self) -> None:
        """Go on (SIGCONT)."""

    def kill(self) -> None:
        """Be gone at once (SIGKILL)."""

    def restart(self) -> None:
        """Be back at the same address, with or without what was stored."""


class Contract:
    """The base of the contract's parts."""

    control: Any = None
    """A `Control`, or part of one; None for a store without a server."""
    deadline: float = 10.0
    """Seconds in which a healthy store answers, and a change is seen."""
    impatience: float = 1.0
    """Seconds after which a call to a frozen server is cut off."""

    def backend(self) -> Backend:
        """A fresh, unopened instance for the same store."""
        raise NotImplementedError("define backend(self) and return an unopened instance of your backend")

    def run(self, work: Callable[[Backend], Coroutine[Any, Any, None]]) -> None:
        """Run `work` with an opened backend."""

        async def opened() -> None:
            async with asyncio.timeout(6 * self.deadline), self.opened() as backend:
                await work(backend)

        asyncio.run(opened())

    @asynccontextmanager
    async def guarded(self) -> AsyncIterator[Store]:
        """An instance as the core has it: behind the boundary that opens it, sets deadlines and turns its errors."""
        store = Store(self.backend())
        store.deadline = self.deadline
        try:
            async with asyncio.timeout(12 * self.deadline):
                yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Backend]:
        """An instance between `open` and `close`."""
        backend = self.backend()
        try:
            await backend.open()
            yield backend
        finally:
            await backend.close()

    async def until(self, backend: Backend, slot: Slot, wanted: Callable[[list[bytes]], bool]) -> list[bytes]:
        """The slot's values once they are as wanted, or as they are after the deadline: stores may take a moment."""
        end = time.monotonic() + self.deadline
        while not wanted(values := checked(await backend.get(slot))) and time.monotonic() < end:  # noqa: ASYNC110 - a store
            await asyncio.sleep(0.05)
        return values

    def needs(self, *abilities: str) -> Control:
        """The control, or a skipped test when it lacks one of the abilities."""
        missing = [ability for ability in abilities if not hasattr(self.control, ability)]
        if missing:
            pytest.skip(f"the test has no control.{missing[0]}() for this store")
        return cast("Control", self.control)


class Pulse:
    """Fails when the event loop stands still meanwhile.

    It is measured against a thread that wakes as often, so that a busy machine is not taken for a backend that blocks.
    """

    beat = 0.01  # seconds
    most = 25  # beats of the thread without one of the event loop

    def __enter__(self) -> Self:
        self.loop, self.beats, self.worst = asyncio.get_running_loop(), 0, 0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self._tick()
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.done.set()
        self.thread.join()
        self.next.cancel()
        if kind is None:
            assert self.worst < self.most, (
                f"the event loop stood still for {self.worst * self.beat:.2f} s: nothing may block"
            )

    def _tick(self) -> None:
        self.beats += 1
        self.next = self.loop.call_later(self.beat, self._tick)

    def _listen(self) -> None:
        heard, still = 0, 0
        while not self.done.wait(self.beat):
            still = still + 1 if self.beats == heard else 0
            heard, self.worst = self.beats, max(self.worst, still)


def checked(values: Any) -> list[bytes]:
    """The values, after making sure that they are a list of bytes."""
    assert isinstance(values, list), f"expected a list of values, got {type(values).__name__}"
    assert all(isinstance(value, bytes) for value in values), (
        f"expected bytes, got {[type(v).__name__ for v in values]}"
    )
    return values


def hasten(backend: Backend) -> None:
    """Let a store that polls do so often, so that the test does not wait."""
    setattr(backend, "poll", 0.1)  # noqa: B010 - an option of the instance; the class has the default


def removes(backend: Backend) -> bool:
    """Whether the backend removes at all, or leaves that to the store's expiry."""
    if isinstance(backend, BlockingBackend):
        return type(backend).erase is not BlockingBackend.erase
    return type(backend).remove is not Backend.remove
