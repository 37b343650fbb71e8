"""One look at where we are, steadied by those before it: servers that are silent for a moment take nothing back.

Sans I/O. What servers saw of us is kept by address family while they are silent and our own addresses stay the same:
for three looks and a minute, then it goes. A single answer puts what it says in its place at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from wgdisco.endpoint import Endpoint
from wgdisco.policy import is_private
from wgdisco.record import Candidate, Kind
from wgdisco.sources import Behaviour, Found, Nat, Where
from wgdisco.sources.peers import PEERS

__all__ = ["MAPPING_LIVES", "Steady", "alike", "remembered"]

MAPPING_LIVES = 20.0
"""Seconds between two looks behind a NAT, which forgets a mapping 30 s after its last packet."""
LOOKS = 3  # looks in a row that servers may be silent
MINUTE = 60.0  # seconds that they may be, however many looks that were
DOUBLINGS = 5  # looks without anything, 1, 2, 4, 8 and 16 s apart, until the usual pause is enough
OUTSIDE = frozenset({Kind.SERVER_REFLEXIVE, Kind.OBSERVED})
DEPENDENT = frozenset({Behaviour.ADDRESS_DEPENDENT, Behaviour.ADDRESS_AND_PORT_DEPENDENT})

Hosts = frozenset[tuple[Endpoint, str]]


def remembered(now: Nat, before: Nat) -> Nat:
    """The NAT's verdict: how it filters is only measured now and then, and stands as long as the mapping does.

    A quick look says of every mapping that depends on more than our side that it is at least address-dependent, and
    nothing where only one server answered in time.
    """
    least, most = Behaviour.ADDRESS_DEPENDENT, Behaviour.ADDRESS_AND_PORT_DEPENDENT
    agrees = now.mapping in (before.mapping, Behaviour.UNKNOWN) or (now.mapping, before.mapping) == (least, most)
    if now.filtering is Behaviour.UNKNOWN and agrees:
        return now._replace(mapping=before.mapping, filtering=before.filtering)
    return now


def alike(now: Collection[Candidate], before: Collection[Candidate], mapping: Behaviour) -> bool:
    """Whether two lists of candidates tell peers the same, be it in another order.

    Behind an endpoint-dependent mapping each server sees another port, which is of no use to anybody but that server:
    there only the addresses count, and one that is missing because its server is late is no news.
    """
    if _inside(now) != _inside(before):
        return False
    seen, known = ({each.endpoint for each in said if each.kind in OUTSIDE} for said in (now, before))
    if mapping not in DEPENDENT:
        return seen == known
    addresses, others = {each.address for each in seen}, {each.address for each in known}
    return addresses <= others and {each.version for each in addresses} == {each.version for each in others}


@dataclass
class _Family:
    """What servers of one address family said last, since when they are silent, and our own addresses then."""

    hosts: Hosts = frozenset()
    seen: Sequence[Found] = ()
    nat: Nat = field(default_factory=Nat)
    silent: int = 0
    heard: float = 0.0

    def take(self, hosts: Hosts, seen: Sequence[Found], nat: Nat | None, now: float) -> None:
        """One look at `now` (seconds); `nat` is None where the verdict is about the other family."""
        moved, self.hosts = hosts != self.hosts, hosts
        if seen:
            self.seen, self.silent, self.heard = seen, 0, now
            if nat is not None:
                self.nat = nat if moved and nat.mapping is Behaviour.UNKNOWN else remembered(nat, self.nat)
        elif moved:
            self.seen, self.silent = (), 0
        elif self.seen or self.silent:
            self.silent += 1
            if self.silent > LOOKS and now - self.heard >= MINUTE:
                self.seen = ()


class Steady:
    """Takes one look after the other; `where` is the latest, steadied."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self.clock = clock
        self.where = Where()
        self._families = {4: _Family(), 6: _Family()}
        self._misses = 0

    @property
    def is_seen(self) -> bool:
        """Whether any server sees us, or did so a moment ago."""
        return any(family.seen for family in self._families.values())

    def take(self, look: Where) -> Where:
        """The look, with what servers that are silent now said before."""
        now, seen = self.clock(), [each for each in look.found if _is_server(each)]
        judged = min((each.endpoint.address.version for each in seen), default=None)
        before = [family.hosts for family in self._families.values()]
        for version, family in self._families.items():
            said = [each for each in seen if each.endpoint.address.version == version]
            family.take(_hosts(look, version), said, look.nat if version == judged else None, now)
        moved = before != [family.hosts for family in self._families.values()]
        self._misses = 0 if self.is_seen or not look.asked else 1 + (0 if moved else self._misses)
        self.where = replace(look, found=self._found(look), nat=self._nat(look))
        return self.where

    def pause(self, rest: float) -> float:
        """Seconds until the next look, `rest` where no NAT is in the way; soon where nobody has seen us at all."""
        if self._misses:
            return min(2.0 ** min(self._misses - 1, DOUBLINGS), MAPPING_LIVES)
        return MAPPING_LIVES if self._has_mapping() else rest

    def _has_mapping(self) -> bool:
        """Whether a NAT may hold a mapping for us, as far as is known."""
        found = self.where.found
        own = {each.endpoint for each in found if each.kind is Kind.HOST}
        behind = any(each.address.version == 4 and is_private(each.address) for each in own)
        return (
            self.where.nat.translated is not False
            or any(each.kind in OUTSIDE and each.endpoint not in own for each in found)
            or any(family.silent for family in self._families.values())
            or (self.where.asked and behind and not self._families[4].seen)
        )

    def _found(self, look: Where) -> list[Found]:
        """With what is held; peers' words say nothing new there but an address, since each may see another port."""
        held = [each for family in self._families.values() if family.silent for each in family.seen]
        known = {each.endpoint.address for each in held}
        told = [each for each in look.found if each.source != PEERS or each.endpoint.address not in known]
        return [*told, *held]

    def _nat(self, look: Where) -> Nat:
        """The verdict of IPv4, or of IPv6 where nobody sees us by IPv4."""
        return next((family.nat for family in self._families.values() if family.seen), look.nat)


def _is_server(found: Found) -> bool:
    return found.kind in OUTSIDE and found.source != PEERS


def _hosts(look: Where, version: int) -> Hosts:
    """Our own addresses of a family, with what is known of their links: another way out is another NAT."""
    hosts = (each for each in look.found if each.kind is Kind.HOST and each.endpoint.address.version == version)
    return frozenset((each.endpoint, each.detail) for each in hosts)


def _inside(candidates: Collection[Candidate]) -> set[Candidate]:
    return {each for each in candidates if each.kind not in OUTSIDE}
