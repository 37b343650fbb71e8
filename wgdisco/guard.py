"""Leave a live session alone, and move its endpoint only from a path that is dead to one that works.

A live session is never written blindly. When something suggests that its path is dead (a record that names other
endpoints, our own address changed, nothing comes back), checks decide: its endpoint is moved when the present one does
not answer and another one does. A peer that answers no checks is moved only when nothing has come back for 15 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from wgdisco.endpoint import Endpoint
from wgdisco.link import GLANCE, Link
from wgdisco.outlook import Outlook
from wgdisco.pulse import Pulse
from wgdisco.search import Finding

__all__ = ["LOOK", "Guard"]

LOOK = 1.0  # seconds between two looks at a session that lives
HUSH = 2.0  # seconds after a flow stopped, before the path is checked
STALL = 2.0  # seconds without an answer before the path is checked
BLIND = 15.0  # seconds without an answer before another candidate is used unchecked (WireGuard itself tries anew then)
AGAIN = 10.0  # seconds between two checks of a path for the same reason
WITHIN = 0.7  # seconds for any path to answer, before our own end of it is doubted
UNDER_WAY = 0.7  # seconds for which what comes in may have been sent before the path died
HYSTERESIS = 0.2  # seconds more that the present path gets when another one answered first
SEARCH = 20.0  # seconds for another path to answer


class Guard:
    """Watches one live session; `moves` counts how often its endpoint was replaced."""

    def __init__(
        self,
        link: Link,
        outlook: Outlook,
        pulse: Pulse,
        say: Callable[[str], None],
        missing: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`missing(True)` is called when no path answers and a newer record would help."""
        self.link, self.outlook, self.pulse, self.say, self.missing = link, outlook, pulse, say, missing
        self.moves = 0
        self.examined: Finding | None = None
        self._next = self._patient = 0.0

    async def run(self) -> None:
        """Return when the session has ended."""
        judged: Finding | None = None
        try:
            while self._look():
                if self.outlook.latest is not judged:
                    judged = self.outlook.latest
                    self._candidates()
                if self._suspect():
                    await self._examine()
                await self.outlook.wait(LOOK)
        finally:
            self.missing(False)  # whoever misses it from now on says so anew, and it is asked for as at first

    def _look(self) -> bool:
        """One look at the interface: whether the session lives."""
        received = self.pulse.received
        self.pulse.see(self.link.read())
        if self.pulse.received > received:
            self.missing(False)
        return self.pulse.live

    def _candidates(self) -> list[Endpoint]:
        return self.outlook.judge(self.outlook.latest.record) if self.outlook.latest is not None else []

    def _suspect(self) -> bool:
        """Whether there is a reason to check the path that is used."""
        endpoint, news = self.link.read().endpoint, self.outlook.latest is not self.examined
        if news and self.outlook.names(endpoint):
            self.examined, news = self.outlook.latest, False
        elsewhere = self.outlook.heard is not None and self.outlook.heard != endpoint
        stalled = self.pulse.unanswered() >= STALL
        hushed = self.pulse.hushed() >= HUSH
        now = time.monotonic()
        doubtful = (stalled or hushed or elsewhere) and now >= self._next
        suspect = self.outlook.moved or doubtful or (news and now >= self._patient)
        if doubtful:
            self._next = now + AGAIN
        if suspect and stalled and hushed:
            self.outlook.ours.doubt()
        return suspect

    async def _examine(self) -> None:
        """Find out whether the present path is alive; when it is not and another one is, move there."""
        moved, self.outlook.moved = self.outlook.moved, False
        peer, finding = self.link.read(), self.outlook.latest
        self.link.behind_nat = self.outlook.ours.behind_nat()
        if peer.endpoint is None:
            return
        if moved:
            self.link.move()  # whoever can be reached from our new address learns it from this
        if not self.outlook.answers_checks:
            self._blindly(peer.endpoint)
            return
        path = await self._path(peer.endpoint)
        if self.outlook.latest is finding:
            self.examined = finding
        if path == peer.endpoint:
            self.pulse.calm()
            if moved:
                self.link.move()
        elif path is not None and path not in (peer.endpoint, self.link.read().endpoint):
            self._move(path, f"its endpoint {peer.endpoint.short} no longer answers; {path.short} does")

    async def _path(self, present: Endpoint) -> Endpoint | None:
        """The endpoint that answers checks, the present one before any other; None when nothing should be changed.

        What comes in meanwhile says that the path lives only when it was not under way before.
        """
        heard, self.outlook.heard = self.outlook.heard, None
        finding, start, prober = self.outlook.latest, time.monotonic(), self.outlook.prober()
        received, doubted = None, False
        assert prober is not None  # the peer answers checks
        try:
            prober.add([present, *([heard] if heard is not None else []), *self._candidates(), *self.outlook.supposed])
            while prober.path is None:
                await prober.within(GLANCE)
                if not doubted and time.monotonic() - start > WITHIN:
                    doubted = True
                    self.outlook.ours.doubt()
                    self.missing(True)
                waited, stale = time.monotonic() - start, self.outlook.latest is not finding or self.outlook.moved
                if received is None and waited > UNDER_WAY:
                    received = self.link.read().rx
                came = received is not None and self.link.read().rx > received
                if stale or came or not self._look() or waited > SEARCH:
                    return None
            self.missing(False)
            if prober.path.endpoint != present:
                await asyncio.sleep(HYSTERESIS)
            return present if present in prober.passed else prober.path.endpoint
        finally:
            await self.outlook.close()

    def _blindly(self, present: Endpoint) -> None:
        """Nobody answers checks there: when nothing has come back for long, go to the next endpoint, and so round."""
        ring = self._candidates()
        following = ring[(ring.index(present) + 1) % len(ring)] if present in ring else next(iter(ring), present)
        waited = self.pulse.unanswered()
        if following != present and waited < BLIND and not self.outlook.names(present):
            self._patient = time.monotonic() + LOOK
            return
        self.examined = self.outlook.latest
        if following != present and waited >= BLIND:
            self._move(following, f"nothing has come back from {present.short} for {waited:.0f} s")

    def _move(self, endpoint: Endpoint, why: str) -> None:
        self.moves += 1
        self.say(f"{why}: moved to {endpoint.short}")
        self.link.move(endpoint)
