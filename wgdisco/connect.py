"""From a fresh record to a handshake: what to send when, and when to leave a peer alone.

Two WireGuard peers that initiate at once lose both handshakes and wait 5 s or more for the next try. So one side
initiates: the one that the other cannot reach because its mapping depends on the destination, else the smaller key. The
other opens its NAT with punches from WireGuard's port and sets no endpoint, since WireGuard learns it from the
handshake; after a while of silence it initiates too.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from wgdisco.budget import Budget
from wgdisco.checks import Prober
from wgdisco.device import Change, Device, LiveSession, Peer, is_live
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError
from wgdisco.keys import PublicKey
from wgdisco.policy import is_private
from wgdisco.record import Candidate, Kind

__all__ = ["PUNCH_TTLS", "UNKNOWN", "Attempt", "Keepalive", "Link", "impossible", "initiates", "order", "silence"]

KEEPALIVE = 25  # seconds; below the 30 s after which a NAT forgets an unanswered mapping
SILENCE = 1.5  # seconds the passive side waits before it initiates too
DEEP_SILENCE = 6.0  # seconds, where the other side's NAT makes that all but hopeless
CHECKED = 1.0  # seconds for the checks, before WireGuard tries by itself
HOLD = 1.0  # seconds for which whoever came later sends nothing that could arrive
MANY = 20  # tries after which there is a rest between two rounds, which grows
LONGEST_REST = 900.0  # seconds between two rounds in the end
GIVEN = 7.0  # seconds for an endpoint that the user set meanwhile: WireGuard itself tries every 5.3 s at the latest
PATIENCE = 1.0  # seconds for one candidate before the next is tried
QUICK = 0.1  # seconds beside four round trips, for a handshake on a path that was just checked
PUNCH_TTLS = (2, 3, 4, 5, 6)  # hops, rising: enough to pass our own NATs, too few to arrive and move a mapping there
FULL_TTL = 64
PUNCH_PAUSE = 0.25  # seconds between two sweeps; full-TTL punches go at most twice a second
GLANCE, LONGEST_GLANCE = 0.03, 1.0  # seconds between two looks at the interface
ENDPOINT_DEPENDENT = ("address-dependent", "address-and-port-dependent")
UNKNOWN = ("unknown", "unknown")


class Port(Protocol):
    """What punches leave by: the raw socket on WireGuard's own port."""

    def send(self, payload: bytes, endpoint: Endpoint, ttl: int | None = None) -> None:
        """Send one datagram from WireGuard's port; `ttl` in hops."""


def initiates(ours: PublicKey, theirs: PublicKey, our_nat: Sequence[str], their_nat: Sequence[str]) -> bool:
    """Whether we start the handshake; `…_nat` are mapping and filtering in RFC 5780's names."""
    our_hard, their_hard = our_nat[0] in ENDPOINT_DEPENDENT, their_nat[0] in ENDPOINT_DEPENDENT
    return our_hard if our_hard != their_hard else ours < theirs


def silence(their_nat: Sequence[str]) -> float:
    """Seconds that the passive side waits for the other one."""
    return DEEP_SILENCE if their_nat[0] in ENDPOINT_DEPENDENT else SILENCE


def impossible(our_nat: Sequence[str], their_nat: Sequence[str]) -> str | None:
    """Why these two NATs cannot be punched through, or None when they can or it is not known."""
    sides = (("ours", our_nat, their_nat), ("theirs", their_nat, our_nat))
    for whose, (mapping, _), (other_mapping, other_filtering) in sides:
        if mapping not in ENDPOINT_DEPENDENT:
            continue
        if other_mapping in ENDPOINT_DEPENDENT:
            return "both NATs give every destination another port (symmetric), so neither side can say where it will be"
        if other_filtering == "address-and-port-dependent":
            return (
                f"one NAT ({whose}) gives every destination another port (symmetric) and the other one lets in only "
                "the exact address and port it sent to"
            )
    return None


def order(candidates: Sequence[Candidate], ours: Sequence[Candidate], last: Endpoint | None = None) -> list[Candidate]:
    """Candidates in the order of trying: what worked last, the same LAN if both are behind one NAT, then the rest."""
    reflexive = {each.endpoint.address for each in ours if each.kind is not Kind.HOST}
    same_nat = any(each.kind is not Kind.HOST and each.endpoint.address in reflexive for each in candidates)

    def rank(candidate: Candidate) -> tuple[bool, bool]:
        inner = candidate.kind is Kind.HOST and is_private(candidate.endpoint.address)
        return candidate.endpoint != last, inner != same_nat

    return sorted(candidates, key=rank)


class Keepalive(NamedTuple):
    """The persistent keepalive that the user set, and the one that we set, None when we did not (seconds, 0: off)."""

    users: int
    armed: int | None


