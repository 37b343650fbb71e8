"""Slots as the core makes them, with real keys that sign: what a test puts into a store."""

from __future__ import annotations

import os
import time
from itertools import count

from wgdisco.audience import Audience
from wgdisco.backend import Slot
from wgdisco.keys import PrivateKey

__all__ = ["Author"]


class Author:
    """Someone with a key of his own who can write to slots nobody else has.

    `slot(number)` is the author's slot of that number, ready to be put: every call raises its `seq`, as every new
    record does.
    """

    def __init__(self) -> None:
        self.private = PrivateKey.generate()
        self.audience = Audience.members(os.urandom(32))
        self._seq = count(int(time.time() * 1000))

    def slot(self, number: int = 0) -> Slot:
        """A slot that can be signed for; slots of different numbers are different."""
        place = self.audience.place(self.private.public, number)
        signer = self.private.slot_signer(place.blinding)
        seq = place.offset + next(self._seq)
        return Slot(place.id, place.text, place.public, seq, int(time.time()) + 3600, signer.sign)

    def reading(self, number: int = 0) -> Slot:
        """The same slot as a reader has it: it cannot sign."""
        place = self.audience.place(self.private.public, number)
        return Slot(place.id, place.text, place.public)
