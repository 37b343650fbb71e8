"""WireGuard keys: text as wg(8) reads it, XEdDSA signatures, key agreement, Edwards form (SPEC section 1).

A WireGuard key is an X25519 key. XEdDSA (signal.org/docs/specifications/xeddsa) lets the same key sign: the result is a
plain Ed25519 signature (RFC 8032) under the Edwards form of the public key, so every Ed25519 verifier accepts it.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from functools import lru_cache

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from wgdisco.errors import InvalidKey

__all__ = ["PrivateKey", "PublicKey", "SlotSigner", "blind", "verify"]

P = 2**255 - 19
_PREFIX = b"\xfe" + b"\xff" * 31  # hash1 of XEdDSA: 2^256 - 2, little-endian


def verify(edwards: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) is an Ed25519 signature of `message` under the Edwards key (RFC 8032, S < L)."""
    if len(signature) != 64:
        return False
    try:
        sodium.crypto_sign_open(signature + message, edwards)
    except CryptoError:
        return False
    return True


def blind(scalar: bytes, edwards: bytes) -> bytes:
    """The slot key `scalar * edwards`, 32 bytes; `scalar` is 32 bytes little-endian below L (SPEC section 4)."""
    return sodium.crypto_scalarmult_ed25519_noclamp(scalar, edwards)


@lru_cache(maxsize=65536)
def _edwards(raw: bytes) -> bytes:
    """The Edwards form of an X25519 public key, sign bit 0; raises InvalidKey for what no honest key can be."""
    u = int.from_bytes(raw, "little")
    if u >= P:
        raise InvalidKey("the number is not below 2^255 - 19, so this is another spelling of a different key")
    if u == P - 1:
        raise InvalidKey("u = -1 has no Edwards form")
    y = (u - 1) * pow(u + 1, -1, P) % P
    edwards = y.to_bytes(32, "little")
    if not sodium.crypto_core_ed25519_is_valid_point(edwards):
        raise InvalidKey("it lies outside the prime-order group, so nobody can hold its private key")
    return edwards


def _decode(text: str, what: str) -> bytes:
    """32 bytes from canonical base64, exactly as wg(8) accepts it."""
    source = "wg genkey" if "private" in what else "wg pubkey"
    expected = f"expected 44 characters of base64, as `{source}` prints them"
    try:
        raw = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise InvalidKey(f"{what} is not valid base64; {expected}") from None
    if len(raw) != 32:
        raise InvalidKey(f"{what} has {len(raw)} bytes instead of 32; {expected}")
    if b64encode(raw).decode() != text:
        raise InvalidKey(f"{what} is not canonical base64 (one key has one spelling); {expected}")
    return raw


class PublicKey:
    """A checked X25519 public key: `raw` 32 bytes, `edwards` its Edwards form; `str()` is wg(8)'s text."""

    __slots__ = ("edwards", "raw")

    def __init__(self, raw: bytes) -> None:
        """Take 32 bytes; raises InvalidKey unless it is a point of the prime-order group in its one spelling."""
        if len(raw) != 32:
            raise InvalidKey(f"a public key has 32 bytes, this has {len(raw)}")
        try:
            self.edwards = _edwards(raw)
        except InvalidKey as error:
            raise InvalidKey(f"{b64encode(raw).decode()!r} is no WireGuard public key: {error}") from None
        self.raw = raw

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read wg(8)'s text form; raises InvalidKey quoting the text."""
        return cls(_decode(text, f"public key {text!r}"))

    @property
    def short(self) -> str:
        """The first 8 characters and an ellipsis, for logs."""
        return f"{str(self)[:8]}…"

    def __str__(self) -> str:
        return b64encode(self.raw).decode()

    def __repr__(self) -> str:
        return f"PublicKey({self.short})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.raw == other.raw

    def __lt__(self, other: PublicKey) -> bool:
        return self.raw < other.raw

    def __hash__(self) -> int:
        return hash(self.raw)