@dataclass
class Link:
    """One peer of one interface: the few things connecting does to it, each announced through `echo`.

    What has to be sent to find it stays within the `budget`, which all links of an interface share. `given` is the
    endpoint that was there before us, or that the user has set since. `remembered` is the `keepalive` of the link
    before: what that one set would else be taken for the user's.
    """

    device: Device
    port: Port | None
    key: PublicKey
    echo: Callable[[str], None]
    behind_nat: bool = True
    budget: Budget = field(default_factory=Budget)
    remembered: Keepalive | None = None

    def __post_init__(self) -> None:
        self.before = self.read()
        now = Keepalive(self.before.keepalive, None)
        if self.remembered is not None and self.remembered.armed == now.users:
            now = self.remembered
        self.users, self._armed = now
        self.given = self.before.endpoint
        self._seen, self._placed, self._given_until = self.before.endpoint, False, 0.0
        self._received = self.before.rx
        self.begin()

    @property
    def keepalive(self) -> Keepalive:
        """What another link to the same peer has to remember."""
        return Keepalive(self.users, self._armed)

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


class Attempt:
    """Trying the candidates of one record until the handshake, or until the caller cancels it for a newer record."""

    def __init__(
        self,
        link: Link,
        candidates: Sequence[Endpoint],
        *,
        initiate: bool,
        silence: float = SILENCE,
        prober: Prober | None = None,
        supposed: Sequence[Endpoint] = (),
        later: bool = False,
    ) -> None:
        """Take the candidates in the order of trying, and which part is ours.

        `silence` in seconds is how long the passive side waits; with a `prober` checks find the path first, also at
        the endpoints that are `supposed`. `later` says that the other side published before us: what arrives from us
        before it has sent something itself could move its NAT's mapping, so for a while we send only what cannot
        arrive.
        """
        self.link, self.candidates, self.initiate = link, list(candidates), initiate
        self.silence, self.prober, self.supposed, self.later = silence, prober, supposed, later
        self.fired = 0

    async def run(self) -> None:
        """Return at the handshake; otherwise go on, slower and slower, until cancelled."""
        punching = asyncio.ensure_future(self._punch())
        try:
            if self.prober is not None and await self._checked(self.prober):
                return
            if self.initiate or not await self.link.handshake(self.silence):
                await self._rounds()
        finally:
            punching.cancel()
            await asyncio.gather(punching, return_exceptions=True)

    async def _checked(self, prober: Prober) -> bool:
        """Let the checks find a path and use it; whether that led to the handshake."""
        start = time.monotonic()
        while prober.path is None:
            waited = time.monotonic() - start
            if waited >= (HOLD if self.later else 0.0):
                prober.add([*self.candidates, *self.supposed])
            if waited >= CHECKED + (HOLD if self.later else 0.0):
                return False
            if await self.link.handshake(GLANCE):
                return True
        if not self.initiate and await self.link.handshake(self.silence):
            return True
        # a first endpoint is ignored for up to 5 s where something was sent already; then only a restart helps
        quick = min(PATIENCE, QUICK + 4 * prober.path.seconds) if self.link.before.endpoint is None else PATIENCE
        for patience in (quick, PATIENCE, PATIENCE):
            self.link.fire(prober.path.endpoint)
            if await self.link.handshake(patience):
                return True
        return False

    async def _rounds(self) -> None:
        """One candidate after the other, round after round.

        When that went on for long there is a rest between the rounds, where WireGuard would be without us: at the
        endpoint that the user gave. The pauses are uneven, so that two sides that both try do not stay in step.
        """
        rest = 0.0
        while True:
            for endpoint in self._order():
                self.fired += 1
                self.link.fire(endpoint)
                if await self.link.handshake(PATIENCE * random.uniform(0.9, 1.4)):  # noqa: S311 - no secret
                    return
            if not self._order():  # nothing was sent, so there is no hurry to see what came of it
                await asyncio.sleep(PATIENCE)
                if self.link.connected():
                    return
            if self.fired > MANY:
                rest = min(max(rest, PATIENCE) * 1.5, LONGEST_REST)
                if self.link.given is not None and self._order()[-1] != self.link.given:
                    self.link.fire(self.link.given)
                if await self.link.handshake(rest * random.uniform(0.9, 1.4)):  # noqa: S311 - no secret
                    return

    def _order(self) -> list[Endpoint]:
        """A path that answered a check alone; else every candidate."""
        path = None if self.prober is None else self.prober.path
        return self.candidates if path is None else [path.endpoint]

    async def _punch(self) -> None:
        """Open our NAT towards every candidate: with few hops first, then all the way."""
        early = (PUNCH_TTLS[0],) * round(HOLD / PUNCH_PAUSE) if self.later else ()
        for ttl in (*early, *PUNCH_TTLS):
            for endpoint in self.candidates:
                self.link.punch(endpoint, ttl)
            await asyncio.sleep(PUNCH_PAUSE * max(1.0, len(self.candidates) / 4))
        pause = 0.5 * max(1, len(self.candidates))
        while True:
            for endpoint in self.candidates:
                self.link.punch(endpoint, FULL_TTL)
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, 20.0)
