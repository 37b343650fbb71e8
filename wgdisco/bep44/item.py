"""A signed value that can be replaced: BEP 44's mutable item. Sans I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from wgdisco import keys
from wgdisco.bep44.bencode import BencodeError, Raw, decode, encode

__all__ = ["BIGGEST", "Item", "target_of"]

BIGGEST = 1000  # bytes of a value in its bencoded form
LAST_SEQ = 2**63 - 1


def target_of(public: bytes, salt: bytes = b"") -> bytes:
    """Where an item lies: SHA-1 of public key and salt, 20 bytes."""
    return hashlib.sha1(public + salt, usedforsecurity=False).digest()


@dataclass(frozen=True, slots=True)
class Item:
    """One version: Ed25519 key (32 bytes), number, bencoded value (up to 1000), signature (64), salt (up to 64)."""

    public: bytes
    seq: int
    encoded: Raw
    signature: bytes
    salt: bytes = b""

    @classmethod
    def signed(cls, public: bytes, seq: int, value: bytes, sign: Callable[[int, bytes], bytes]) -> Self:
        """An item without salt around a byte string; `sign(seq, value)` is a slot's signer (SPEC section 4)."""
        return cls(public, seq, Raw(encode(value)), sign(seq, value))

    @property
    def target(self) -> bytes:
        """Where it lies, 20 bytes."""
        return target_of(self.public, self.salt)

    @property
    def value(self) -> bytes | None:
        """The byte string that was stored; None when it is a value of another type."""
        try:
            value = decode(self.encoded)
        except BencodeError:
            return None
        return value if isinstance(value, bytes) else None

    @property
    def message(self) -> bytes:
        """The bytes that the signature covers (BEP 44, Signature Verification)."""
        salt = b"4:salt%d:%b" % (len(self.salt), self.salt) if self.salt else b""
        return b"%b3:seqi%de1:v%b" % (salt, self.seq, self.encoded)

    def valid(self) -> bool:
        """Whether the number is in range and the signature is right, in its one spelling (RFC 8032: S < L)."""
        in_range = len(self.public) == 32 and 0 <= self.seq <= LAST_SEQ and len(self.encoded) <= BIGGEST
        return in_range and keys.verify(self.public, self.message, self.signature)
