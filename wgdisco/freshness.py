"""Order, age and clocks: the publisher's and the reader's rules (SPEC section 5).

A wrong clock suspends what it produced and destroys nothing: marks above the edge of now are ignored, not deleted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from wgdisco.audience import SKEW, Place
from wgdisco.errors import RecordRefused
from wgdisco.record import Record, decode_body, decode_head, verified

__all__ = ["MARGIN", "Accepted", "Mark", "Marks", "read", "stamp"]

MARGIN = 1_000  # milliseconds by which a publisher stays below a reader's limit, M in SPEC section 5
KEPT = 64  # marks a key, SPEC section 5


@dataclass(slots=True)
class Mark:
    """A remembered timestamp (milliseconds) and the SHA-256 of the payload seen in each network at that time."""

    issued: int
    digests: dict[bytes, bytes] = field(default_factory=dict)


class Marks:
    """The remembered timestamps of one key, oldest first; at most 64, so chosen that no wrong clock costs a floor."""

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self.all = sorted(marks, key=_issued)

    def last(self, edge: int) -> Mark | None:
        """The greatest mark that is not above `edge` (milliseconds)."""
        index = bisect_right(self.all, edge, key=_issued)
        return self.all[index - 1] if index else None

    def add(self, issued: int) -> Mark:
        """Remember a timestamp; beyond 64 another one is forgotten."""
        index = bisect_right(self.all, issued, key=_issued)
        if index and self.all[index - 1].issued == issued:
            return self.all[index - 1]
        mark = Mark(issued)
        self.all.insert(index, mark)
        if len(self.all) > KEPT:
            del self.all[self._dispensable(index)]
        return mark

    def _dispensable(self, new: int) -> int:
        """The oldest whose neighbours are close, else the oldest; what a clock far ahead left leaves half the room."""
        for index in range(1, len(self.all) - 1):
            if index != new and self.all[index + 1].issued - self.all[index - 1].issued <= SKEW:
                return index
        return 0 if new >= KEPT // 2 else new + 1

    def merged(self, other: Marks) -> Marks:
        """Both together, as if one reader had seen all."""
        both = Marks(Mark(mark.issued, dict(mark.digests)) for mark in self.all)
        for mark in other.all:
            digests = both.add(mark.issued).digests
            for network, digest in mark.digests.items():
                digests[network] = max(digest, digests.get(network, digest))
        return both

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Marks) and self.all == other.all

    __hash__ = None  # type: ignore[assignment] # it changes


def _issued(mark: Mark) -> int:
    return mark.issued


def stamp(marks: Marks, now: int) -> int:
    """The publisher's next timestamp (milliseconds), added to `marks`; make them durable before it leaves."""
    last = marks.last(now + SKEW - MARGIN)
    issued = now if last is None else max(now, last.issued + 1)
    # a clock that was a little ahead may have used it
    while (taken := marks.last(issued)) is not None and taken.issued == issued:
        issued += 1
    marks.add(issued)
    return issued


@dataclass(frozen=True)
class Accepted:
    """A record that may be used; `equivocation` when the subject said two things at the same time (an alarm).

    That is so while the clock (milliseconds) is at least `since` and below `until`.
    """

    record: Record
    equivocation: bool = False

    @property
    def since(self) -> float:
        """Before that it comes from the future."""
        return self.record.issued - SKEW

    @property
    def until(self) -> float:
        """From then on it has expired."""
        return self.record.end + SKEW + 1


def read(blob: bytes, place: Place, marks: Marks, now: int) -> Accepted:
    """Judge a blob found at a place at `now` (milliseconds), in the order of SPEC section 5; updates `marks`.

    Raises RecordRefused with the reason's name. A record that is refused as `unsupported`, `malformed` in its body or
    `expired` is marked all the same, so that it cannot be bypassed with an older one.
    """
    payload = verified(place.unseal(blob), place.subject)
    head = decode_head(payload)
    if head.subject != place.subject.raw or head.network != place.network:
        raise RecordRefused("binding", "it speaks of another key or to another audience")
    if head.issued > now + SKEW:
        ahead = (head.issued - now) / 1000
        raise RecordRefused("future", f"issued {ahead:.0f} s ahead of our clock", until=head.issued - SKEW)
    equivocation = _mark(marks, head.issued, head.network, sha256(payload).digest(), now)
    if head.must:
        raise RecordRefused("unsupported", f"it needs {', '.join(map(ascii, head.must))}; a newer wgdisco may know it")
    record = decode_body(head, place.subject)
    if now > record.end + SKEW:
        raise RecordRefused("expired", f"{(now - record.end) / 1000:.0f} s ago", since=record.end + SKEW + 1)
    return Accepted(record, equivocation)


def _mark(marks: Marks, issued: int, network: bytes, digest: bytes, now: int) -> bool:
    """Remember what was said; whether it contradicts what was said before. Raises RecordRefused."""
    last = marks.last(now + SKEW)
    if last is not None and issued < last.issued:
        older = (last.issued - issued) / 1000
        raise RecordRefused("rollback", f"{older:.0f} s older than one seen before", since=last.issued - SKEW)
    known = last.digests.get(network) if last is not None and last.issued == issued else None
    if known is not None and known > digest:
        raise RecordRefused("equivocation", "the same time was given to two different records", since=issued - SKEW)
    marks.add(issued).digests[network] = digest
    return known is not None and known != digest
