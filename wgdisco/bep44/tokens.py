"""Tokens: who asked from an address may write from it, for 5 to 10 minutes (BEP 5). Sans I/O."""

from __future__ import annotations

import hmac
import os
from hashlib import blake2b

from wgdisco.bep44.contact import host
from wgdisco.endpoint import Address

__all__ = ["Tokens"]

TURN = 300.0  # seconds after which new tokens are given; those of one turn before are still taken


class Tokens:
    """Gives tokens that are bound to an address, a target and the time, and remembers none of them."""

    def __init__(self) -> None:
        self._secret = os.urandom(32)

    def give(self, address: Address, target: bytes, now: float) -> bytes:
        """A token of 8 bytes; `now` in seconds of a clock that never goes back."""
        return self._make(address, target, int(now // TURN))

    def accept(self, token: object, address: Address, target: bytes, now: float) -> bool:
        """Whether this address got `token` for this target in this turn or the one before."""
        if not isinstance(token, bytes):
            return False
        turn = int(now // TURN)
        return any(hmac.compare_digest(token, self._make(address, target, turn - past)) for past in (0, 1))

    def _make(self, address: Address, target: bytes, turn: int) -> bytes:
        told = turn.to_bytes(8, "big", signed=True) + target + host(address)
        return blake2b(told, key=self._secret, digest_size=8).digest()
