"""From a fresh record to a handshake: what to send when, and when to leave a peer alone.

Two WireGuard peers that initiate at once lose both handshakes and wait 5 s or more for the next try. So one side
initiates: the one that the other cannot reach because its mapping depends on the destination, else the smaller key. The
other opens its NAT with punches from WireGuard's port and sets no endpoint, since WireGuard learns it from the
handshake; after a while of silence it initiates too.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from wgdisco.checks import Prober
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PublicKey
from wgdisco.link import GLANCE, Link
from wgdisco.policy import is_private
from wgdisco.record import Candidate, Kind

__all__ = ["PUNCH_TTLS", "UNKNOWN", "Attempt", "impossible", "initiates", "order", "silence"]

SILENCE = 1.5  # seconds the passive side waits before it initiates too
DEEP_SILENCE = 6.0  # seconds, where the other side's NAT makes that all but hopeless
CHECKED = 1.0  # seconds for the checks, before WireGuard tries by itself
HOLD = 1.0  # seconds for which whoever came later sends nothing that could arrive
MANY = 20  # tries after which there is a rest between two rounds, which grows
LONGEST_REST = 900.0  # seconds between two rounds in the end
PATIENCE = 1.0  # seconds for one candidate before the next is tried
QUICK = 0.1  # seconds beside four round trips, for a handshake on a path that was just checked
PUNCH_TTLS = (2, 3, 4, 5, 6)  # hops, rising: enough to pass our own NATs, too few to arrive and move a mapping there
FULL_TTL = 64
PUNCH_PAUSE = 0.25  # seconds between two sweeps; full-TTL punches go at most twice a second
ENDPOINT_DEPENDENT = ("address-dependent", "address-and-port-dependent")
UNKNOWN = ("unknown", "unknown")


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
