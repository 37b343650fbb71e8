"""What `why` knows without an agent: the interface read, the peer and ourselves looked for once, our NAT asked about.

It comes as the same report an agent would write, so that one set of rules explains both.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING

from wgdisco.cli.setting import Setting
from wgdisco.cli.show import kind_name
from wgdisco.cli.whereabouts import open_port, release, sources
from wgdisco.discovery import resolve
from wgdisco.freshness import Marks
from wgdisco.keys import PublicKey
from wgdisco.report import BackendReport, CandidateReport, PeerReport, RecordReport, Report
from wgdisco.search import Finding, Search

if TYPE_CHECKING:
    from wgdisco.node import Node
    from wgdisco.sources import Where

__all__ = ["look_up"]


class Forgetful:
    """Reads our own record as the peer would that sees it for the first time."""

    def marks(self, subject: PublicKey) -> Marks:  # noqa: ARG002 - every subject is new
        """None yet."""
        return Marks()

    def remember(self, subject: PublicKey, marks: Marks) -> None:
        """Do nothing."""


async def look_up(here: Setting, peer: PublicKey) -> Report:
    """A report with this one peer in it, as of now; stores and STUN servers are all asked at once."""
    async with here.node() as node:
        search, own, where = await asyncio.gather(
            node.resolve(peer, settle=None), _own(here, node, peer), _whereabouts(here)
        )
        return _report(here, node, peer, search, own, where)


async def _own(here: Setting, node: Node, peer: PublicKey) -> Search:
    """Our own record, looked for wherever this peer would find it."""
    from wgdisco.audience import Audience, union

    _, _, private = here.wireguard
    audiences = [Audience.peers(private, peer), *node.networks, Audience.key(private.public)]
    now = node.clock()
    places = union(place for audience in audiences for place in audience.readable(private.public, now))
    return await resolve(node.stores, places, Forgetful(), node.clock, None)


async def _whereabouts(here: Setting) -> Where:
    from wgdisco.cli.endpoints import THOROUGH, thorough
    from wgdisco.errors import AccessError
    from wgdisco.sources import Where, gather

    async with AsyncExitStack() as stack:
        try:
            port = None if here.given() else await open_port(here, stack)
        except AccessError as error:
            return Where(problems=[str(error)])
        asked = [thorough(source) for source in sources(here, port)]
        try:
            return await gather(asked, THOROUGH)
        finally:
            await release(asked)


def _report(here: Setting, node: Node, peer: PublicKey, search: Search, own: Search, where: Where) -> Report:
    _, interface, private = here.wireguard
    said = None if own.best is None else own.best.record
    now = node.clock() / 1000
    return Report(
        written=now,
        interface=interface.name,
        state="running",
        since=now,
        pid=os.getpid(),
        process=0,
        boot="",
        key=str(private.public),
        port=interface.listen_port,
        fwmark=interface.fwmark,
        issued=0.0 if said is None else said.issued / 1000,
        ends=0.0 if said is None else said.end / 1000,
        nat=(str(where.nat.mapping), str(where.nat.filtering)),
        translated=where.nat.translated,
        candidates=[
            CandidateReport(endpoint=str(each.endpoint), kind=kind_name(each.kind), source=each.detail or each.source)
            for each in where.found
        ],
        problems=where.problems,
        backends=[_backend(each.name, search, own, now) for each in node.stores],
        peers=[_peer(here, peer, search, where, now)],
    )


def _backend(name: str, search: Search, own: Search, now: float) -> BackendReport:
    answer, ours = search.answers[name], own.answers[name]
    stored = max(ours.accepted, default=0) / 1000
    if answer.error is not None:
        return BackendReport(name=name, error=str(answer.error), failed=now, stored=stored)
    return BackendReport(name=name, answered=now, stored=stored)


def _peer(here: Setting, key: PublicKey, search: Search, where: Where, now: float) -> PeerReport:
    from wgdisco.device import is_live

    _, interface, _ = here.wireguard
    known, refused = interface.peers[key], dict[str, int]()
    for answer in search.answers.values():
        for reason, count in answer.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    state = "waiting" if search.best is not None else "searching"
    return PeerReport(
        key=str(key),
        state="connected" if is_live(known, None, now) else state,
        endpoint="" if known.endpoint is None else str(known.endpoint),
        handshake=known.handshake,
        rx=known.rx,
        tx=known.tx,
        keepalive=known.keepalive,
        record=None if search.best is None else _record(here, search.best, where),
        refused=refused,
    )


def _record(here: Setting, finding: Finding, where: Where) -> RecordReport:
    from wgdisco.device.routes import Routes
    from wgdisco.outlook import nat_of
    from wgdisco.policy import Ground, tryable

    _, interface, _ = here.wireguard
    record = finding.record
    allowed = [network for each in interface.peers.values() for network in each.allowed_ips]
    own = [each.endpoint for each in where.found]
    with closing(Routes()) as routes:
        judged = tryable(record.candidates, Ground(lambda each: routes.lookup(each, interface.fwmark), own, allowed))
    mapping, filtering = nat_of(record)
    return RecordReport(
        issued=record.issued / 1000,
        ends=record.end / 1000,
        backend=finding.backend,
        nat=(mapping, filtering),
        checks=record.hints.get("checks") is True,
        candidates=[
            CandidateReport(
                endpoint=str(each.endpoint),
                kind=kind_name(each.kind),
                result="" if reason is None else "not tried",
                reason=reason or "",
            )
            for each, reason in judged
        ],
    )
