"""Try everything once: interface, key, port, STUN, and in every backend a put and a get of a record of our own."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from wgdisco.cli.setting import Setting, setting
from wgdisco.cli.whereabouts import open_port, release, sources
from wgdisco.cli.words import add_backends, add_identity, add_secret, add_whereabouts

if TYPE_CHECKING:
    from wgdisco.keys import PublicKey
    from wgdisco.node import Node
    from wgdisco.store import Store

__all__ = ["configure", "run"]

NO_KEY = "no WireGuard interface and no --private-key-file, so only resolve works"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_identity(parser)
    add_backends(parser)
    add_secret(parser)
    add_whereabouts(parser)


def run(options: argparse.Namespace) -> int:
    """Print a line for each check; 0 when all passed, else the code of the first kind of failure."""
    from wgdisco.cli.running import run as run_async

    return run_async(_check(setting(options, needed=False)))


async def _check(here: Setting) -> int:
    from wgdisco.device.resolver import inside

    worst = 0 if _line(here.private is not None, "key", "a private key is there" if here.private else NO_KEY) else 4
    if here.interface is not None:
        peers = "1 peer" if len(here.peers) == 1 else f"{len(here.peers)} peers"
        about = f"{here.interface.name}, port {here.interface.listen_port}, {peers}"
        _line(bool(here.interface.listen_port), "interface", about)
        worst = worst or await _whereabouts(here)
        if remark := inside(here.interface.name):
            print(f"note names: {remark}")
    async with here.node() as node:
        async for good in _stores(node):
            worst = worst or (0 if good else 3)
    return worst


def _line(good: bool, what: str, detail: str) -> bool:
    print(f"{'ok  ' if good else 'FAIL'} {what}: {detail}")
    return good


async def _whereabouts(here: Setting) -> int:
    from wgdisco.cli.endpoints import verdict
    from wgdisco.sources import gather

    async with AsyncExitStack() as stack:
        port = await open_port(here, stack)
        asked = sources(here, port)
        try:
            where = await gather(asked)
        finally:
            await release(asked)
    for problem in where.problems:
        _line(False, "whereabouts", problem)
    _line(port is not None, "port", "WireGuard's own port can be used for STUN" if port else "see above")
    found = ", ".join(str(each.endpoint) for each in where.found)
    good = _line(bool(where.found), "endpoints", f"{found or 'none'}; nat: {verdict(where.nat)}")
    return 0 if good and port is not None else 4


async def _stores(node: Node) -> AsyncIterator[bool]:
    """Put a good-bye of a key made for this into each store, read it back and remove it: nobody looks for it."""
    for store in node.stores:
        yield await _store(store)


async def _store(store: Store) -> bool:
    from tempfile import TemporaryDirectory

    from wgdisco.errors import WgdiscoError
    from wgdisco.keys import PrivateKey
    from wgdisco.node import Node
    from wgdisco.state import State

    visitor = PrivateKey.generate()
    with TemporaryDirectory() as folder:
        guest = Node([store], State.open(visitor.public, Path(folder)), visitor, lifetime=60)
        try:
            return await _tried(store, guest, visitor.public)
        except WgdiscoError as error:
            return _failed(store, error)
        finally:
            guest.state.close()


def _failed(store: Store, error: object) -> bool:
    """What went wrong, which begins with the store's name as the line does."""
    return _line(False, store.name, str(error).removeprefix(f"{store.name}: "))


async def _tried(store: Store, guest: Node, key: PublicKey) -> bool:
    """Put, get and remove."""
    from wgdisco.audience import Scope
    from wgdisco.search import slot_of

    publication = await guest.publish([], guest.readers(Scope.KEY, []))
    if not publication.stored:
        return _failed(store, publication.outcomes[0].error)
    search = await guest.resolve(key, settle=None)
    for place in guest.places(key):
        await store.remove(slot_of(place))
    answer = search.answers[store.name]
    if search.best is None:
        return _line(False, store.name, f"took a record and did not give it back ({answer})")
    took = 1000 * publication.outcomes[0].seconds
    return _line(True, store.name, f"put {took:.0f} ms, get {1000 * answer.seconds:.0f} ms")
