"""An iterative lookup: ask ever closer nodes until the closest eight have answered (BEP 5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from wgdisco.bep44.channel import Answer, Patience
from wgdisco.bep44.contact import Contact
from wgdisco.bep44.frontier import Candidate, Frontier
from wgdisco.bep44.krpc import Reply

__all__ = ["Ask", "Found", "Hear", "Lookup"]

Ask = Callable[[Contact], "asyncio.Future[Answer]"]
Hear = Callable[[Contact, Reply], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A node that answered a lookup, and the token it gave for the target."""

    contact: Contact
    token: bytes | None


class Lookup:
    """One lookup in one address family; `ask` sends the query to a node, `hear` sees each reply as it arrives."""

    def __init__(self, frontier: Frontier, ask: Ask, hear: Hear, patience: Patience) -> None:
        self._frontier = frontier
        self._ask, self._hear, self._patience = ask, hear, patience
        self._waiting: dict[asyncio.Future[Answer], Candidate] = {}
        self._tokens: dict[Contact, bytes | None] = {}

    @property
    def asked(self) -> int:
        """How many nodes were asked so far."""
        return self._frontier.asked

    async def run(self) -> list[Found]:
        """Look up from the nodes that the frontier has; the nodes that answered, nearest first."""
        clock = asyncio.get_running_loop().time
        frontier, patience = self._frontier, self._patience
        while True:
            now = clock()
            frontier.give_up(now, patience.seconds)
            while (candidate := frontier.next(now, patience.seconds)) is not None:
                self._waiting[self._ask(candidate.contact)] = candidate
            pause = frontier.wait(now, patience.seconds)
            if not pause:
                return [Found(each.contact, self._tokens[each.contact]) for each in frontier.closest]
            done, _ = await asyncio.wait(self._waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            for answer in done:
                self._take(self._waiting.pop(answer), answer.result())

    def _take(self, candidate: Candidate, answer: Answer) -> None:
        """Use a reply even when it comes late; a node under another id than it was said to have is not believed."""
        if isinstance(answer, Reply):
            self._hear(candidate.contact, answer)
        if not isinstance(answer, Reply) or answer.id != candidate.contact.id:
            self._frontier.silent(candidate)
            return
        self._frontier.answered(candidate)
        self._tokens[candidate.contact] = answer.token
        self._frontier.add(answer.contacts, candidate.contact)
