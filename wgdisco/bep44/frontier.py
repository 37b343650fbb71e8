"""Whom a lookup asks next, and when it is over. Sans I/O."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from wgdisco.bep44.contact import Contact, distance, host, reachable
from wgdisco.bep44.table import K

__all__ = ["Candidate", "Frontier", "State"]

WIDTH = 8  # queries that wait for their answer within our patience
MOST = 128  # queries of one lookup
REMEMBERED = 512  # nodes of which we have heard
EMPTY_WORDS = 4  # silent nodes, and none that answered, after which what the same node named comes last
DOUBTFUL = 24  # queries for nodes that only such nodes named


class State(Enum):
    """How far we are with a node."""

    NEW = "not asked"
    ASKED = "asked"
    ANSWERED = "answered"
    SILENT = "given up"


@dataclass(slots=True, order=True)
class Candidate:
    """A node of which we have heard, ordered by its distance to the target; `asked` is when we did."""

    distance: int
    contact: Contact
    named_by: list[Contact] = field(compare=False, default_factory=list)
    state: State = field(compare=False, default=State.NEW)
    asked: float = field(compare=False, default=0.0)


class Frontier:
    """The nodes of one lookup, nearest first. A node that lies costs a few queries, a silent one our patience.

    The nearest 8 that answer are the result. Nodes past our patience no longer hold a place among the queries
    under way, but those nearer than the eighth are waited for 2.5 times as long before the lookup ends.
    """

    def __init__(self, target: bytes, own: bytes) -> None:
        self.target = target
        self._own = own
        self._sorted: list[Candidate] = []
        self._known: dict[bytes, Candidate] = {}
        self._hosts: set[bytes] = set()
        self._asked = self._doubtful = 0
        self._silent: Counter[Contact] = Counter()
        self._heard: Counter[Contact] = Counter()

    def add(self, contacts: Iterable[Contact], named_by: Contact | None = None) -> None:
        """Take nodes that another node named, or our own routing table."""
        for contact in contacts:
            known = self._known.get(contact.id)
            if known is not None and named_by is not None and known.contact == contact:
                known.named_by.append(named_by)
            elif known is None and self._acceptable(contact, named_by):
                self._insert(Candidate(distance(contact.id, self.target), contact, [named_by] if named_by else []))
        for farthest in self._sorted[REMEMBERED:]:
            if farthest.state is State.NEW:
                self._sorted.remove(farthest)

    def next(self, now: float, patience: float) -> Candidate | None:
        """The node to ask now; it counts as asked. None when enough are under way or nobody is left."""
        window = list(self._window())
        busy = sum(each.state is State.ASKED and now - each.asked < patience for each in window)
        if busy >= WIDTH or self._asked >= MOST:
            return None
        new = [each for each in window if each.state is State.NEW]
        if not new:
            return None
        candidate = next((each for each in new if self._believed(each)), new[0])
        self._doubtful += not self._believed(candidate)
        self._asked += 1
        candidate.state, candidate.asked = State.ASKED, now
        return candidate

    def answered(self, candidate: Candidate) -> None:
        """Note that a node answered as the one it was said to be."""
        candidate.state = State.ANSWERED
        self._heard.update(candidate.named_by)

    def silent(self, candidate: Candidate) -> None:
        """Note that a node did not answer, or is not the one it was said to be."""
        if candidate.state is State.ASKED:
            self._silent.update(candidate.named_by)
        candidate.state = State.SILENT

    def wait(self, now: float, patience: float) -> float:
        """Seconds until something is to be done although no answer comes; 0 when the lookup is over."""
        waited = [now - each.asked for each in self._window() if each.state is State.ASKED]
        ends = [limit - seconds for seconds in waited for limit in (patience, 2.5 * patience)]
        return min((end for end in ends if end > 0), default=0.0)

    def give_up(self, now: float, patience: float) -> None:
        """Count the asked nodes past 2.5 times our patience as silent."""
        for candidate in self._sorted:
            if candidate.state is State.ASKED and now - candidate.asked >= 2.5 * patience:
                self.silent(candidate)

    @property
    def closest(self) -> list[Candidate]:
        """The nodes that answered, nearest first."""
        return [candidate for candidate in self._sorted if candidate.state is State.ANSWERED]

    @property
    def asked(self) -> int:
        """How many nodes were asked."""
        return self._asked

    def _insert(self, candidate: Candidate) -> None:
        self._known[candidate.contact.id] = candidate
        if candidate.contact.endpoint.address.is_global:
            self._hosts.add(host(candidate.contact.endpoint.address))
        insort(self._sorted, candidate)

    def _acceptable(self, contact: Contact, named_by: Contact | None) -> bool:
        """Never ourselves, another address family, a place we must not send to, or a second node of a public host."""
        address = contact.endpoint.address
        if contact.id == self._own or (address.is_global and host(address) in self._hosts):
            return False
        if named_by is None:
            return True
        return address.version == named_by.endpoint.address.version and reachable(contact.endpoint, named_by.endpoint)

    def _believed(self, candidate: Candidate) -> bool:
        voices = candidate.named_by
        return not voices or any(self._heard[each] or self._silent[each] < EMPTY_WORDS for each in voices)

    def _window(self) -> Iterator[Candidate]:
        """Nearest first, without the silent and too many doubtful ones, up to the eighth that answered.

        Where most nodes are silent the others' tables are out of date too: then up to the sixteenth.
        """
        answered = silent = 0
        for candidate in self._sorted:
            if candidate.state is State.SILENT:
                silent += 1
            elif candidate.state is not State.NEW or self._doubtful < DOUBTFUL or self._believed(candidate):
                yield candidate
                answered += candidate.state is State.ANSWERED
            if answered >= K and answered >= min(silent, 2 * K):
                return
