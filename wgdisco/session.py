"""Everything that goes on for one reading of the interface: announce ourselves, seek its peers, tend each of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from wgdisco.announce import Announcer, hints_of
from wgdisco.audience import SKEW, Audience
from wgdisco.budget import Budget
from wgdisco.checks import Checker
from wgdisco.connect import UNKNOWN
from wgdisco.device import Device, Interface
from wgdisco.device.port import Port
from wgdisco.device.routes import Routes
from wgdisco.endpoint import Endpoint
from wgdisco.fleet import Fleet
from wgdisco.keys import PublicKey
from wgdisco.link import Link, Users
from wgdisco.node import Node
from wgdisco.outlook import Ours
from wgdisco.policy import Ground, Sites
from wgdisco.search import Finding
from wgdisco.seek import EAGER, Seeker
from wgdisco.sources import Where
from wgdisco.sources.interface import InterfaceSource
from wgdisco.sources.peers import Witnesses
from wgdisco.tend import Tender

__all__ = ["WANTED", "Session"]

WANTED = 500
"""Up to so many peers all are wanted: connected, and kept so. Beyond, their endpoints are kept fresh (fleet.py)."""


class Session:
    """One node at work on one interface; its parts are run by the caller: `announcer`, `seeker`, `tenders`, `fleet`.

    `say(text, peer)` hears what is done, `echo` what is changed at the interface. It ends when its parts are no longer
    run; a change of key, port, firewall mark or peers needs another one.
    """

    def __init__(
        self,
        node: Node,
        device: Device,
        interface: Interface,
        port: Port | None,
        gather: Callable[[bool], Awaitable[Where]],
        audiences: Sequence[Audience],
        say: Callable[[str, PublicKey | None], None],
        echo: Callable[[str], None],
        *,
        peers: Iterable[PublicKey] | None = None,
        expose_hosts: bool = False,
        eager: float = EAGER,
        users: Mapping[PublicKey, Users] | None = None,
    ) -> None:
        """`gather` asks the sources, thoroughly if told so; `peers` are those to seek, all of them by default.

        `users` is what the session before knew of their users' settings. Without a `port` no checks are made and
        nothing is punched.
        """
        self.node, self.device, self.interface, self.port, self.say = node, device, interface, port, say
        self.peers = list(interface.peers if peers is None else peers)
        self.restarts = 0
        self._users = users or {}
        self._gather, self._witnesses, self._budget = gather, Witnesses(), Budget()
        self.announcer = Announcer(
            node,
            self._look,
            audiences,
            lambda text: say(text, None),
            expose_hosts=expose_hosts,
            checks=port is not None,
        )
        self.seeker = Seeker(node, self.peers, self._found, lambda text: say(text, None), eager)
        self.announcer.looked, self.announcer.changed = self.seeker.looked, self._elsewhere
        self._routes = Routes()
        self._allowed = Sites(network for each in interface.peers.values() for network in each.allowed_ips)
        assert node.private is not None  # the interface's own
        witnesses, checker = self._witnesses, None
        if port is not None:
            checker = Checker(port, node.private, self.peers, self._heard, seen=witnesses.hear, budget=self._budget)
        ours = self._ours()
        self.tenders: dict[PublicKey, Tender] = {}
        self.fleet = Fleet(device, node, ours) if len(self.peers) > WANTED else None
        if self.fleet is None:
            self.tenders = {peer: self._tender(peer, ours, checker, echo) for peer in self.peers}

    def moved(self) -> None:
        """Our own addresses changed, or the host slept: publish, read and check everything anew.

        No connection to a store has survived that, and it may have been us that stores failed.
        """
        for store in self.node.stores:
            store.moved()
        self._witnesses.forget()
        self.announcer.moved()
        self.seeker.again()
        self._doubt()

    def woke(self) -> None:
        """The host slept, or its clock was set: nothing is known any longer, and perhaps no connection has survived."""
        self.moved()
        self.seeker.reconsider()

    def _elsewhere(self) -> None:
        """What the internet sees of us has changed, perhaps after an outage: whatever failed before may work now."""
        for store in self.node.stores:
            store.wake()
        self.seeker.again()
        self._doubt()

    def _doubt(self) -> None:
        if self.fleet is not None:
            self.fleet.again()
        for tender in self.tenders.values():
            tender.outlook.move()

    def count_restart(self) -> None:
        """A part of this session ended with an error and was started again."""
        self.restarts += 1

    async def addresses(self) -> Where:
        """Where we are by the host's own knowledge, at once."""
        interface = self.interface
        return await InterfaceSource(interface.listen_port, interface.fwmark, self._allowed).find(1.0)

    def close(self) -> None:
        """Let go of the netlink socket."""
        self._routes.close()

    async def _look(self, thorough: bool) -> Where:
        where = await self._gather(thorough)
        where.found += self._witnesses.beside(where.found)
        return where

    def _ours(self) -> Ours:
        announcer = self.announcer
        return Ours(
            ground=self._ground,
            candidates=lambda: announcer.candidates,
            nat=lambda: hints_of(announcer.where).get("nat", UNKNOWN),
            issued=lambda: announcer.issued,
            behind_nat=lambda: announcer.where.nat.translated is not False,
            doubt=announcer.hurry,
            latest=lambda: self.node.clock() + SKEW,
            ready=announcer.told,
        )

    def _ground(self) -> Ground:
        own = [each.endpoint for each in self.announcer.candidates]
        mark = self.interface.fwmark
        return Ground(lambda address: self._routes.lookup(address, mark), own, self._allowed)

    def _tender(self, peer: PublicKey, ours: Ours, checker: Checker | None, echo: Callable[[str], None]) -> Tender:
        remembered = self._users.get(peer)
        link = Link(self.device, self.port, peer, echo, budget=self._budget, remembered=remembered)

        def missing(gone: bool) -> None:
            (self.seeker.miss if gone else self.seeker.have)(peer)

        return Tender(self.node, link, ours, lambda text: self.say(text, peer), checker, missing)

    def _found(self, peer: PublicKey, finding: Finding) -> None:
        if self.fleet is not None:
            self.fleet.take(peer, finding)
        else:
            self.tenders[peer].outlook.take(finding)

    def _heard(self, peer: PublicKey, endpoint: Endpoint) -> None:
        if peer in self.tenders:
            self.tenders[peer].outlook.hear(endpoint)
