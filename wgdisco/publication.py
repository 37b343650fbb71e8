"""Sign what a node says, once for each audience, and lay it out for the stores: which blob goes into which slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec.structs import replace as altered

from wgdisco.audience import BIGGEST, Audience, Place, sealed_size
from wgdisco.discovery import Deposit
from wgdisco.errors import UsageError
from wgdisco.keys import PrivateKey
from wgdisco.record import Candidate, Record, decode_body, decode_head, encode, sign
from wgdisco.search import slot_of
from wgdisco.state import State

__all__ = ["Publisher", "Sheet"]

REFRESH = 3  # a record is signed anew after this part of its lifetime


@dataclass(frozen=True)
class Sheet:
    """What goes into every store that takes values of one size: the deposits, and how many candidates were left out."""

    issued: int
    deposits: Sequence[Deposit]
    dropped: int = 0


class Publisher:
    """Signs what one key says, and remembers it before it leaves."""

    def __init__(self, private: PrivateKey, state: State, clock: Callable[[], int]) -> None:
        """Take the key that signs and the state that remembers what it said."""
        self.private, self.state, self.clock = private, state, clock

    def say(
        self,
        audiences: Sequence[Audience],
        candidates: Sequence[Candidate],
        hints: Mapping[str, Any],
        lifetime: int,
    ) -> dict[bytes, Record]:
        """The record for each audience (by its network id), not yet dated; `lifetime` in seconds."""
        return {
            audience.network: Record(
                subject=self.private.public,
                network=audience.network,
                issued=0,
                lifetime=lifetime,
                candidates=tuple(candidates),
                hints=dict(hints),
            )
            for audience in audiences
        }

    def repeats(self, said: Mapping[bytes, Record]) -> int | None:
        """When exactly this was said to all, if that is less than a third of its lifetime ago; else None."""
        times = set()
        for network, record in said.items():
            known = self.state.published(network)
            if known is None or decode_body(decode_head(known.statement[64:]), record.subject) != altered(
                record, issued=known.issued
            ):
                return None
            times.add(known.issued)
        issued = times.pop() if len(times) == 1 else None
        lifetime = min((record.lifetime for record in said.values()), default=0)
        if issued is None or not issued <= self.clock() < issued + 1000 * lifetime // REFRESH:
            return None
        return issued

    def sheets(
        self, audiences: Sequence[Audience], said: Mapping[bytes, Record], sizes: Sequence[int]
    ) -> dict[int, Sheet]:
        """A sheet for each size of value that the stores take.

        The same again re-puts the identical bytes. Small sizes are signed first and so are older: nobody prefers them
        to the whole record.
        """
        issued = self.repeats(said) if all(size >= BIGGEST for size in sizes) else None
        return {size: self._sheet(audiences, said, size, issued) for size in sorted(set(sizes))}

    def _sheet(
        self, audiences: Sequence[Audience], said: Mapping[bytes, Record], size: int, repeated: int | None
    ) -> Sheet:
        now, repeat = self.clock(), repeated is not None
        issued = self.state.stamp(now) if repeated is None else repeated
        deposits, dropped = [], 0
        with self.state.transaction():
            for audience in audiences:
                record = altered(said[audience.network], issued=issued)
                statement, less = self._statement(record, size, repeat=repeat)
                dropped = max(dropped, less)
                self.state.keep_published(audience.network, statement, issued, record.end)
                end = max(record.end, self.state.latest_end(audience.network))
                places = audience.writable(record.subject, now, end)
                deposits += [self._deposit(place, statement, record, end, repeat=repeat) for place in places]
        return Sheet(issued, deposits, dropped)

    def latest(self, audiences: Sequence[Audience], now: int) -> list[Deposit]:
        """What was said last to each audience and has not ended, as it lies in the slots of now and later."""
        deposits = []
        for audience in audiences:
            known = self.state.published(audience.network)
            if known is not None and known.end > now:
                record = decode_body(decode_head(known.statement[64:]), self.private.public)
                places = [
                    each for each in audience.writable(record.subject, now, known.end) if self.state.blob(each.id)
                ]
                deposits += [self._deposit(each, known.statement, record, known.end, repeat=True) for each in places]
        return deposits

    def _statement(self, record: Record, size: int, *, repeat: bool) -> tuple[bytes, int]:
        if repeat and (known := self.state.published(record.network)) is not None:
            return known.statement, 0
        for kept in range(len(record.candidates), -1, -1):
            payload = encode(altered(record, candidates=record.candidates[:kept]))
            if sealed_size(64 + len(payload)) <= size:
                return sign(payload, self.private), len(record.candidates) - kept
        raise UsageError(f"a store that takes {size} bytes a value cannot hold a record of {record.subject.short}")

    def _deposit(self, place: Place, statement: bytes, record: Record, end: int, *, repeat: bool) -> Deposit:
        blob = self.state.blob(place.id) if repeat else None
        if blob is None:
            blob = place.seal(statement)
            self.state.keep_blob(place.id, blob, end)
        slot = replace(
            slot_of(place),
            seq=place.offset + record.issued,
            expires=-(-end // 1000),
            sign=self.private.slot_signer(place.blinding).sign,
        )
        return Deposit(slot, blob, max(1, -(-(record.end - self.clock()) // 1000)))
