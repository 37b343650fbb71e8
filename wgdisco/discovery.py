"""Publish, resolve, follow: ask every store at once, verify, keep the freshest.

A store can withhold; it can never forge, roll back, redirect or read. So every value of every store is judged by the
reader's rules first (freshness.py), and only then the greatest `issued` wins; an absent answer never beats one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from wgdisco.audience import Place
from wgdisco.backend import Slot
from wgdisco.errors import NotFound, RecordRefused, RetryLater, StoreError, UsageError, WgdiscoError
from wgdisco.freshness import Accepted, Marks, read
from wgdisco.keys import PublicKey
from wgdisco.record import Record
from wgdisco.store import Store

__all__ = ["Answer", "Deposit", "Finding", "Memory", "Outcome", "follow", "publish", "resolve", "slot_of"]

PUTS_AT_ONCE = 16  # of one store
VERDICTS = 256  # of one search that are remembered, so that what many stores hold is judged once
ISSUES = 16  # accepted from one store for one subject that are remembered
SETTLE = 1.0  # seconds to wait for something newer after the first record was found


class Memory(Protocol):
    """Where the marks of other keys are kept; `State` is one, and remembers them over a restart."""

    def marks(self, subject: PublicKey) -> Marks:
        """The marks of one key."""

    def remember(self, subject: PublicKey, marks: Marks) -> None:
        """Keep them."""


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


@dataclass(slots=True)
class Answer:
    """What one store answered for one subject: accepted issues, reasons of refusal, and its error if it failed."""

    backend: str
    accepted: list[int] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    error: WgdiscoError | None = None
    done: bool = False

    def __str__(self) -> str:
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(self.refused.items()))
        parts = [f"{len(self.accepted)} accepted"] if self.accepted else []
        parts += [f"refused: {refused}"] if refused else []
        if self.error is not None:
            parts += [str(self.error).removeprefix(f"{self.backend}: ")]
        elif not self.done:
            parts += ["no answer yet"]
        return f"{self.backend}: {'; '.join(parts) or 'nothing there'}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A record, the store that gave it first, its place, and the bytes it came in (to be put again elsewhere)."""

    record: Record
    backend: str
    place: Place
    blob: bytes
    equivocation: bool = False


def slot_of(place: Place) -> Slot:
    """The slot of a place, for reading."""
    return Slot(place.id, place.text, place.public)


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


class Search:
    """One subject looked for in several stores: judges every value once and keeps the freshest finding.

    `places` come with the narrowest audience first.
    """

    def __init__(self, places: Iterable[Place], memory: Memory, clock: Callable[[], int]) -> None:
        self.places = {place.id: place for place in places}
        self.networks = list(dict.fromkeys(place.network for place in self.places.values()))
        self.memory, self.clock = memory, clock
        self.best: Finding | None = None
        self.answers: dict[str, Answer] = {}
        self._verdicts: dict[tuple[bytes, bytes], Accepted | str] = {}
        self._held: dict[tuple[str, bytes], list[bytes]] = {}

    @property
    def slots(self) -> list[Slot]:
        """Where to look."""
        return [slot_of(place) for place in self.places.values()]

    def judge(self, backend: str, slot: Slot, values: Iterable[bytes]) -> bool:
        """Judge what a store holds in a slot; whether that brought a fresher finding."""
        answer, place = self.answers.setdefault(backend, Answer(backend)), self.places.get(slot.id)
        if place is None:
            return False
        fresher, values = False, list(values)
        before = self._hold(backend, place, values)
        for blob in values:
            verdict = self._verdict(blob, place)
            if isinstance(verdict, str):
                answer.refused[verdict] += 1
                continue
            if blob not in before:
                answer.accepted = [*answer.accepted, verdict.record.issued][-ISSUES:]
            rank, best = self._rank(verdict.record), None if self.best is None else self._rank(self.best.record)
            # of two records of one time the reader's rules have let the larger one through
            if best is None or rank > best or (verdict.equivocation and rank == best):
                self.best = Finding(verdict.record, backend, place, blob, verdict.equivocation)
                fresher = True
        return fresher

    def _hold(self, backend: str, place: Place, values: list[bytes]) -> list[bytes]:
        """Note what a store has in a slot, and forget the verdicts on what none has any more; what it had before."""
        before = self._held.pop((backend, place.id), [])
        if values:
            self._held[backend, place.id] = before if before == values else values  # one copy of equal bytes
        for blob in before:
            if not any(slot == place.id and blob in held for (_, slot), held in self._held.items()):
                self._verdicts.pop((place.id, blob), None)
        return before

    def _rank(self, record: Record) -> tuple[int, int]:
        # what was said at the same time to fewer readers says more
        return record.issued, -self.networks.index(record.network)

    def _verdict(self, blob: bytes, place: Place) -> Accepted | str:
        """The accepted record, or the reason's name."""
        key = (place.id, blob)
        if key not in self._verdicts:
            while len(self._verdicts) >= VERDICTS:
                del self._verdicts[next(iter(self._verdicts))]
            marks = self.memory.marks(place.subject)
            try:
                self._verdicts[key] = read(blob, place, marks, self.clock())
            except RecordRefused as refused:
                self._verdicts[key] = refused.reason
            self.memory.remember(place.subject, marks)
        return self._verdicts[key]


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

    A store that fails is reported through `failed`, left alone as its back-off says, and followed again.
    """
    changes: asyncio.Queue[tuple[str, Slot, list[bytes]]] = asyncio.Queue(maxsize=64)

    async def pump(store: Store) -> None:
        while True:
            try:
                async with aclosing(store.follow(slots)) as answers:
                    async for slot, values in answers:
                        await changes.put((store.name, slot, values))
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
