"""How old a wall-clock time is, whatever was done to the wall clock since: it is compared with the host's uptime.

WireGuard notes its handshakes by the wall clock, which may be set at any time. The uptime runs on through sleep and
cannot be set, so the difference of the two tells every step: what was noted before one is read by the clock of then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Timeline", "boottime"]

STEP = 5.0  # seconds by which the wall clock has to move to count as set: less says nothing about a session
KEPT = 16  # steps remembered
AT_ONCE = 0.5  # seconds in which both clocks have to be read


def boottime() -> float:
    """Seconds since the host started, its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class _Span:
    """Uptimes (seconds) between two steps, when the wall clock was ahead of the uptime by `ahead` seconds."""

    ahead: float
    begin: float
    end: float


class Timeline:
    """Watches the wall clock from now on; whoever asks notices a step. `steps` counts those that were seen."""

    def __init__(self, wall: Callable[[], float] | None = None, uptime: Callable[[], float] = boottime) -> None:
        """Take other clocks than the host's, both in seconds; `wall` since 1970."""
        self._wall, self._uptime = wall or time.time, uptime
        self.steps = 0
        wall_now, self._began = self._read()
        # nothing was noted before the host started; what seems to be was noted before a step that nobody watched
        self._spans = [_Span(wall_now - self._began, 0.0, self._began)]

    def look(self) -> float:
        """By how many seconds the wall clock was set forward (negative: back) since the last look; 0 if it was not."""
        wall, now = self._read()
        last = self._spans[-1]
        step = wall - now - last.ahead
        if abs(step) <= STEP:
            last.end = now
            return 0.0
        # when exactly between the two looks is not known: both clocks count for that time
        self._spans = [*self._spans[1 - KEPT :], _Span(wall - now, last.end, now)]
        last.end = now
        self.steps += 1
        return step

    def age(self, when: float) -> float:
        """Seconds since the wall clock showed `when`; where several are possible, the fewest."""
        self.look()
        return max(0.0, self._spans[-1].end - self._when(when))

    def stepped(self, when: float) -> float:
        """Seconds by which the wall clock was set forward from when it showed `when` to the last look; 0 if it was not.

        Times that are ahead of the clock, or before the host's start, say that it was set before it was watched.
        """
        last = self._spans[-1]
        if last.begin <= when - last.ahead <= last.end + STEP:  # nearly all are
            return 0.0
        shift = last.ahead - when + self._when(when)
        return shift if abs(shift) > STEP else 0.0

    def _when(self, when: float) -> float:
        """The uptime (seconds) at which the wall clock showed `when`; where several are possible, the last one."""
        times = [when - span.ahead for span in self._spans if span.begin - STEP <= when - span.ahead <= span.end + STEP]
        # it was noted before we watched, on a clock that was set meanwhile
        return max(times, default=self._began)

    def _read(self) -> tuple[float, float]:
        """Wall clock and uptime of one moment: who is stopped, or sleeps, in between reads them again."""
        while True:
            before, wall, now = self._uptime(), self._wall(), self._uptime()
            if now - before < AT_ONCE:
                return wall, now
