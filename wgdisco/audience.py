"""Who may read a record: peers, network, key; from that the slot, the sealing and the padding (SPEC section 4)."""

from __future__ import annotations

import os
from base64 import b32encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from wgdisco.errors import RecordRefused, UsageError
from wgdisco.keys import PrivateKey, PublicKey, blind

__all__ = ["Audience", "Place", "Scope", "sealed_size", "slot_text", "union"]

DAY = 86400  # seconds of a period
SKEW = 300_000  # milliseconds of tolerated clock skew, W in SPEC section 5
BIGGEST = 681  # bytes of the largest blob
PADDED = (192, 256, 320, 384, 512, 640)  # bytes of a padded statement
VERSION = b"\x01"
NONCE = 24  # bytes


class Scope(IntEnum):
    """The three kinds of audience, with their type byte."""

    PEERS = 1
    NETWORK = 2
    KEY = 3


def _hash(size: int, person: bytes, data: bytes, key: bytes = b"") -> bytes:
    return blake2b(data, digest_size=size, key=key, person=person).digest()


class Audience:
    """Those who share a secret and so may find and read a record; `network` is its 16-byte id in records."""

    __slots__ = ("_offsets", "_places", "_secret", "network", "scope")

    def __init__(self, scope: Scope, secret: bytes) -> None:
        """Take 32 secret bytes; use the named constructors."""
        if len(secret) != 32:
            raise UsageError(
                f"the secret of a network has 32 bytes, this one has {len(secret)}; make one: wgdisco genkey"
            )
        self.scope = scope
        self._secret = secret
        self.network = _hash(16, b"wgdisco net", bytes([scope]), secret)
        self._places: dict[bytes, tuple[Place, ...]] = {}
        self._offsets: dict[bytes, int] = {}

    @classmethod
    def peers(cls, private: PrivateKey, peer: PublicKey) -> Audience:
        """The holder of one private key and one peer: needs no configuration."""
        low, high = sorted((private.public.raw, peer.raw))
        return cls(Scope.PEERS, _hash(32, b"wgdisco pair", low + high, private.agree(peer)))

    @classmethod
    def members(cls, secret: bytes) -> Audience:
        """Whoever holds the 32 random bytes that `wgdisco genkey` made."""
        return cls(Scope.NETWORK, secret)

    @classmethod
    def key(cls, subject: PublicKey) -> Audience:
        """Whoever knows the subject's WireGuard public key, now or later."""
        return cls(Scope.KEY, _hash(32, b"wgdisco key", subject.raw))

    def check_key(self) -> bytes:
        """The key (32 bytes) under which the two of a pair sign their checks (docs/checks.md)."""
        return _hash(32, b"wgdisco check", bytes([self.scope]), self._secret)

    def _named(self, subject: PublicKey, period: int | None = None) -> bytes:
        return bytes([self.scope]) + subject.raw + (b"" if period is None else period.to_bytes(8, "big"))

    def period(self, subject: PublicKey, now: int) -> int:
        """The period's number at `now` (milliseconds); raises UsageError for a clock before 1971."""
        if now < 365 * DAY * 1000:
            raise UsageError(f"the clock says {now // 1000} s since 1970, that is before 1971; set the clock first")
        if (offset := self._offsets.get(subject.raw)) is None:
            digest = _hash(32, b"wgdisco roll", self._named(subject), self._secret)
            offset = self._offsets[subject.raw] = int.from_bytes(digest[:4], "big") % DAY
        return (now // 1000 - offset) // DAY

    def readable(self, subject: PublicKey, now: int, ahead: int = 0) -> list[Place]:
        """Where a reader asks: the current period, and its neighbour within the tolerated skew of a border.

        Everywhere from now on for `ahead` milliseconds, less than a day: for who will go on asking there.
        """
        numbers = {self.period(subject, now + shift): None for shift in (0, -SKEW, SKEW + ahead)}
        return [self.place(subject, number) for number in numbers]

    def writable(self, subject: PublicKey, now: int, end: int) -> list[Place]:
        """Where a record goes: every slot from now to `end` (milliseconds), the last end of all records written."""
        first, last = self.period(subject, now), self.period(subject, max(now, end))
        return [self.place(subject, number) for number in range(first, last + 1)]

    def place(self, subject: PublicKey, period: int) -> Place:
        """The place of one subject in one period (cached: three hashes and a scalar multiplication)."""
        known = self._places.get(subject.raw, ())
        place = next((each for each in known if each.period == period), None)
        if place is None:
            place = self._derive(subject, period)
            self._places[subject.raw] = (*(each for each in known if abs(each.period - period) <= 1), place)
        return place

    def _derive(self, subject: PublicKey, period: int) -> Place:
        named = self._named(subject, period)
        blinding = sodium.crypto_core_ed25519_scalar_reduce(_hash(64, b"wgdisco blind", named, self._secret))
        public = blind(blinding, subject.edwards)
        return Place(
            subject=subject,
            network=self.network,
            period=period,
            public=public,
            id=_hash(20, b"wgdisco slot", public),
            offset=int.from_bytes(_hash(32, b"wgdisco seq", named, self._secret)[:6], "big"),
            blinding=blinding,
            sealing=_hash(32, b"wgdisco seal", named, self._secret),
        )

    def __repr__(self) -> str:
        return f"Audience({self.scope.name.lower()}, {self.network.hex()[:8]}…)"

    def __reduce__(self) -> str:
        raise TypeError("an audience is not serialised: it holds a secret")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one subject's record lies for one audience in one period, and the keys that open it."""

    subject: PublicKey
    network: bytes
    period: int
    public: bytes
    id: bytes
    offset: int = field(repr=False)
    blinding: bytes = field(repr=False)
    sealing: bytes = field(repr=False)

    def __reduce__(self) -> str:
        raise TypeError("a place is not serialised: it holds a secret")

    @property
    def text(self) -> str:
        """The slot id in base32, lower case, no padding: 32 characters."""
        return slot_text(self.id)

    def seal(self, statement: bytes, nonce: bytes | None = None) -> bytes:
        """The blob, at most 681 bytes; raises ValueError for a statement over 639 bytes. `nonce` is for tests."""
        size = next((size for size in PADDED if len(statement) < size), None)
        if size is None:
            raise ValueError(f"a statement of {len(statement)} bytes does not fit; at most {PADDED[-1] - 1}")
        padded = (statement + b"\x80").ljust(size, b"\0")
        nonce = os.urandom(NONCE) if nonce is None else nonce
        sealed = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(padded, VERSION + self.id, nonce, self.sealing)
        return VERSION + nonce + sealed

    def unseal(self, blob: bytes) -> bytes:
        """The statement in a blob; raises RecordRefused (`size`, `malformed`, `unsealed`)."""
        if len(blob) > BIGGEST:
            raise RecordRefused("size", f"{len(blob)} bytes, at most {BIGGEST}")
        if blob[:1] != VERSION or len(blob) < 1 + NONCE + 16:
            raise RecordRefused("malformed", f"{len(blob)} bytes that are no record of version 1")
        nonce, sealed = blob[1 : 1 + NONCE], blob[1 + NONCE :]
        try:
            padded = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, VERSION + self.id, nonce, self.sealing)
        except CryptoError:
            raise RecordRefused("unsealed", "it was not sealed for this slot, or it was changed") from None
        statement = padded.rstrip(b"\0")
        if len(padded) not in PADDED or statement[-1:] != b"\x80":
            raise RecordRefused("malformed", "its padding is wrong")
        return statement[:-1]


def slot_text(slot: bytes) -> str:
    """A slot id (20 bytes) in base32, lower case, no padding: 32 characters."""
    return b32encode(slot).decode().lower()


def sealed_size(statement: int) -> int:
    """The bytes of the blob that a statement of so many bytes becomes; more than any store takes if it does not fit."""
    padded = next((size for size in PADDED if statement < size), 1 << 16)
    return 1 + NONCE + padded + 16


def union(places: Iterable[Place]) -> list[Place]:
    """The places without repetition, in their order."""
    return list({place.id: place for place in places}.values())
