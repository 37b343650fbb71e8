"""Putting one item on the nodes closest to its target (BEP 44)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wgdisco.bep44.channel import Answer
from wgdisco.bep44.contact import Contact
from wgdisco.bep44.item import Item
from wgdisco.bep44.krpc import Failure, Reply
from wgdisco.bep44.lookup import Found
from wgdisco.bep44.reader import item_in
from wgdisco.bep44.table import K

__all__ = ["Stored", "Writer"]

TRIES = 16  # nodes a put is sent to until eight have taken it

Send = Callable[[Contact, Mapping[bytes, Any]], "asyncio.Future[Answer]"]


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a put: nodes that took it, refusals by code; `newer` is a valid item of a greater number."""

    count: int
    refusals: Counter[int]
    newer: Item | None = None


class Writer:
    """Listens to the lookup before a put, then sends the puts; `cas` is the number the item is to replace."""

    def __init__(self, item: Item, cas: int | None, send: Send) -> None:
        self._item, self._cas, self._send = item, cas, send
        self._holders: set[Contact] = set()
        self.newer: Item | None = None

    def hear(self, contact: Contact, reply: Reply) -> None:
        """Note who has a version already, and the newest valid one."""
        if b"seq" in reply.values:
            self._holders.add(contact)
        other = item_in(reply, self._item.public, self._item.salt)
        if other is not None and other.seq > (self.newer or self._item).seq and other.valid():
            self.newer = other

    async def store(self, found: list[Found]) -> Stored:
        """Put to the nearest nodes that gave a token, and to the next for each that fails, until eight have it."""
        eligible = [each for each in found if each.token is not None][:TRIES]
        count, refusals = 0, Counter[int]()
        while eligible and count < K:
            batch, eligible = eligible[: K - count], eligible[K - count :]
            for answer in await asyncio.gather(*(self._put(each) for each in batch)):
                count += isinstance(answer, Reply)
                if isinstance(answer, Failure):
                    refusals[answer.code] += 1
        return Stored(count, refusals)

    def _put(self, found: Found) -> asyncio.Future[Answer]:
        item = self._item
        arguments: dict[bytes, Any] = {b"k": item.public, b"seq": item.seq, b"sig": item.signature}
        arguments |= {b"token": found.token, b"v": item.encoded}
        if item.salt:
            arguments[b"salt"] = item.salt
        # who has no version would have to ignore it (BEP 44, CAS)
        if self._cas is not None and found.contact in self._holders:
            arguments[b"cas"] = self._cas
        return self._send(found.contact, arguments)
