"""The boundary around one backend: deadline, size, back-off, and whatever its code raises.

A plugin is foreign code: it may hang, flood, swallow its cancellation or call sys.exit. Every call runs in a task of
its own that is left behind when its deadline has passed, so that no store holds up another one or the process.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from wgdisco.backend import Backend, Slot, ordinary
from wgdisco.errors import MissingExtra, RetryLater, StoreError, UsageError, WgdiscoError
from wgdisco.health import Health, Rest
from wgdisco.plugins import install_hint

__all__ = ["Store"]

DEADLINE = 5.0  # seconds a call may take
GRACE = 0.2  # seconds a cancelled call gets to clean up before it is left behind
BIGGEST = 681  # bytes of a value
VALUES = 16  # taken from one slot


class Store:
    """One backend behind its boundary: opened at the first use, every error a StoreError that begins with its name."""

    def __init__(self, backend: Backend, deadline: float | None = None) -> None:
        """Take an unopened backend; `deadline` in seconds for each call, opening included (None: the backend's own)."""
        self.backend = backend
        self.deadline: float = getattr(backend, "deadline", DEADLINE) if deadline is None else deadline
        self.reading, self.writing = Rest(), Rest()
        self._answered = self._failed_at = 0.0
        self._opening: asyncio.Task[None] | None = None
        self._strays: set[asyncio.Task[Any]] = set()

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.backend.name

    @property
    def rests(self) -> float:
        """Seconds for which reading or writing is left alone after failures; 0 when both may be tried."""
        return max(self.reading.seconds, self.writing.seconds)

    @property
    def health(self) -> Health:
        """How it does."""
        errors = {rest.failed_at: rest.error for rest in (self.reading, self.writing) if rest.error is not None}
        latest = str(errors[max(errors)]) if errors else ""
        return Health(self._answered, self._failed_at, latest, time.time() + self.rests if self.rests else 0.0)

    def wake(self) -> None:
        """Try again at once: the network has changed, so that earlier failures say little about the store itself."""
        self.reading.wake()
        self.writing.wake()

    def moved(self) -> None:
        """The host has moved to other addresses: try again at once, and on new connections."""
        self.wake()
        if self._opening is not None and self._opening.done() and not self._broken(self._opening):
            self._opening = asyncio.ensure_future(self._move())
            self._opening.add_done_callback(_retrieve)

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Store a blob; raises StoreError."""
        await self._call(lambda: self.backend.put(slot, blob, lifetime))

    async def remove(self, slot: Slot) -> None:
        """Remove what we stored; raises StoreError."""
        await self._call(lambda: self.backend.remove(slot))

    async def fetch(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its values, as they arrive within the deadline; raises StoreError after what did arrive."""
        began = self.reading.clock()
        async with aclosing(self._stream(lambda: self.backend.fetch(slots), self.deadline)) as answers:
            async for answer in answers:
                yield answer
        self._succeeded(self.reading, began)

    async def follow(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its values, now and at every change; raises StoreError when the store fails."""
        began = self.reading.clock()
        async with aclosing(self._stream(lambda: self.backend.follow(slots), None)) as answers:
            async for answer in answers:
                self._succeeded(self.reading, self.reading.clock())
                yield answer
        raise self._failed(self.reading, began, ConnectionError("the watch ended"))

    async def close(self) -> None:
        """Close the backend, at most within the grace; never raises."""
        if self._opening is not None:
            self._opening.cancel()
            closing = asyncio.ensure_future(ordinary(self.backend.close))
            closing.add_done_callback(_retrieve)
            await asyncio.wait({closing}, timeout=1.0)
            self._leave(closing)
        if self._strays:
            await asyncio.wait(self._strays, timeout=GRACE)

    async def _ready(self) -> None:
        if self._opening is None or (self._opening.done() and self._broken(self._opening)):
            self._opening = asyncio.ensure_future(self._open(again=self._opening is not None))
            self._opening.add_done_callback(_retrieve)
        await asyncio.shield(self._opening)

    async def _open(self, *, again: bool) -> None:
        if again:
            await ordinary(self.backend.close)
        await ordinary(self.backend.open)

    async def _move(self) -> None:
        """What takes longer than the grace is left behind, and the next call opens anew."""
        moving = asyncio.ensure_future(ordinary(self.backend.moved))
        await asyncio.wait({moving}, timeout=1.0)
        self._leave(moving)
        if not moving.done():
            raise TimeoutError("no new connection within 1 s")
        moving.result()

    @staticmethod
    def _broken(task: asyncio.Task[None]) -> bool:
        return task.cancelled() or task.exception() is not None

    async def _call(self, operation: Callable[[], Awaitable[None]]) -> None:
        """Run a write in a task of its own; after the deadline it is cancelled and, if need be, left behind."""

        async def work() -> None:
            await self._ready()
            await ordinary(operation)

        task, began = asyncio.ensure_future(work()), self.writing.clock()
        try:
            await asyncio.wait({task}, timeout=self.deadline)
            if not task.done():
                late = TimeoutError(f"no answer within {self.deadline:g} s")
                raise self._failed(self.writing, began, late) from late
            try:
                task.result()
            except Exception as error:
                raise self._failed(self.writing, began, error) from error
            self._succeeded(self.writing, began)
        finally:
            self._leave(task)

    async def _stream(self, start: Any, seconds: float | None) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """What a generator of the backend yields, read in a task of its own, cut to size."""
        answers: asyncio.Queue[tuple[Slot, list[bytes]] | Exception | None] = asyncio.Queue(maxsize=VALUES)

        async def pump() -> None:
            try:
                await self._ready()
                await ordinary(lambda: _forward(start(), answers))
                await answers.put(None)
            except Exception as error:  # noqa: BLE001 - raised in the task that reads
                await answers.put(error)

        task, began = asyncio.ensure_future(pump()), self.reading.clock()
        end = None if seconds is None else asyncio.get_running_loop().time() + seconds
        try:
            while True:
                try:
                    async with asyncio.timeout_at(end):
                        answer = await answers.get()
                except TimeoutError:
                    late = TimeoutError(f"no answer within {seconds:g} s")
                    raise self._failed(self.reading, began, late) from None
                if answer is None:
                    return
                if isinstance(answer, Exception):
                    raise self._failed(self.reading, began, answer) from answer
                yield answer
        finally:
            self._leave(task)

    def _leave(self, task: asyncio.Task[Any]) -> None:
        if not task.done():
            task.cancel()
            self._strays.add(task)
            task.add_done_callback(self._strays.discard)
            task.add_done_callback(_retrieve)

    def _succeeded(self, rest: Rest, began: float) -> None:
        rest.succeeded(began)
        self._answered = time.time()

    def _failed(self, rest: Rest, began: float, error: Exception) -> WgdiscoError:
        """The error for the caller; from now on the store is left alone for a while."""
        told = self._told(error)
        self._failed_at = time.time()
        rest.failed(told, began, error.seconds if isinstance(error, RetryLater) else 0.0)
        return told

    def _told(self, error: Exception) -> WgdiscoError:
        """The error with the backend's name."""
        if isinstance(error, ModuleNotFoundError):
            return MissingExtra(f"{self.name}: {install_hint(self.name, error.name or str(error))}")
        if isinstance(error, UsageError):
            return type(error)(_prefixed(self.name, str(error)))
        return StoreError(_prefixed(self.name, str(error) or type(error).__name__))


def _prefixed(name: str, text: str) -> str:
    return text if text.startswith(f"{name}: ") else f"{name}: {text}"


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def _forward(source: AsyncIterator[tuple[Slot, list[bytes]]], sink: asyncio.Queue[Any]) -> None:
    async for answer in source:
        slot, values = answer  # whatever else it is, is the plugin's error
        await sink.put((slot, bounded(values)))


def bounded(values: Sequence[bytes]) -> list[bytes]:
    """At most 16 different values of a slot, chosen at random beyond that, so that nobody can flood the others out.

    What is longer than a record can be is cut one byte above that, and so still refused by the reader as `size`.
    """
    unique = list(
        {bytes(value[: BIGGEST + 1]) for value in values if isinstance(value, bytes | bytearray | memoryview)}
    )
    return unique if len(unique) <= VALUES else random.sample(unique, VALUES)
