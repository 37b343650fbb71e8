"""Keep the endpoints of thousands of peers fresh: WireGuard itself starts a session when there is something to send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from itertools import islice

from wgdisco.connect import order
from wgdisco.device import Change, Device, Peer, is_live
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PublicKey
from wgdisco.node import Node
from wgdisco.outlook import Ours
from wgdisco.policy import Ground, tryable
from wgdisco.search import Finding

__all__ = ["Fleet"]

BATCH = 0.2  # seconds in which records are gathered before the interface is read and written once
AGAIN = 30.0  # seconds until a peer that had a session is looked at again
AT_ONCE = 100  # peers before the loop gets a turn: each costs a system call or two


class Fleet:
    """Takes the records of many peers, and writes the endpoints of those without a session, all in one batch.

    Nothing else is changed: no keepalive, no live session. `latest` has each peer's record, `changed` counts the
    endpoints written.
    """

    def __init__(self, device: Device, node: Node, ours: Ours) -> None:
        self.device, self.node, self.ours = device, node, ours
        self.latest: dict[PublicKey, Finding] = {}
        self.changed = 0
        self._unsaved: set[PublicKey] = set()
        self._fresh: set[PublicKey] = set()
        self._busy: set[PublicKey] = set()
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()

    def take(self, peer: PublicKey, finding: Finding) -> None:
        """A fresher record of a peer; one that only renews what was said before is no reason to read the interface."""
        before = self.latest.get(peer)
        self.latest[peer] = finding
        self._unsaved.add(peer)
        if before is None or before.record.candidates != finding.record.candidates:
            self._fresh.add(peer)
        self._news.set()

    def again(self) -> None:
        """Our own side has changed: what could not be tried before may be tried now."""
        self._fresh |= self.latest.keys()
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
            await self.freshen()

    async def freshen(self) -> int:
        """Write what is new since the last time; how many endpoints that were."""
        async with self._turn:
            await self._save()
            wanted = await self._wanted() if self._fresh else {}
            # asked once more, since that took a while
            changes = [Change(peer.key, wanted[peer.key]) for peer in self._idle(wanted)] if wanted else []
            if changes:
                self.device.update(changes)
            self.changed += len(changes)
            return len(changes)

    async def _save(self) -> None:
        """Keep the new records for the next start."""
        while self._unsaved:
            several = list(islice(self._unsaved, AT_ONCE))
            self._unsaved.difference_update(several)
            with self.node.state.transaction():
                for peer in several:
                    self.node.remember(self.latest[peer])
            await asyncio.sleep(0)

    async def _wanted(self) -> dict[PublicKey, Endpoint]:
        """Where peers with a new record and without a session should be looked for, unless the interface knows."""
        fresh, self._fresh, self._busy = self._fresh, set(), set()
        ground = self.ours.ground()
        wanted = {}
        for count, peer in enumerate(self._idle(fresh), 1):
            if (endpoint := self._endpoint(peer, ground)) is not None:
                wanted[peer.key] = endpoint
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
        return wanted

    def _idle(self, keys: Iterable[PublicKey]) -> list[Peer]:
        """Those of the interface's peers that have no session; the others are remembered for later."""
        known, now = self.device.read().peers, time.time()
        peers = [known[key] for key in keys if key in known]
        live = {peer.key for peer in peers if is_live(peer, None, now)}
        self._busy |= live
        return [peer for peer in peers if peer.key not in live]

    def _endpoint(self, peer: Peer, ground: Ground) -> Endpoint | None:
        """Where the record says that the peer is now; None when the interface knows that already."""
        candidates = self.latest[peer.key].record.candidates
        if any(each.endpoint == peer.endpoint for each in candidates):
            return None
        able = [each for each, reason in tryable(candidates, ground) if reason is None]
        best = order(able, self.ours.candidates())
        return best[0].endpoint if best else None
