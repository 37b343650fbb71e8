"""How a store does, and for how long it is left alone after it failed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from wgdisco.errors import WgdiscoError

__all__ = ["Health", "Rest"]

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds of back-off after failures
DOUBLINGS = 6  # after which the longest pause is reached


class Health(NamedTuple):
    """How a store does, in unix seconds (0 for never): when it last did what it was asked, when it last failed.

    `error` says why, as long as the last thing read or the last thing written failed; until `rests_until` it is left
    alone.
    """

    answered: float = 0.0
    failed: float = 0.0
    error: str = ""
    rests_until: float = 0.0


class Rest:
    """The back-off of one store in reading or in writing: what takes no more may still be read.

    It doubles with each failure from 1 s to 60 s. Whatever fails while the store should have been resting is the same
    trouble and doubles nothing: a hundred puts at once are one failure.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives positive seconds that only grow."""
        self.clock = clock
        self.failures, self.resume, self.failed_at = 0, 0.0, 0.0
        self.error: WgdiscoError | None = None
        self._wanted_until = self._woken = 0.0

    @property
    def seconds(self) -> float:
        """For how long the store is left alone; 0 when it may be asked."""
        return max(0.0, self.resume - self.clock())

    @property
    def refusal(self) -> WgdiscoError | None:
        """Why the store is not asked now: its last error, and for how long it is left alone. None when it may be asked.

        One failure alone refuses nothing, unless the store asked to be left alone.
        """
        left = self.seconds if self.failures > 1 else max(0.0, self._wanted_until - self.clock())
        if self.error is None or not left:
            return None
        return type(self.error)(f"{self.error}; left alone for another {math.ceil(left)} s")

    def failed(self, error: WgdiscoError, began: float, wanted: float = 0.0) -> None:
        """A call that `began` then (by the clock) failed; `wanted` are the seconds that the store itself asks for."""
        if began < self._woken:  # on the connection of before, which says nothing about the store
            return
        if began >= self.resume:
            self.failures += 1
        pause = min(FIRST_PAUSE * 2 ** min(self.failures - 1, DOUBLINGS), LONGEST_PAUSE)
        self.error, self.failed_at = error, self.clock()
        self._wanted_until = max(self._wanted_until, self.failed_at + wanted)
        self.resume = max(self.resume, self.failed_at + pause, self._wanted_until)

    def succeeded(self, began: float) -> None:
        """A call that `began` then did what it should: all is forgiven, unless the store has failed since."""
        if began >= self.failed_at:
            self.failures, self.resume, self._wanted_until, self.error = 0, 0.0, 0.0, None

    def wake(self) -> None:
        """End the rest, but for what the store itself asks for."""
        self.failures = min(self.failures, 1)
        self.resume, self._woken = self._wanted_until, self.clock()
