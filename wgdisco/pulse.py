"""Whether a peer's session lives and is answered, told from one look at its counters after the other. Sans I/O."""

from __future__ import annotations

import time
from collections.abc import Callable

from wgdisco.device import LIVE, Peer
from wgdisco.device.timeline import boottime

__all__ = ["Pulse"]

REJECTED = 180.0  # seconds: WireGuard drops what is sealed with keys older than that
RECENT = 15.0  # seconds for which something received counts as a sign of life
FLOWS, FLOWING = 2.5, 3.0  # seconds between two receptions at most, and for how long, to call it a flow
SILENT = 64  # bytes: two keepalives, which nobody answers


class Pulse:
    """Look with `see`. All times are seconds of the host's uptime, so that setting the wall clock ends no session.

    `received` is when rx last grew (0: not seen yet), `live` whether there is a session as of the last look.
    """

    def __init__(self, uptime: Callable[[], float] = boottime, wall: Callable[[], float] | None = None) -> None:
        """Take other clocks than the host's; `wall` (unix seconds) dates only what was there at the first look."""
        self._uptime, self._wall = uptime, wall or time.time
        self.received = 0.0
        self.live = False
        self._began = 0.0
        self._last: Peer | None = None
        self._looked = self._shaken = 0.0
        self._sent = 0
        self._since = 0.0

    def see(self, peer: Peer) -> None:
        """One more look."""
        now, last, self._last = self._uptime(), self._last, peer
        if last is None or peer.handshake != last.handshake:
            age = max(0.0, self._wall() - peer.handshake - peer.stepped)
            # what was not there at the last look has come since, whatever the wall clock says
            self._shaken = now - (age if last is None else min(age, now - self._looked))
        if last is None or peer.rx < last.rx or peer.tx < last.tx:  # a restarted peer counts from 0
            self._sent = 0
        elif peer.rx > last.rx:
            self._began = now if now - self.received > FLOWS else self._began
            self.received, self._sent = now, 0
        elif peer.tx > last.tx:
            self._since = self._since if self._sent else now
            self._sent += peer.tx - last.tx
        # wireguard-go counts handshakes that fail in rx too; older keys mean that it can be nothing else
        heard = now - self.received < RECENT if self.received else False
        self.live = peer.handshake > 0 and now - self._shaken < (REJECTED + RECENT if heard else LIVE)
        self._looked = now

    def heard_at(self) -> float:
        """When something was last received, in unix seconds by the wall clock of now; 0 when not seen yet."""
        return self._wall() - (self._uptime() - self.received) if self.received else 0.0

    def hushed(self) -> float:
        """Seconds since what had been coming in for a while stopped; 0 when it came now and then only."""
        return self._uptime() - self.received if self.received - self._began >= FLOWING else 0.0

    def calm(self) -> None:
        """The path was checked and lives: a flow that stopped has simply ended."""
        self._began = self.received

    def unanswered(self) -> float:
        """Seconds since what was sent has brought nothing back; 0 when nothing was sent, or keepalives only."""
        return self._uptime() - self._since if self._sent > SILENT else 0.0
