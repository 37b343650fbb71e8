"""What a lookup's replies say about one item, checked. Sans I/O."""

from __future__ import annotations

from collections.abc import Callable

from wgdisco.bep44.bencode import Raw
from wgdisco.bep44.contact import Contact
from wgdisco.bep44.item import Item
from wgdisco.bep44.krpc import Reply

__all__ = ["Reader", "item_in"]


def item_in(reply: Reply, public: bytes, salt: bytes) -> Item | None:
    """The item under `public` that a reply carries, its signature not checked yet; None for none or another key's."""
    seq, encoded, signature = (reply.values.get(name) for name in (b"seq", b"v", b"sig"))
    if reply.values.get(b"k") != public or not isinstance(seq, int):
        return None
    if not isinstance(encoded, Raw) or not isinstance(signature, bytes):
        return None
    return Item(public, seq, encoded, signature, salt)


class Reader:
    """Passes each different valid item on, once: `emit(item)`. Equal ones cost no second signature check."""

    def __init__(self, public: bytes, salt: bytes, emit: Callable[[Item], None]) -> None:
        self._public, self._salt, self._emit = public, salt, emit
        self._seen: set[tuple[int, bytes]] = set()

    def hear(self, contact: Contact, reply: Reply) -> None:  # noqa: ARG002 - who says it does not matter
        """Take one reply of the lookup."""
        item = item_in(reply, self._public, self._salt)
        if item is not None and (item.seq, item.encoded) not in self._seen and item.valid():
            # only what is valid is remembered: a bad signature must not hide the same value with a good one
            self._seen.add((item.seq, item.encoded))
            self._emit(item)
