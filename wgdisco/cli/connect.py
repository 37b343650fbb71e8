"""Publish, find one peer, punch through both NATs, and return at the handshake. Type it on both sides."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from wgdisco.cli.common import (
    Setting,
    add_audience,
    add_backends,
    add_identity,
    add_whereabouts,
    note,
    open_port,
    seconds,
    setting,
    sources,
)

if TYPE_CHECKING:
    from wgdisco.announce import Announcer
    from wgdisco.device.port import Port
    from wgdisco.endpoint import Endpoint
    from wgdisco.keys import PublicKey
    from wgdisco.node import Node
    from wgdisco.record import Candidate
    from wgdisco.sources import Where
    from wgdisco.tend import Tender

__all__ = ["configure", "run"]

WAIT = 600.0  # seconds for the other side to type the same
HOPELESS = 15.0  # seconds for a pair that by all that is known cannot work


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("peer", metavar="PEER", help="the public key of a peer of the interface, or its beginning")
    add_identity(parser)
    add_backends(parser)
    add_audience(parser)
    add_whereabouts(parser)
    parser.add_argument("--timeout", type=seconds, default=WAIT, metavar="SECONDS", help="default: %(default).0f")


def run(options: argparse.Namespace) -> int:
    """Connect once; 0 at the handshake, else an error that says why not."""
    from wgdisco.cli.running import run as run_async

    return run_async(_connect(setting(options)))


async def _connect(here: Setting) -> int:
    from wgdisco.device import is_live

    _, interface, private = here.wireguard
    peer = _peer(here.options.peer, interface.peers, interface.name)
    known = interface.peers[peer]
    async with here.node() as node, AsyncExitStack() as stack:
        if is_live(known, None, node.clock() / 1000):
            print(f"connected already: {peer.short} at {known.endpoint}")
            return 0
        note(f"this is {private.public}; the other side types: wgdisco connect {private.public}")
        port = await open_port(here, stack)
        announcer = _announcer(here, node, port, peer)
        tender = _tender(here, node, port, announcer, peer)
        announcer.looked = tender.looked
        node.hurry()
        return await _meet(announcer, tender, here.options.timeout)


def _peer(text: str, peers: Collection[PublicKey], name: str) -> PublicKey:
    """The peer that is meant; raises UsageError when it is not one of the interface's."""
    from wgdisco.errors import UsageError
    from wgdisco.keys import PublicKey

    meant = [key for key in peers if str(key).startswith(text)] if len(text) >= 4 else []
    if len(meant) == 1:
        return meant[0]
    if len(meant) > 1:
        raise UsageError(f"{text!r} is the beginning of {len(meant)} peers of {name}; type more of it")
    key = PublicKey.parse(text)
    raise UsageError(
        f"{name} has no peer {key}; wgdisco never creates one. First: wg set {name} peer {key} allowed-ips ADDRESS/32"
    )


def _announcer(here: Setting, node: Node, port: Port | None, peer: PublicKey) -> Announcer:
    from wgdisco.announce import Announcer
    from wgdisco.cli.common import scope_of
    from wgdisco.cli.endpoints import THOROUGH, thorough
    from wgdisco.sources import gather

    quick, readers = sources(here, port), node.readers(scope_of(here), [peer])
    slow = [thorough(source) for source in quick]

    def look(slowly: bool) -> Awaitable[Where]:
        return gather(slow, THOROUGH) if slowly else gather(quick)

    return Announcer(node, look, readers, note, expose_hosts=here.expose_hosts, checks=port is not None)


def _tender(here: Setting, node: Node, port: Port | None, announcer: Announcer, peer: PublicKey) -> Tender:
    from wgdisco.announce import hints_of
    from wgdisco.checks import Checker
    from wgdisco.cli import show
    from wgdisco.connect import UNKNOWN, Link
    from wgdisco.device.routes import Routes
    from wgdisco.policy import Ground
    from wgdisco.tend import Tender

    device, interface, private = here.wireguard
    routes = Routes()
    allowed = [network for each in interface.peers.values() for network in each.allowed_ips]

    def ground() -> Ground:
        own = [each.endpoint for each in announcer.candidates]
        return Ground(lambda address: routes.lookup(address, interface.fwmark), own, allowed)

    def ours() -> tuple[Sequence[Candidate], Sequence[str]]:
        return announcer.candidates, hints_of(announcer.where).get("nat", UNKNOWN)

    def heard(_: PublicKey, endpoint: Endpoint) -> None:
        tender.heard(endpoint)

    checker = None if port is None else Checker(port, private, [peer], heard)
    link = Link(device, port, peer, show.echo)
    tender = Tender(node, link, ground, ours, note, checker, lambda: announcer.issued, announcer.told)
    return tender


async def _meet(announcer: Announcer, tender: Tender, patience: float) -> int:
    """Announce and tend until the handshake; raises NotFound that says why it did not come about."""
    from wgdisco.cli import show
    from wgdisco.errors import AccessError

    link = tender.link
    announcing = asyncio.ensure_future(announcer.run())
    tending = asyncio.ensure_future(tender.run())
    hoping = asyncio.ensure_future(_hope(tender, patience))
    tasks = {announcing, tending, hoping}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        took = (tending if tending in done else announcing if announcing in done else hoping).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(AccessError):
            if not link.connected():
                link.restore()
    if took is None:
        raise _failure(announcer, tender, link.waited())
    link.behind_nat = announcer.where.nat.translated is not False
    link.settle()
    peer = link.read()
    print(f"connected: {link.key}")
    print(f"  endpoint: {peer.endpoint}")
    print(f"  handshake: {took:.1f} seconds after its record was there, {show.span(link.waited())} after the start")
    return 0


async def _hope(tender: Tender, patience: float) -> None:
    """Return when there is no more hope: after so many seconds, or sooner for a pair that cannot work."""
    end, hopeless = time.monotonic() + patience, None
    while time.monotonic() < end:
        await asyncio.sleep(0.5)
        hopeless = None if tender.verdict is None else hopeless or time.monotonic()
        if hopeless is not None and time.monotonic() - hopeless > HOPELESS:
            return


def _failure(announcer: Announcer, tender: Tender, waited_for: float) -> Exception:
    """Why there is no handshake, from what is known."""
    from wgdisco.errors import NotFound, StoreError

    key, waited = tender.peer.short, f"after {waited_for:.0f} s"
    if announcer.publication is not None and not announcer.publication.stored:
        reasons = "".join(f"\n  {outcome.error}" for outcome in announcer.publication.outcomes)
        return StoreError(f"no handshake with {key} {waited}: no backend stored our record:{reasons}")
    if tender.finding is None:
        answers = tender.search.answers.values() if tender.search is not None else ()
        reasons = "".join(f"\n  {error}" for error in tender.errors.values()) or "".join(f"\n  {a}" for a in answers)
        return NotFound(
            f"no handshake with {key} {waited}: found no record of it; does the other side run "
            f"`wgdisco connect` with the same backends, and has it our key as a peer?{reasons}"
        )
    tried = "".join(f"\n  tried {each.endpoint.short}: no answer" for each in tender.tried)
    skipped = "".join(f"\n  not tried {each.endpoint.short}: {reason}" for each, reason in tender.skipped)
    why = f"\n  {tender.verdict}" if tender.verdict else ""
    return NotFound(
        f"no handshake with {key} {waited}; its record was found by {tender.finding.backend}:{tried}{skipped}{why}"
    )
