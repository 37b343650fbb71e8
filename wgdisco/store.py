"""The boundary around one backend: deadline, size, back-off, and whatever its code raises.

A plugin is foreign code: it may hang, flood, swallow its cancellation or call sys.exit. Every call runs in a task of
its own that is left behind when its deadline has passed, so that no store holds up another one or the process.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

from wgdisco.backend import Backend, Slot, ordinary
from wgdisco.errors import MissingExtra, RetryLater, StoreError, UsageError, WgdiscoError
from wgdisco.plugins import install_hint

__all__ = ["Health", "Store"]

DEADLINE = 5.0  # seconds a call may take
GRACE = 0.2  # seconds a cancelled call gets to clean up before it is left behind
BIGGEST = 681  # bytes of a value
VALUES = 16  # taken from one slot
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds of back-off after failures

T = TypeVar("T")


class Health(NamedTuple):
    """How a store does, in unix seconds (0 for never): when it last did what it was asked, when it last failed.

    `error` says why, as long as the last thing asked failed; until `rests_until` it is left alone.
    """

    answered: float = 0.0
    failed: float = 0.0
    error: str = ""
    rests_until: float = 0.0


class Store:
    """One backend behind its boundary: opened at the first use, every error a StoreError that begins with its name."""

    def __init__(self, backend: Backend, deadline: float | None = None) -> None:
        """Take an unopened backend; `deadline` in seconds for each call, opening included (None: the backend's own)."""
        self.backend = backend
        self.deadline: float = getattr(backend, "deadline", DEADLINE) if deadline is None else deadline
        self.failures = 0
        self.resume = 0.0
        self._health = Health()
        self._opening: asyncio.Task[None] | None = None
        self._strays: set[asyncio.Task[Any]] = set()

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.backend.name

    @property
    def rests(self) -> float:
        """Seconds for which this store is left alone after failures; 0 when it may be asked."""
        return max(0.0, self.resume - time.monotonic())

    @property
    def health(self) -> Health:
        """How it does."""
        return self._health._replace(rests_until=time.time() + self.rests if self.rests else 0.0)

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Store a blob; raises StoreError."""
        await self._call(lambda: self.backend.put(slot, blob, lifetime))

    async def remove(self, slot: Slot) -> None:
        """Remove what we stored; raises StoreError."""
        await self._call(lambda: self.backend.remove(slot))

    async def fetch(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its values, as they arrive within the deadline; raises StoreError after what did arrive."""
        async with aclosing(self._stream(lambda: self.backend.fetch(slots), self.deadline)) as answers:
            async for answer in answers:
                yield answer
        self._succeeded()

    async def follow(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot with its values, now and at every change; raises StoreError when the store fails."""
        async with aclosing(self._stream(lambda: self.backend.follow(slots), None)) as answers:
            async for answer in answers:
                self._succeeded()
                yield answer
        raise self._failed(ConnectionError("the watch ended"))

    async def close(self) -> None:
        """Close the backend, at most within the grace; never raises."""
        if self._opening is not None:
            self._opening.cancel()
            closing = asyncio.ensure_future(ordinary(self.backend.close()))
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
            await ordinary(self.backend.close())
        await ordinary(self.backend.open())

    @staticmethod
    def _broken(task: asyncio.Task[None]) -> bool:
        return task.cancelled() or task.exception() is not None

    async def _call(self, operation: Any) -> None:
        async def work() -> None:
            await self._ready()
            await ordinary(operation())

        await self._within(work(), self.deadline)
        self._succeeded()

    async def _within(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run work in a task of its own; after the deadline it is cancelled and, if need be, left behind."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task}, timeout=seconds)
            if not task.done():
                late = TimeoutError(f"no answer within {seconds:g} s")
                raise self._failed(late) from late
            try:
                return task.result()
            except Exception as error:
                raise self._failed(error) from error
        finally:
            self._leave(task)

    async def _stream(self, start: Any, seconds: float | None) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """What a generator of the backend yields, read in a task of its own, cut to size."""
        answers: asyncio.Queue[tuple[Slot, list[bytes]] | Exception | None] = asyncio.Queue(maxsize=VALUES)

        async def pump() -> None:
            try:
                await self._ready()
                await ordinary(_forward(start(), answers))
                await answers.put(None)
            except Exception as error:  # noqa: BLE001 - raised in the task that reads
                await answers.put(error)

        task = asyncio.ensure_future(pump())
        end = None if seconds is None else time.monotonic() + seconds
        try:
            while True:
                try:
                    async with asyncio.timeout(None if end is None else end - time.monotonic()):
                        answer = await answers.get()
                except TimeoutError:
                    raise self._failed(TimeoutError(f"no answer within {seconds:g} s")) from None
                if answer is None:
                    return
                if isinstance(answer, Exception):
                    raise self._failed(answer) from answer
                yield answer[0], bounded(answer[1])
        finally:
            self._leave(task)

    def _leave(self, task: asyncio.Task[Any]) -> None:
        if not task.done():
            task.cancel()
            self._strays.add(task)
            task.add_done_callback(self._strays.discard)
            task.add_done_callback(_retrieve)

    def _succeeded(self) -> None:
        self.failures, self.resume = 0, 0.0
        self._health = Health(answered=time.time(), failed=self._health.failed)

    def _failed(self, error: Exception) -> WgdiscoError:
        """The error for the caller; from now on the store is left alone for a while."""
        self.failures += 1
        pause = min(FIRST_PAUSE * 2 ** (self.failures - 1), LONGEST_PAUSE)
        if isinstance(error, RetryLater):
            pause = max(pause, error.seconds)
        self.resume = time.monotonic() + pause
        told = self._told(error)
        self._health = self._health._replace(failed=time.time(), error=str(told))
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
        await sink.put(answer)


def bounded(values: Sequence[bytes]) -> list[bytes]:
    """At most 16 different values of a slot, chosen at random beyond that, so that nobody can flood the others out.

    What is longer than a record can be is cut one byte above that, and so still refused by the reader as `size`.
    """
    unique = list(
        {bytes(value[: BIGGEST + 1]) for value in values if isinstance(value, bytes | bytearray | memoryview)}
    )
    return unique if len(unique) <= VALUES else random.sample(unique, VALUES)
