"""Publish, find one peer, punch through both NATs, and return at the handshake. Type it on both sides."""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from wgdisco.cli.peers import chosen
from wgdisco.cli.setting import Setting, note, setting
from wgdisco.cli.whereabouts import open_port, sources
from wgdisco.cli.words import add_audience, add_backends, add_identity, add_whereabouts, seconds

if TYPE_CHECKING:
    from wgdisco.device.port import Port
    from wgdisco.keys import PublicKey
    from wgdisco.node import Node
    from wgdisco.session import Session
    from wgdisco.tend import Tender

__all__ = ["configure", "run"]

WAIT = 600.0  # seconds for the other side to type the same
HOPELESS = 15.0  # seconds for a pair that by all that is known cannot work


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("peer", metavar="PEER", help="the public key of a peer of the interface, or its beginning")
    add_identity(parser, key_file=False)
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
    peer = chosen(here.options.peer, interface.peers, interface.name)
    known = interface.peers[peer]
    async with here.node() as node, AsyncExitStack() as stack:
        if is_live(known, None, node.clock() / 1000):
            print(f"connected already: {peer.short} at {known.endpoint}")
            return 0
        _need_nobody(interface.name, peer)
        note(f"this is {private.public}; the other side types: wgdisco connect {private.public}")
        session = _session(here, node, await open_port(here, stack), peer)
        stack.callback(session.close)
        return await _meet(session, session.tenders[peer], here.options.timeout)


def _need_nobody(interface: str, peer: PublicKey) -> None:
    """Raise UsageError when an agent is at work: it connects every peer, and two would work against each other."""
    from wgdisco.alone import at_work
    from wgdisco.errors import UsageError

    if (agent := at_work(interface)) is not None:
        raise UsageError(
            f"{interface}: {agent} is connecting its peers already; how far it is says: wgdisco why {peer.short[:-1]}"
        )


def _session(here: Setting, node: Node, port: Port | None, peer: PublicKey) -> Session:
    from wgdisco.cli import show
    from wgdisco.cli.setting import scope_of
    from wgdisco.cli.whereabouts import gathering
    from wgdisco.session import Session

    device, interface, _ = here.wireguard
    return Session(
        node,
        device,
        interface,
        port,
        gathering(sources(here, port, outlive=True)),
        node.readers(scope_of(here), [peer]),
        lambda text, _: note(text),
        show.echo,
        peers=[peer],
        expose_hosts=here.expose_hosts,
        eager=WAIT,
    )


async def _meet(session: Session, tender: Tender, patience: float) -> int:
    """Announce and tend until the handshake; raises NotFound that says why it did not come about."""
    from wgdisco.cli import show
    from wgdisco.errors import AccessError

    link, announcer = tender.link, session.announcer
    tending = asyncio.ensure_future(tender.connect())
    hoping = asyncio.ensure_future(_hope(tender, patience))
    tasks = {
        tending,
        hoping,
        *map(asyncio.ensure_future, (announcer.run(), announcer.maintain(), session.seeker.run())),
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        took = (tending if tending in done else (done - {hoping} or {hoping}).pop()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(AccessError):
            if not link.connected():
                link.restore()
    if took is None:
        raise _failure(session, tender, link.waited())
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
        hopeless = None if tender.outlook.verdict is None else hopeless or time.monotonic()
        if hopeless is not None and time.monotonic() - hopeless > HOPELESS:
            return


def _failure(session: Session, tender: Tender, waited_for: float) -> Exception:
    """Why there is no handshake, from what is known."""
    from wgdisco.errors import NotFound, StoreError

    key, waited, published = tender.peer.short, f"after {waited_for:.0f} s", session.announcer.publication
    if published is not None and not published.stored:
        reasons = "".join(f"\n  {outcome.error}" for outcome in published.outcomes)
        return StoreError(f"no handshake with {key} {waited}: no backend stored our record:{reasons}")
    if tender.finding is None:
        search = session.seeker.searches[tender.peer]
        answers = search.answers.values() if search is not None else ()
        errors = session.seeker.errors.values()
        reasons = "".join(f"\n  {error}" for error in errors) or "".join(f"\n  {answer}" for answer in answers)
        return NotFound(
            f"no handshake with {key} {waited}: found no record of it; does the other side run "
            f"`wgdisco connect` with the same backends, and has it our key as a peer?{reasons}"
        )
    tried = "".join(f"\n  tried {endpoint.short}: no answer" for endpoint in tender.tried)
    skipped = "".join(f"\n  not tried {each.endpoint.short}: {reason}" for each, reason in tender.outlook.skipped)
    why = f"\n  {tender.outlook.verdict}" if tender.outlook.verdict else ""
    return NotFound(
        f"no handshake with {key} {waited}; its record was found by {tender.finding.backend}:{tried}{skipped}{why}"
    )
