"""Publish, resolve, follow: ask every store at once, verify, keep the freshest.

A store can withhold; it can never forge, roll back, redirect or read. So every value of every store is judged by the
reader's rules first (freshness.py), and only then the greatest `issued` wins; an absent answer never beats one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from wgdisco.audience import Place
from wgdisco.backend import Slot
from wgdisco.errors import NotFound, RetryLater, StoreError, UsageError, WgdiscoError
from wgdisco.keys import PublicKey
from wgdisco.search import Answer, Finding, Memory, Search
from wgdisco.store import Store

__all__ = ["Deposit", "Outcome", "follow", "publish", "require", "resolve"]

PUTS_AT_ONCE = 16  # of one store
PACE = 100  # events a second from one store, once it has said what it had to say at first
SETTLE = 1.0  # seconds to wait for something newer after the first record was found


@dataclass(frozen=True)
class Deposit:
    """One blob for one slot, to be kept for `lifetime` seconds."""

    slot: Slot
    blob: bytes
    lifetime: int


@dataclass
class Outcome:
    """What one store did with the deposits: how many it stored, how long that took, and its last error."""

    backend: str
    stored: int = 0
    asked: int = 0
    seconds: float = 0.0
    error: WgdiscoError | None = None

    @property
    def complete(self) -> bool:
        """Whether everything was stored."""
        return self.stored == self.asked


async def publish(
    stores: Sequence[Store],
    deposits: Mapping[str, Sequence[Deposit]],
    done: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Put each store's deposits (by the store's name) into it, all at once; an outcome for each, never an error.

    `done` hears of each outcome as soon as there is one. A store that failed again and again, or asked to be left
    alone, is not asked before its rest is over.
    """

    async def one(store: Store) -> Outcome:
        outcome = await _deposit(store, deposits[store.name])
        done(outcome)
        return outcome

    return list(await asyncio.gather(*(one(store) for store in stores)))


async def _deposit(store: Store, deposits: Sequence[Deposit]) -> Outcome:
    outcome, start, limit = Outcome(store.name, asked=len(deposits)), time.monotonic(), asyncio.Semaphore(PUTS_AT_ONCE)

    if deposits and (refusal := store.writing.refusal) is not None:
        outcome.error = refusal
        return outcome

    async def one(deposit: Deposit) -> None:
        async with limit:
            # a store that hung, or asked to be left alone, is not asked a hundred times
            if outcome.error is not None and isinstance(outcome.error.__cause__, TimeoutError | RetryLater):
                return
            try:
                await store.put(deposit.slot, deposit.blob, deposit.lifetime)
                outcome.stored += 1
            except WgdiscoError as error:
                outcome.error = error

    await asyncio.gather(*(one(deposit) for deposit in deposits))
    outcome.seconds = time.monotonic() - start
    return outcome


async def resolve(
    stores: Sequence[Store],
    places: Iterable[Place],
    memory: Memory,
    clock: Callable[[], int],
    settle: float | None = SETTLE,
) -> Search:
    """Ask every store for every place at once and return when all have answered, failed or passed their deadline.

    After the first record was found the others get `settle` seconds to show a fresher one (None: their whole
    deadline). A store that failed again and again, or asked to be left alone, is not asked before its rest is over.
    The caller reads `best` and `answers`; nothing found is not an error here.
    """
    search = Search(places, memory, clock)
    for store in stores:
        search.answers[store.name] = Answer(store.name)
    found = asyncio.Event()

    async def ask(store: Store) -> None:
        answer, start = search.answers[store.name], time.monotonic()
        answer.error = store.reading.refusal
        if answer.error is not None:
            answer.done = True
            return
        try:
            async with aclosing(store.fetch(search.slots)) as answers:
                async for slot, values in answers:
                    search.judge(store.name, slot, values)
                    if search.best is not None:
                        found.set()
        except WgdiscoError as error:
            answer.error = error
        answer.seconds, answer.done = time.monotonic() - start, True

    tasks = {asyncio.ensure_future(ask(store)) for store in stores}
    waiting = asyncio.ensure_future(found.wait())
    try:
        await _settled(tasks, waiting, settle)
    finally:
        for task in (*tasks, waiting):
            task.cancel()
        await asyncio.gather(*tasks, waiting, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()  # a store's failure is in its answer; anything else is a bug, and shows as one
    return search


async def _settled(tasks: set[asyncio.Task[None]], found: asyncio.Task[Any], settle: float | None) -> None:
    """Wait until all have ended, or for `settle` seconds after the first record was found."""
    pending = set(tasks)
    while pending and not found.done():
        done, _ = await asyncio.wait({*pending, found}, return_when=asyncio.FIRST_COMPLETED)
        pending -= done
    if pending:
        await asyncio.wait(pending, timeout=settle)


def require(search: Search, subject: PublicKey, hint: str = "") -> Finding:
    """The best finding; raises NotFound or, when no store answered at all, StoreError, with every store's reason."""
    if search.best is not None:
        return search.best
    reasons = "".join(f"\n  {answer}" for answer in search.answers.values())
    errors = [answer.error for answer in search.answers.values()]
    mistakes = [error for error in errors if isinstance(error, UsageError)]
    if mistakes and len(mistakes) == len(errors):
        raise mistakes[0]
    if all(error is not None for error in errors):
        raise StoreError(f"no backend answered:{reasons}")
    raise NotFound(f"no valid record of {subject.short}:{reasons}{hint}")


async def follow(
    stores: Sequence[Store], slots: Sequence[Slot], failed: Callable[[str, WgdiscoError], None]
) -> AsyncGenerator[tuple[str, Slot, list[bytes]], None]:
    """What the stores hold in the slots, now and at every change, each with the store's name; never ends by itself.

    A store that fails is reported through `failed`, left alone as its back-off says, and followed again. One that
    yields without end is heard a hundred times a second, after what it may have to say at first.
    """
    changes: asyncio.Queue[tuple[str, Slot, list[bytes]]] = asyncio.Queue(maxsize=64)

    async def pump(store: Store) -> None:
        most = len(slots) + PACE
        while True:
            try:
                async with aclosing(store.follow(slots)) as answers:
                    left, last = float(most), time.monotonic()
                    async for slot, values in answers:
                        await changes.put((store.name, slot, values))
                        now = time.monotonic()
                        left, last = min(most, left + PACE * (now - last)) - 1, now
                        if left < 0:
                            await asyncio.sleep(-left / PACE)
            except WgdiscoError as error:
                failed(store.name, error)
            await asyncio.sleep(store.reading.seconds)

    pumps = [asyncio.ensure_future(pump(store)) for store in stores]
    try:
        while True:
            yield await changes.get()
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
