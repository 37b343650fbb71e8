"""Keep the endpoints of thousands of peers fresh: WireGuard itself starts a session when there is something to send."""

from __future__ import annotations

import asyncio
import time

from wgdisco.connect import order
from wgdisco.device import Change, Device, Peer, is_live
from wgdisco.discovery import Finding
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PublicKey
from wgdisco.node import Node
from wgdisco.outlook import Ours
from wgdisco.policy import Ground, tryable

__all__ = ["Fleet"]

BATCH = 0.2  # seconds in which records are gathered before the interface is read and written once
AGAIN = 30.0  # seconds until a peer that had a session is looked at again


class Fleet:
    """Takes the records of many peers, and writes the endpoints of those without a session, all in one batch.

    Nothing else is changed: no keepalive, no live session. `changed` counts the endpoints written.
    """

    def __init__(self, device: Device, node: Node, ours: Ours) -> None:
        self.device, self.node, self.ours = device, node, ours
        self.latest: dict[PublicKey, Finding] = {}
        self.changed = 0
        self._fresh: set[PublicKey] = set()
        self._busy: set[PublicKey] = set()
        self._news = asyncio.Event()

    def take(self, peer: PublicKey, finding: Finding) -> None:
        """A fresher record of a peer."""
        self.latest[peer] = finding
        self._fresh.add(peer)
        self._news.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        await self.ours.ready.wait()
        while True:
            try:
                async with asyncio.timeout(AGAIN):
                    await self._news.wait()
                await asyncio.sleep(BATCH)
            except TimeoutError:
                self._fresh |= self._busy
            self._news.clear()
            self.freshen()

    def freshen(self) -> int:
        """Write what is new since the last time; how many endpoints that were."""
        fresh, self._fresh, self._busy = self._fresh, set(), set()
        if not fresh:
            return 0
        peers, now, ground = self.device.read().peers, time.time(), self.ours.ground()
        with self.node.state.transaction():
            for peer in fresh:
                self.node.remember(self.latest[peer])
        changes = []
        for known in [peers[key] for key in fresh if key in peers]:
            if is_live(known, None, now):
                self._busy.add(known.key)
            elif (endpoint := self._endpoint(known, ground)) is not None:
                changes.append(Change(known.key, endpoint))
        if changes:
            self.device.update(changes)
        self.changed += len(changes)
        return len(changes)

    def _endpoint(self, peer: Peer, ground: Ground) -> Endpoint | None:
        """Where the record says that the peer is now; None when the interface knows that already."""
        candidates = self.latest[peer.key].record.candidates
        if any(each.endpoint == peer.endpoint for each in candidates):
            return None
        able = [each for each, reason in tryable(candidates, ground) if reason is None]
        best = order(able, self.ours.candidates())
        return best[0].endpoint if best else None
