"""Keep one peer reachable: try what its record says until there is a handshake, and again when the session is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from wgdisco.checks import Checker
from wgdisco.connect import Attempt, initiates, silence
from wgdisco.endpoint import Endpoint
from wgdisco.guard import LOOK, Guard
from wgdisco.keys import PublicKey
from wgdisco.link import GLANCE, Link
from wgdisco.node import Node
from wgdisco.outlook import Ours, Outlook, nat_of
from wgdisco.pulse import Pulse
from wgdisco.record import Record
from wgdisco.search import Finding

__all__ = ["Tender"]


class Tender:
    """One peer: `connect` once, or `keep` it reachable; its `outlook` takes the news; `state` says what it is at.

    `say` hears what is done, in whole sentences; `missing(True)` is called while the peer is wanted and not there.
    """

    def __init__(
        self,
        node: Node,
        link: Link,
        ours: Ours,
        say: Callable[[str], None],
        checker: Checker | None = None,
        missing: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """With a `checker` paths are checked before WireGuard tries them."""
        self.node, self.link, self.ours, self.say, self.missing = node, link, ours, say, missing
        self.outlook, self.pulse = Outlook(link, ours, say, checker), Pulse()
        self.guard = Guard(link, self.outlook, self.pulse, say, missing)
        self.state, self.since = "searching", time.time()
        self.connects = 0
        self.finding: Finding | None = None
        self.plan: tuple[list[Endpoint], bool] | None = None
        self._found_at = 0.0
        self._tried: Attempt | None = None
        self._attempt: asyncio.Task[None] | None = None

    @property
    def peer(self) -> PublicKey:
        """Whom this is about."""
        return self.link.key

    @property
    def tried(self) -> list[Endpoint]:
        """The endpoints that are being tried."""
        return self.plan[0] if self.plan is not None else []

    @property
    def fired(self) -> int:
        """How often WireGuard was made to try the record's endpoints."""
        return self._tried.fired if self._tried is not None else 0

    async def connect(self) -> float:
        """Return at the handshake, with the seconds it took since the peer's record was there (0 if it came first)."""
        self.link.begin()
        self.finding = self.plan = None
        self._enter("searching")
        self.missing(True)
        try:
            while not self.link.connected():
                await self._consider()
                if self._attempt is not None and self._attempt.done() and not self._attempt.cancelled():
                    self._attempt.result()
                await self.outlook.wait(self._pace())
        finally:
            self.missing(False)
            await self._stop()
        return time.monotonic() - self._found_at if self.finding is not None else 0.0

    async def keep(self) -> None:
        """Go on until cancelled: connect, guard the session, connect again."""
        try:
            while True:
                self.pulse.see(self.link.read())
                if self.pulse.live:
                    self._enter("connected")
                    await self.guard.run()
                elif self._idle():
                    self._enter("idle")
                    await self.outlook.wait(LOOK)
                else:
                    await self.connect()
                    self._settle()
        finally:
            if not self.pulse.live and not self.link.connected():
                self.link.restore()

    def _idle(self) -> bool:
        """Whether there is no session only because nobody has had anything to say, as the user set it up."""
        peer = self.link.read()
        quiet = not peer.keepalive and not self.pulse.unanswered() and not self.outlook.moved
        connected_so = self.guard.examined is self.outlook.latest and peer.endpoint == self.outlook.worked
        known = self.outlook.latest is None or self.outlook.names(peer.endpoint) or connected_so
        return peer.handshake > 0 and peer.endpoint is not None and quiet and known

    def _settle(self) -> None:
        """Put the keepalive in order, and remember what worked; who is found nowhere is none of our business."""
        if self.finding is None:
            return
        self.link.behind_nat = self.ours.behind_nat()
        self.link.settle()
        self.connects += 1
        self.outlook.worked = endpoint = self.link.read().endpoint
        self.outlook.moved, self.guard.examined = False, self.outlook.latest
        self.say(f"connected at {endpoint.short if endpoint is not None else 'no endpoint'}")

    def _pace(self) -> float:
        """Seconds to the next look: short while something is expected to happen."""
        if self._attempt is None:
            return LOOK
        return min(LOOK, max(GLANCE, (time.monotonic() - self._found_at) / 20))

    async def _consider(self) -> None:
        """A fresher record, or another address of ours: if it says something else, drop the old plan for a new one."""
        latest, moved = self.outlook.latest, self.outlook.moved
        if latest is None or (latest is self.finding and not moved):
            self.outlook.review()
            return
        await self.ours.ready.wait()
        self.outlook.moved = False
        if latest is not self.finding:
            self.node.remember(latest)
        self.finding, plan = latest, self._plan(latest.record)
        # the same again changes nothing while it is being tried, and ends every back-off
        if plan == self.plan and not moved and self._tried is not None and self._tried.fired <= 2 * len(plan[0]):
            return
        await self._stop()
        self.plan, self._found_at = plan, time.monotonic()
        self._describe(latest.record, *plan)
        self._start(latest.record, *plan)

    def _plan(self, record: Record) -> tuple[list[Endpoint], bool]:
        """What to try, and whether we start."""
        own = self.node.private
        first = own is None or initiates(own.public, self.peer, self.ours.nat(), nat_of(record))
        return self.outlook.judge(record), first

    def _start(self, record: Record, endpoints: list[Endpoint], first: bool) -> None:
        checks = self.outlook.answers_checks
        self._tried = Attempt(
            self.link,
            endpoints,
            initiate=first,
            silence=silence(nat_of(record)),
            prober=self.outlook.prober() if checks else None,
            supposed=self.outlook.supposed,
            later=checks and record.issued < self.ours.issued(),
        )
        self._enter("connecting")
        self._attempt = asyncio.ensure_future(self._tried.run())

    async def _stop(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
        await self.outlook.close()

    def _describe(self, record: Record, tried: list[Endpoint], first: bool) -> None:
        age = (self.node.clock() - record.issued) / 1000
        where = ", ".join(each.short for each in tried) or "nothing to try"
        self.say(f"found its record ({age:.0f} s old): {where}")
        self.say("we start the handshake" if first else "the other side starts the handshake, we open our NAT")

    def _enter(self, state: str) -> None:
        if state != self.state:
            self.state, self.since = state, time.time()
