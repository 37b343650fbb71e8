"""An event loop whose clock jumps: waiting takes no time, and nothing but waiting does, so that latencies are exact."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

__all__ = ["VirtualLoop", "virtually"]

T = TypeVar("T")

UPTIME = 1e6  # seconds since the host started, when virtual time begins


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its `time()` begins at 0 and moves to the next timer whenever nothing else is left to do."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jump(self))

    def time(self) -> float:
        """Seconds of virtual time."""
        return self.now


class _Jump(selectors.DefaultSelector):
    """Instead of waiting for a timer it moves the clock to it."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everything waits, and nothing will ever happen"
            self.loop.now += max(timeout, 0.0)
        return events


def virtually(work: Coroutine[Any, Any, T]) -> T:
    """Run it in virtual time; the clocks of the module `time` go with the loop meanwhile."""
    loop, start = VirtualLoop(), time.time()
    with (
        asyncio.Runner(loop_factory=lambda: loop) as runner,
        patch("time.monotonic", loop.time),
        patch("time.time", lambda: start + loop.now),
        patch("time.clock_gettime", lambda _: UPTIME + loop.now),
    ):
        return runner.run(work)
