"""Whether a peer's session lives and is answered, told from one look at its counters after the other. Sans I/O."""

from __future__ import annotations

from wgdisco.device import Peer, is_live

__all__ = ["Pulse"]

REJECTED = 180.0  # seconds: WireGuard drops what is sealed with keys older than that
RECENT = 15.0  # seconds for which something received counts as a sign of life
FLOWS, FLOWING = 2.5, 3.0  # seconds between two receptions at most, and for how long, to call it a flow
SILENT = 64  # bytes: two keepalives, which nobody answers


class Pulse:
    """Look with `see`; all times are unix seconds.

    `received` is when rx last grew (0: not seen yet), `live` whether there is a session as of the last look.
    """

    def __init__(self) -> None:
        self.received = 0.0
        self.live = False
        self._began = 0.0
        self._last: Peer | None = None
        self._sent = 0
        self._since = 0.0

    def see(self, peer: Peer, now: float) -> None:
        """One more look."""
        last, self._last = self._last, peer
        if last is None or peer.rx < last.rx or peer.tx < last.tx:  # a restarted peer counts from 0
            self._sent = 0
        elif peer.rx > last.rx:
            self._began = now if now - self.received > FLOWS else self._began
            self.received, self._sent = now, 0
        elif peer.tx > last.tx:
            self._since = self._since if self._sent else now
            self._sent += peer.tx - last.tx
        # wireguard-go counts handshakes that fail in rx too; older keys mean that it can be nothing else
        young = peer.handshake > 0 and now - peer.handshake < REJECTED + RECENT
        self.live = is_live(peer, None, now) or (young and now - self.received < RECENT)

    def hushed(self, now: float) -> float:
        """Seconds since what had been coming in for a while stopped; 0 when it came now and then only."""
        return now - self.received if self.received - self._began >= FLOWING else 0.0

    def calm(self) -> None:
        """The path was checked and lives: a flow that stopped has simply ended."""
        self._began = self.received

    def unanswered(self, now: float) -> float:
        """Seconds since what was sent has brought nothing back; 0 when nothing was sent, or keepalives only."""
        return now - self._since if self._sent > SILENT else 0.0
