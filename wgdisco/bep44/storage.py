"""What a storing node keeps: mutable items by target, bounded, for two hours (BEP 44). Sans I/O."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from wgdisco.bep44.item import BIGGEST, Item
from wgdisco.bep44.krpc import Code, Refusal

__all__ = ["Storage"]

LIFETIME = 7200.0  # seconds without a new put
LONGEST_SALT = 64


@dataclass(slots=True)
class _Kept:
    item: Item
    writer: bytes
    until: float


class Storage:
    """At most `capacity` items; the one not used for the longest time goes first; one host fills at most an eighth."""

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self.share = max(1, capacity // 8)
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._by_writer: dict[bytes, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, target: bytes, now: float) -> Item | None:
        """The item under a target (20 bytes), if there is one that has not expired."""
        kept = self._kept.get(target)
        if kept is None:
            return None
        if kept.until <= now:
            self._drop(target)
            return None
        self._kept.move_to_end(target)
        return kept.item

    def put(self, item: Item, writer: bytes, now: float, cas: int | None = None) -> None:
        """Keep an item that `writer` (a host) sent; raises Refusal with the code of BEP 44.

        The same item again starts its lifetime anew; another value under the same number is refused, so that whoever
        signs two of them cannot have both.
        """
        _check_size(item)
        stored = self.get(item.target, now)
        if stored is not None:
            _check_order(stored, item, cas)
        if not item.valid():
            raise Refusal(Code.SIGNATURE, "invalid signature")
        self._keep(item, writer, now)

    def expire(self, now: float) -> None:
        """Forget what nobody has put for two hours."""
        for target in [target for target, kept in self._kept.items() if kept.until <= now]:
            self._drop(target)

    def _keep(self, item: Item, writer: bytes, now: float) -> None:
        target = item.target
        kept = self._kept.get(target)
        if kept is not None:
            # the first writer stays the owner: else a stranger could put our item again and let it go with his own
            kept.item, kept.until = item, now + LIFETIME
            return
        own = self._by_writer.get(writer, {})
        if len(own) >= self.share:
            self._drop(next(iter(own)))
        elif len(self._kept) >= self.capacity:
            self._drop(next(iter(self._kept)))
        self._kept[target] = _Kept(item, writer, now + LIFETIME)
        self._by_writer.setdefault(writer, {})[target] = None

    def _drop(self, target: bytes) -> None:
        kept = self._kept.pop(target)
        own = self._by_writer[kept.writer]
        del own[target]
        if not own:
            del self._by_writer[kept.writer]


def _check_size(item: Item) -> None:
    if len(item.encoded) > BIGGEST:
        raise Refusal(Code.TOO_BIG, f"v has {len(item.encoded)} bytes, at most {BIGGEST} are kept")
    if len(item.salt) > LONGEST_SALT:
        raise Refusal(Code.SALT_TOO_BIG, f"salt has {len(item.salt)} bytes, at most {LONGEST_SALT} are allowed")


def _check_order(stored: Item, item: Item, cas: int | None) -> None:
    if cas is not None and cas != stored.seq:
        raise Refusal(Code.CAS_MISMATCH, f"cas mismatch, the sequence number is {stored.seq}")
    if item.seq < stored.seq:
        raise Refusal(Code.OLD_SEQ, f"sequence number less than {stored.seq}")
    if item.seq == stored.seq and item.encoded != stored.encoded:
        raise Refusal(Code.OLD_SEQ, f"another value has sequence number {stored.seq}")
