"""A publisher and readers around stores that lie, with a clock of their own (helpers of the tests beside this file)."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from tests.unit.records import NOW, candidate
from wgdisco.backend import Backend
from wgdisco.backends.memory import Memory
from wgdisco.device import Interface, Peer
from wgdisco.keys import PrivateKey
from wgdisco.node import Node
from wgdisco.state import State
from wgdisco.store import Store
from wgdisco.testing import Liar

HOUR = 3_600_000
FIRST, SECOND, THIRD = ([candidate(f"203.0.113.{number}:51820")] for number in (1, 2, 3))
PATIENCE = 0.3  # seconds that a store gets here


class Clock:
    """Milliseconds since 1970, moved by hand."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Scene:
    """Nodes that share a clock, each with stores and state of its own key."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.nodes: list[Node] = []

    def node(
        self, private: PrivateKey | None, *backends: Backend, networks=(), patience: float = PATIENCE, state: str = ""
    ) -> Node:
        """A node over these backends; nodes of one key share their state unless `state` names another one."""
        opened = State.open(private.public if private else None, self.folder / (state or "state"))
        stores = [Store(backend, patience) for backend in backends]
        self.nodes.append(Node(stores, opened, private, networks, clock=self.clock))
        return self.nodes[-1]

    def stranger(self, *backends: Backend, **options) -> Node:
        """A reader that has seen nothing yet."""
        return self.node(None, *backends, state=uuid4().hex, **options)

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self.nodes))


def shelf() -> Memory:
    """An honest store."""
    return Memory(room=uuid4().hex)


def liar(lie: str, honest: Backend | None = None) -> Liar:
    """A store of that lie, and of that name."""
    made = Liar(honest or shelf(), lie)
    made.name = lie  # type: ignore[misc]  # several of them stand side by side
    return made


@contextmanager
def growth() -> Iterator[list[int]]:
    """What is still allocated, and the peak, beyond what was there before (bytes), after the block."""
    gc.collect()
    tracemalloc.start()
    measured: list[int] = []
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        yield measured
        _, peak = tracemalloc.get_traced_memory()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        measured += [after - before, peak - before]
    finally:
        tracemalloc.stop()


class Tunnel:
    """A device of one peer that records every change asked of it; endpoints in `answers` complete the handshake."""

    name = "wg9"

    def __init__(self, own: PrivateKey, peer: Peer, *answers) -> None:
        self.own, self.peer, self.answers = own, peer, answers
        self.calls: list[object] = []

    def read(self) -> Interface:
        return Interface(self.name, self.own, self.own.public, 51820, peers={self.peer.key: self.peer})

    def update(self, changes) -> None:
        self.calls.append(list(changes))
        for change in changes:
            self._set(
                change.endpoint or self.peer.endpoint,
                self.peer.keepalive if change.keepalive is None else change.keepalive,
            )

    def restart_peer(self, key, endpoint, keepalive, *, since=None) -> None:
        self.calls.append(("restart", endpoint, keepalive))
        self._set(endpoint, keepalive)

    def _set(self, endpoint, keepalive: int) -> None:
        shaken = time.time() if endpoint in self.answers else self.peer.handshake
        self.peer = replace(self.peer, endpoint=endpoint, keepalive=keepalive, handshake=shaken)

    @property
    def endpoints(self) -> set:
        """Every endpoint that was ever set."""
        changes = [each for call in self.calls if isinstance(call, list) for each in call]
        restarts = [call[1] for call in self.calls if isinstance(call, tuple)]
        return {each.endpoint for each in changes if each.endpoint is not None} | set(restarts)
