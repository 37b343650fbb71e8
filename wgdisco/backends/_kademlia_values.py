"""What members of a kademlia swarm store: a blob signed for its slot, admitted by whoever holds it. Sans I/O."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import NamedTuple

from wgdisco import keys
from wgdisco.backend import Slot

__all__ = ["BIGGEST", "KEPT", "Shelf", "Value", "admitted"]

HEAD, LARGEST = 104, 681  # bytes: key, number and signature; a blob
BIGGEST = HEAD + LARGEST  # bytes of a value
KEPT = 7200.0  # seconds for which a value is held
MOST = 4096  # values one member holds, about 4 MB
TRUTH = "taken"


class Value(NamedTuple):
    """One version of a slot's blob: slot key (32 bytes), number, signature (64 bytes), blob (up to 681 bytes)."""

    public: bytes
    seq: int
    signature: bytes
    blob: bytes

    @classmethod
    def signed(cls, slot: Slot, blob: bytes) -> Value:
        """The value for a slot that can sign (SPEC section 4: what is signed is BEP 44's bytes)."""
        return cls(slot.public, slot.seq, slot.sign(slot.seq, blob), blob)

    @property
    def key(self) -> bytes:
        """Where it lies: the slot's id, 20 bytes, which follows from the slot's key (SPEC section 4)."""
        return hashlib.blake2b(self.public, digest_size=20, person=b"wgdisco slot").digest()

    def encode(self) -> bytes:
        """The bytes that are stored: key, number (8 bytes, big-endian), signature, blob."""
        return self.public + self.seq.to_bytes(8) + self.signature + self.blob


def admitted(key: bytes, data: object) -> Value | None:
    """The value in `data` if its signature is right and `key` is where it belongs, else None."""
    if not isinstance(data, bytes) or not HEAD <= len(data) <= BIGGEST:
        return None
    value = Value(data[:32], int.from_bytes(data[32:40]), data[40:HEAD], data[HEAD:])
    message = b"3:seqi%de1:v%d:%b" % (value.seq, len(value.blob), value.blob)
    return value if value.key == key and keys.verify(value.public, message, value.signature) else None


class Shelf:
    """What one member holds: at most 4096 values, each for two hours after it was stored last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[bytes, tuple[float, bytes]] = {}

    def store(self, key: object, data: object) -> str:
        """Hold a value; returns `taken`, or why it is not held: `invalid`, `older`, `full`."""
        value = admitted(key, data) if isinstance(key, bytes) else None
        if value is None:
            return "invalid"
        before = self.get(value.key)
        if before is not None and before != value.encode() and int.from_bytes(before[32:40]) >= value.seq:
            # a signature may be made twice over the same content
            known = admitted(value.key, before)
            if known is None or (known.seq, known.blob) != (value.seq, value.blob):
                return "older"
        if before is None and len(self._held) >= MOST:
            self._expire()
            if len(self._held) >= MOST:
                return "full"
        self._held[value.key] = (self._clock(), value.encode())
        return TRUTH

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """The bytes held for a key."""
        stored, data = self._held.get(key, (0.0, b""))
        return data if data and self._clock() - stored < KEPT else default

    def _expire(self) -> None:
        now = self._clock()
        self._held = {key: held for key, held in self._held.items() if now - held[0] < KEPT}
