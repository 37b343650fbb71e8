"""One reading of the interface for all who ask at about the same time, which knows of every step of the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from wgdisco.device.restart import LIVE, LiveSession
from wgdisco.device.timeline import Timeline
from wgdisco.device.types import Change, Device, Interface, Peer
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError
from wgdisco.keys import PublicKey

__all__ = ["SharedDevice"]

SHARE = 0.1  # of the time at most is spent on reading
FRESH = 0.02  # seconds for which a reading serves everybody
SLOW = 1.0  # seconds; what fails so late has met a program that stands still
REST = 5.0  # seconds for which such a program is not asked again

T = TypeVar("T")


class SharedDevice:
    """A Device whose readings are reused for 20 ms, or for ten times as long as they take; a change ends them.

    Who asks a program that stands still (userspace WireGuard) holds up everything else. So after one call that failed
    because of that, all fail at once for 5 s, with the same AccessError.

    With a `timeline` that outlives it handshakes are judged by what was watched before it was made, too.
    """

    def __init__(self, device: Device, timeline: Timeline | None = None) -> None:
        self.device, self.timeline = device, timeline or Timeline()
        self._reading: Interface | None = None
        self._until, self._steps = 0.0, 0
        self._trouble, self._rests_until = "", 0.0

    @property
    def name(self) -> str:
        """The interface's name."""
        return self.device.name

    def read(self) -> Interface:
        """Everything as it was a moment ago, or is now."""
        start = time.monotonic()
        self.timeline.look()
        if self._reading is None or start >= self._until or self._steps != self.timeline.steps:
            self._reading = None
            self._reading = self._dated(self._ask(self.device.read))
            took = time.monotonic() - start
            self._until = start + took + max(FRESH, took / SHARE)
        return self._reading

    def _dated(self, reading: Interface) -> Interface:
        """The reading, with what was done to the clock since the peers' handshakes."""
        self.timeline.look()
        self._steps, stepped = self.timeline.steps, self.timeline.stepped
        moved = {
            key: replace(peer, stepped=seconds)
            for key, peer in reading.peers.items()
            if peer.handshake and (seconds := stepped(peer.handshake))
        }
        return replace(reading, peers={**reading.peers, **moved}) if moved else reading

    def update(self, changes: Sequence[Change]) -> None:
        """Apply changes, as Device.update does."""
        self._reading = None
        self._ask(lambda: self.device.update(changes))

    def restart_peer(self, key: PublicKey, endpoint: Endpoint, keepalive: int, *, since: Peer | None = None) -> None:
        """Restart a peer, as Device.restart_peer does; a handshake is as old as the uptime says."""
        peer = self.read().peers.get(key)
        if peer is not None:
            if peer.handshake and self.timeline.age(peer.handshake) < LIVE:
                raise LiveSession(f"peer {key.short} of {self.name} has a live session, which a restart would end")
            since = replace(peer, rx=since.rx if since is not None else peer.rx)
        self._reading = None
        self._ask(lambda: self.device.restart_peer(key, endpoint, keepalive, since=since))

    def _ask(self, work: Callable[[], T]) -> T:
        start = time.monotonic()
        if start < self._rests_until:
            raise AccessError(self._trouble)
        try:
            return work()
        except AccessError as error:
            now = time.monotonic()
            if now - start >= SLOW:
                self._trouble, self._rests_until = str(error), now + REST
            raise
