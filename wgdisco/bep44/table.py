"""The routing table of BEP 5: nodes that answered us, in buckets by distance. Sans I/O."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from wgdisco.bep44.contact import Contact, distance, host
from wgdisco.endpoint import Endpoint

__all__ = ["K", "Table"]

K = 8  # contacts in an answer, and replicas of an item
SIZES = (64, 32, 16)  # of the buckets for the farthest nodes, which cost little and shorten the way; all others have K
FRESH = 900.0  # seconds after an answer for which a node counts as good
BAD = 2  # queries without an answer, in a row, after which a node is replaced


@dataclass(slots=True)
class _Entry:
    contact: Contact
    answered: float
    failures: int = 0


class Table:
    """At most 160 buckets, mostly of 8 nodes, around our id (20 bytes); only who answered a query of ours gets in."""

    def __init__(self, own: bytes) -> None:
        self.own = own
        self._buckets: dict[int, dict[bytes, _Entry]] = {}
        self._ids: dict[Endpoint, bytes] = {}
        self._hosts: set[bytes] = set()
        self._touched: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def answered(self, contact: Contact, now: float) -> None:
        """Note an answer: the node is good, and takes the place of a bad one when its bucket is full."""
        if contact.id == self.own:
            return
        index = self._index(contact.id)
        self._touched[index] = now
        known = self._ids.get(contact.endpoint)
        if known is not None and known != contact.id:
            self._drop(known)  # the node behind this endpoint was started anew
        entry = self._buckets.get(index, {}).get(contact.id)
        if entry is not None and entry.contact.endpoint == contact.endpoint:
            entry.answered, entry.failures = now, 0
        elif self.wants(contact):
            self._insert(contact, now)

    def wants(self, contact: Contact) -> bool:
        """Whether there is room for a node we do not have: one id per endpoint, one endpoint per public host."""
        if contact.id == self.own or contact.endpoint in self._ids or self._claimed(contact.endpoint):
            return False
        index = self._index(contact.id)
        bucket = self._buckets.get(index, {})
        entry = bucket.get(contact.id)
        if entry is not None:
            return entry.failures >= BAD
        return len(bucket) < _size(index) or any(entry.failures >= BAD for entry in bucket.values())

    def failed(self, endpoint: Endpoint) -> None:
        """Note that a node did not answer; it stays until another wants its place: our own network may be down."""
        known = self._ids.get(endpoint)
        if known is not None:
            self._buckets[self._index(known)][known].failures += 1

    def closest(self, target: bytes, count: int = K) -> list[Contact]:
        """The good nodes closest to a target, nearest first; never a node whose last query went unanswered."""
        found: list[Contact] = []
        for index in self._outwards(target):
            found += [entry.contact for entry in self._buckets[index].values() if not entry.failures]
            # nodes of all buckets beyond the target's own differ from it in the same bit: they are sorted together
            if len(found) >= count and index <= self._index(target):
                break
        return sorted(found, key=lambda contact: distance(contact.id, target))[:count]

    def contacts(self) -> list[Contact]:
        """Every node, the one that answered last first, failing ones at the end."""
        entries = [entry for bucket in self._buckets.values() for entry in bucket.values()]
        return [entry.contact for entry in sorted(entries, key=lambda entry: (entry.failures, -entry.answered))]

    def questionable(self, now: float) -> list[Contact]:
        """Nodes that have not answered for 15 minutes or failed, and should be asked again, oldest first."""
        entries = [entry for bucket in self._buckets.values() for entry in bucket.values()]
        asked = [entry for entry in entries if entry.failures or entry.answered + FRESH <= now]
        return [entry.contact for entry in sorted(asked, key=lambda entry: entry.answered)]

    def stale(self, now: float) -> list[bytes]:
        """An id in each bucket from which nobody has answered for 15 minutes: what to look up (BEP 5, refresh)."""
        deepest = max(self._buckets, default=-1)
        return [self._random_id(index) for index in range(deepest) if self._touched.get(index, -FRESH) + FRESH <= now]

    def far(self) -> list[bytes]:
        """An id in each bucket but the deepest: what a node looks up when it joins."""
        return [self._random_id(index) for index in range(max(self._buckets, default=0))]

    def _index(self, node: bytes) -> int:
        """How many leading bits an id shares with ours; 160 is ours."""
        return 160 - distance(self.own, node).bit_length()

    def _outwards(self, target: bytes) -> Iterator[int]:
        """The buckets in use, from the target's own to the deeper ones, then to the shallower ones."""
        own, used = self._index(target), sorted(self._buckets)
        yield from (index for index in used if index == own)
        yield from (index for index in used if index > own)
        yield from (index for index in reversed(used) if index < own)

    def _random_id(self, index: int) -> bytes:
        flipped = 1 << 159 - index
        noise = int.from_bytes(os.urandom(20), "big") & flipped - 1
        return (int.from_bytes(self.own, "big") ^ flipped ^ noise).to_bytes(20, "big")

    def _insert(self, contact: Contact, now: float) -> None:
        index = self._index(contact.id)
        bucket = self._buckets.setdefault(index, {})
        if contact.id in bucket:
            self._drop(contact.id)
        elif len(bucket) >= _size(index):
            self._drop(max(bucket, key=lambda node: bucket[node].failures))
        self._buckets.setdefault(index, {})[contact.id] = _Entry(contact, now)
        self._ids[contact.endpoint] = contact.id
        if contact.endpoint.address.is_global:
            self._hosts.add(host(contact.endpoint.address))

    def _claimed(self, endpoint: Endpoint) -> bool:
        return endpoint.address.is_global and host(endpoint.address) in self._hosts

    def _drop(self, node: bytes) -> None:
        index = self._index(node)
        entry = self._buckets[index].pop(node)
        if not self._buckets[index]:
            del self._buckets[index]
        del self._ids[entry.contact.endpoint]
        self._hosts.discard(host(entry.contact.endpoint.address))


def _size(index: int) -> int:
    return SIZES[index] if index < len(SIZES) else K
