"""One peer of one interface: every way in which connecting touches it, and what of its settings is the user's."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from wgdisco.budget import Budget
from wgdisco.device import Change, Device, LiveSession, Peer, is_live
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError
from wgdisco.keys import PublicKey

__all__ = ["GLANCE", "Link", "Users"]

KEEPALIVE = 25  # seconds; below the 30 s after which a NAT forgets an unanswered mapping
GIVEN = 7.0  # seconds for an endpoint that the user set meanwhile: WireGuard itself tries every 5.3 s at the latest
GLANCE, LONGEST_GLANCE = 0.03, 1.0  # seconds between two looks at the interface


class Port(Protocol):
    """What punches leave by: the raw socket on WireGuard's own port."""

    def send(self, payload: bytes, endpoint: Endpoint, ttl: int | None = None) -> None:
        """Send one datagram from WireGuard's port; `ttl` in hops."""


class Users(NamedTuple):
    """What of a peer's settings is the user's: the keepalive (seconds, 0: off) and the endpoint given.

    `armed` is the keepalive that we set meanwhile, None when we did not, and `seen` the endpoint that was there last.
    """

    keepalive: int
    armed: int | None = None
    given: Endpoint | None = None
    seen: Endpoint | None = None


@dataclass
class Link:
    """One peer of one interface: the few things connecting does to it, each announced through `echo`.

    What has to be sent to find it stays within the `budget`, which all links of an interface share. `given` is the
    endpoint that was there before us, or that the user has set since. `remembered` is what the link before knew: what
    that one set would else be taken for the user's.
    """

    device: Device
    port: Port | None
    key: PublicKey
    echo: Callable[[str], None]
    behind_nat: bool = True
    budget: Budget = field(default_factory=Budget)
    remembered: Users | None = None

    def __post_init__(self) -> None:
        self.before = self.read()
        known = self.remembered or Users(self.before.keepalive)
        kept = known.armed == self.before.keepalive
        self.users, self._armed = (known.keepalive, known.armed) if kept else (self.before.keepalive, None)
        self.given = known.given if known.seen == self.before.endpoint else self.before.endpoint
        self._seen, self._placed, self._given_until = self.before.endpoint, False, 0.0
        self._received = self.before.rx
        self.begin()

    @property
    def knowledge(self) -> Users:
        """What another link to the same peer has to remember."""
        return Users(self.users, self._armed, self.given, self._seen)

    def begin(self) -> None:
        """Forget what was: `connected` is about handshakes from now on."""
        self.before = self._noted(self.read())
        self.started = time.monotonic()
        self._received = self.before.rx

    def read(self) -> Peer:
        """The peer as it is now; raises AccessError when it was removed."""
        try:
            return self.device.read().peers[self.key]
        except KeyError:
            name = self.device.name
            raise AccessError(
                f"{name} no longer has the peer {self.key.short}; add it again with: wg set {name}"
            ) from None

    def connected(self) -> bool:
        """Whether a handshake has come about since we began."""
        peer = self._noted(self.read())
        return peer.handshake > 0 and peer.handshake != self.before.handshake

    def waited(self) -> float:
        """Seconds since we began."""
        return time.monotonic() - self.started

    async def handshake(self, seconds: float) -> bool:
        """Wait up to `seconds` for a handshake; who waits long looks less often."""
        start = time.monotonic()
        while not self.connected():
            waited = time.monotonic() - start
            if waited >= seconds:
                return False
            await asyncio.sleep(min(max(GLANCE, waited / 20), LONGEST_GLANCE))
        return True

    def fire(self, endpoint: Endpoint) -> None:
        """Make WireGuard send a handshake initiation to `endpoint` now; does nothing to a live session."""
        peer = self._noted(self.read())
        if is_live(peer, None, time.time()) or self.connected():
            return
        if time.monotonic() < self._given_until:
            return
        if peer.rx > self._received:
            # the other side's initiation has come in and is being answered: a restart would throw that session away
            self._received = peer.rx
            return
        if not self.budget.take(self.key, endpoint.address):
            return
        keepalive = self.users or KEEPALIVE
        where = f"peer {self.key.short} endpoint {endpoint.short} persistent-keepalive {keepalive}"
        again = "" if peer.endpoint is None else " (removed and added again, as it was)"
        self.echo(f"wg set {self.device.name} {where}{again}")
        self._armed = keepalive
        if peer.endpoint is None:
            # a keepalive that goes from 0 to n sends at once, as long as nothing is being tried elsewhere
            rearm = [Change(self.key, keepalive=0)] if peer.keepalive else []
            self.device.update([*rearm, Change(self.key, endpoint, keepalive)])
        else:
            try:
                # since: what we have read may be older than an initiation that has just come in
                self.device.restart_peer(self.key, endpoint, keepalive, since=peer)
            except LiveSession:
                return
            self._received = 0
        self._seen, self._placed = self.read().endpoint, True

    def punch(self, endpoint: Endpoint, ttl: int) -> None:
        """Send a STUN binding indication, which WireGuard ignores and no server answers (RFC 8489 section 5)."""
        if self.port is not None and self.budget.take(self.key, endpoint.address):
            with suppress(OSError):
                self.port.send(b"\x00\x11\x00\x00\x21\x12\xa4\x42" + os.urandom(12), endpoint, ttl)

    def settle(self) -> None:
        """After the handshake: put the user's keepalive back; 25 s stays only where it was unset and a NAT needs it.

        A keepalive that is armed anew is sent at once, which confirms the session to a responder that missed the first.
        """
        self._noted(self.read())
        self.echo(f"wg set {self.device.name} peer {self.key.short} persistent-keepalive {self._wanted}")
        self.device.update([Change(self.key, keepalive=value) for value in self._rearmed()])
        self._armed = self._wanted

    def move(self, endpoint: Endpoint | None = None) -> None:
        """Of a live session: send to `endpoint` from now on (None: where it is), and something at once.

        The other side's WireGuard follows what comes from a new address and is authentic.
        """
        self._noted(self.read())
        where = f"endpoint {endpoint.short} " if endpoint is not None else ""
        self.echo(f"wg set {self.device.name} peer {self.key.short} {where}persistent-keepalive {self._wanted}")
        off, *on = self._rearmed(always=True)
        self.device.update([Change(self.key, endpoint, off), *(Change(self.key, keepalive=value) for value in on)])
        self._armed = self._wanted
        self._seen, self._placed = self.read().endpoint, False

    def restore(self) -> None:
        """Without a handshake: put back the keepalive, and the endpoint if we replaced one."""
        peer = self._noted(self.read())
        endpoint = self.before.endpoint if self._placed else peer.endpoint
        if (peer.endpoint, peer.keepalive) != (endpoint, self.users):
            self.echo(f"wg set {self.device.name} peer {self.key.short} (endpoint and keepalive as before)")
            self.device.update([Change(self.key, endpoint, self.users)])
        self._armed = None

    @property
    def _wanted(self) -> int:
        return self.users or (KEEPALIVE if self.behind_nat else 0)

    def _rearmed(self, *, always: bool = False) -> list[int]:
        """The values of the keepalive, one after the other, that end at the wanted one; 0 to n sends at once."""
        if self._wanted:
            return [0, self._wanted]
        return [0, KEEPALIVE, 0] if always else [0]

    def _noted(self, peer: Peer) -> Peer:
        """Whatever keepalive is set and is not ours is the user's, and the one to put back; of an endpoint likewise.

        An endpoint that changed although nothing came in is not one that WireGuard has learnt.
        """
        if peer.keepalive != self._armed:
            self.users, self._armed = peer.keepalive, None
        if peer.endpoint != self._seen:
            if peer.rx <= self._received:
                self.given, self._given_until = peer.endpoint, time.monotonic() + GIVEN
            self._seen, self._placed = peer.endpoint, False
        return peer