class PrivateKey:
    """A WireGuard private key. Neither the key nor any scalar derived from it leaves this class (SPEC section 1)."""

    __slots__ = ("_clamped", "_scalar", "public")

    def __init__(self, raw: bytes) -> None:
        """Take 32 bytes, clamped or not; raises InvalidKey for another length."""
        if len(raw) != 32:
            raise InvalidKey(f"a private key has 32 bytes, this has {len(raw)}")
        self._clamped = bytes([raw[0] & 248, *raw[1:31], raw[31] & 127 | 64])
        reduced = sodium.crypto_core_ed25519_scalar_reduce(self._clamped + bytes(32))
        point = sodium.crypto_scalarmult_ed25519_base_noclamp(reduced)
        self._scalar = sodium.crypto_core_ed25519_scalar_negate(reduced) if point[31] & 128 else reduced
        self.public = PublicKey(sodium.crypto_scalarmult_base(self._clamped))

    @classmethod
    def parse(cls, text: str) -> PrivateKey:
        """Read the text form that `wg genkey` prints; the error never quotes it."""
        return cls(_decode(text, "the private key"))

    @classmethod
    def generate(cls) -> PrivateKey:
        """Make a new key from the system's random numbers."""
        return cls(os.urandom(32))

    def agree(self, public: PublicKey) -> bytes:
        """X25519 with a peer's key: 32 bytes both sides share."""
        return sodium.crypto_scalarmult(self._clamped, public.raw)

    def sign(self, domain: str, payload: bytes) -> bytes:
        """Sign `domain`, a zero byte and `payload` with the identity key: 64 bytes (SPEC section 3).

        Only domains of our own can be signed, so that no signature is ever taken for one of another protocol.
        """
        if not domain.startswith("wgdisco ") or "\0" in domain:
            raise ValueError(f"domain {domain!r} does not begin with 'wgdisco '")
        return _xeddsa(self._scalar, self.public.edwards, domain.encode() + b"\0" + payload)

    def slot_signer(self, blinding: bytes) -> SlotSigner:
        """The signer of one slot; `blinding` is h mod L, 32 bytes little-endian (SPEC section 4)."""
        return SlotSigner(sodium.crypto_core_ed25519_scalar_mul(self._scalar, blinding))

    def __repr__(self) -> str:
        return f"PrivateKey(of {self.public.short})"

    def __reduce__(self) -> str:
        raise TypeError("a private key is not serialised")


class SlotSigner:
    """Signs what is put into one slot of a store that verifies: BEP 44's bytes without salt, and nothing else."""

    __slots__ = ("_scalar", "public")

    def __init__(self, scalar: bytes) -> None:
        self._scalar = scalar
        self.public = sodium.crypto_scalarmult_ed25519_base_noclamp(scalar)

    def sign(self, seq: int, value: bytes) -> bytes:
        """The 64-byte signature over `3:seqi<seq>e1:v<length>:<value>` (BEP 44)."""
        return _xeddsa(self._scalar, self.public, b"3:seqi%de1:v%d:%s" % (seq, len(value), value))

    def __repr__(self) -> str:
        return f"SlotSigner({self.public.hex()[:8]}…)"

    def __reduce__(self) -> str:
        raise TypeError("a slot signer is not serialised")


def _xeddsa(scalar: bytes, edwards: bytes, message: bytes) -> bytes:
    """XEdDSA: an Ed25519 signature by a scalar, with a nonce hedged by 64 random bytes."""
    nonce = _modulo_order(_PREFIX + scalar + edwards + message + os.urandom(64))
    commitment = sodium.crypto_scalarmult_ed25519_base_noclamp(nonce)
    challenge = _modulo_order(commitment + edwards + message)
    response = sodium.crypto_core_ed25519_scalar_add(nonce, sodium.crypto_core_ed25519_scalar_mul(challenge, scalar))
    return commitment + response


def _modulo_order(data: bytes) -> bytes:
    return sodium.crypto_core_ed25519_scalar_reduce(hashlib.sha512(data).digest())
