"""One subject looked for in several stores: every value is judged once, and the freshest record kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

from wgdisco.audience import SKEW, Place
from wgdisco.backend import Slot
from wgdisco.errors import RecordRefused, WgdiscoError
from wgdisco.freshness import Accepted, Marks, read
from wgdisco.keys import PublicKey
from wgdisco.record import Record

__all__ = ["Answer", "Finding", "Memory", "Search", "slot_of"]

VERDICTS = 256  # of one search that are remembered, so that what many stores hold is judged once
ISSUES = 16  # accepted from one store for one subject that are remembered


class Memory(Protocol):
    """Where the marks of other keys are kept; `State` is one, and remembers them over a restart."""

    def marks(self, subject: PublicKey) -> Marks:
        """The marks of one key."""

    def remember(self, subject: PublicKey, marks: Marks) -> None:
        """Keep them."""


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


class _Refusal(NamedTuple):
    """What is remembered of a RecordRefused."""

    reason: str
    since: float
    until: float


def slot_of(place: Place) -> Slot:
    """The slot of a place, for reading."""
    return Slot(place.id, place.text, place.public)


class Search:
    """One subject looked for in several stores: judges every value once and keeps the freshest finding.

    `places` come with the narrowest audience first. A verdict stands until the clock says otherwise: `ripens` is when
    (milliseconds) the next value that came from the future can be judged with `again`.
    """

    def __init__(self, places: Iterable[Place], memory: Memory, clock: Callable[[], int]) -> None:
        self.places = {place.id: place for place in places}
        self.networks = list(dict.fromkeys(place.network for place in self.places.values()))
        self.memory, self.clock = memory, clock
        self.best: Finding | None = None
        self.answers: dict[str, Answer] = {}
        self.ripens = inf
        self._verdicts: dict[tuple[bytes, bytes], Accepted | _Refusal] = {}
        self._held: dict[tuple[str, bytes], list[bytes]] = {}

    @property
    def slots(self) -> list[Slot]:
        """Where to look."""
        return [slot_of(place) for place in self.places.values()]

    def judge(self, backend: str, slot: Slot, values: Iterable[bytes]) -> bool:
        """Judge what a store holds in a slot; whether that brought a fresher finding."""
        self.answers.setdefault(backend, Answer(backend))
        place, values = self.places.get(slot.id), list(values)
        if place is None:
            return False
        return self._weigh(backend, place, values, self._hold(backend, place, values))

    def again(self) -> bool:
        """Judge again what the stores hold where the clock may have changed the verdict; whether that was fresher."""
        fresher, everything = False, self._suspended()
        settled = {(slot, blob) for (_, slot), held in self._held.items() for blob in held if self._known(slot, blob)}
        for (backend, slot), held in self._held.items():
            before = [blob for blob in held if (slot, blob) in settled]
            values = held if everything else [blob for blob in held if blob not in before]
            fresher |= self._weigh(backend, self.places[slot], values, before)
        early = (each for each in self._verdicts.values() if isinstance(each, _Refusal) and each.reason == "future")
        self.ripens = min((each.until for each in early), default=inf)
        return fresher

    def _weigh(self, backend: str, place: Place, values: Iterable[bytes], before: Container[bytes]) -> bool:
        """Judge values from a place, of which some were counted `before`; whether that brought a fresher finding."""
        answer, fresher = self.answers[backend], False
        for blob in values:
            verdict = self._verdict(blob, place)
            if isinstance(verdict, _Refusal):
                answer.refused[verdict.reason] += 1
                continue
            if blob not in before:
                answer.accepted = [*answer.accepted, verdict.record.issued][-ISSUES:]
            if self._fresher(verdict):
                self.best = Finding(verdict.record, backend, place, blob, verdict.equivocation)
                fresher = True
        return fresher

    def _fresher(self, verdict: Accepted) -> bool:
        if self.best is None or self._suspended():
            return True
        rank, best = self._rank(verdict.record), self._rank(self.best.record)
        # of two records of one time the reader's rules have let the larger one through
        return rank > best or (verdict.equivocation and rank == best)

    def _suspended(self) -> bool:
        """Whether the best one was found while our clock was ahead: it must not stand in the way of what is true."""
        return self.best is not None and self.best.record.issued > self.clock() + SKEW

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

    def _verdict(self, blob: bytes, place: Place) -> Accepted | _Refusal:
        """The accepted record, or why it is refused."""
        if (known := self._known(place.id, blob)) is not None:
            return known
        self._verdicts.pop((place.id, blob), None)
        while len(self._verdicts) >= VERDICTS:
            del self._verdicts[next(iter(self._verdicts))]
        verdict = self._verdicts[place.id, blob] = self._judged(blob, place)
        if isinstance(verdict, _Refusal) and verdict.reason == "future":
            self.ripens = min(self.ripens, verdict.until)
        return verdict

    def _known(self, slot: bytes, blob: bytes) -> Accepted | _Refusal | None:
        """What was found before, if the clock still allows it."""
        verdict = self._verdicts.get((slot, blob))
        return verdict if verdict is not None and verdict.since <= self.clock() < verdict.until else None

    def _judged(self, blob: bytes, place: Place) -> Accepted | _Refusal:
        marks = self.memory.marks(place.subject)
        try:
            return read(blob, place, marks, self.clock())
        except RecordRefused as refused:
            return _Refusal(refused.reason, refused.since, refused.until)
        finally:
            self.memory.remember(place.subject, marks)
