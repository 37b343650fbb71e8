"""Where our own peers see us: each answered check says from which endpoint it came (docs/checks.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from wgdisco.endpoint import Endpoint
from wgdisco.keys import PublicKey
from wgdisco.policy import is_plausible
from wgdisco.record import Kind
from wgdisco.sources import Found

__all__ = ["PEERS", "Witnesses"]

PEERS = "peers"
"""The source's name."""

VALID = 120.0  # seconds for which a peer's word counts: the mapping it saw was in use then
MOST = 4  # endpoints that are told, the latest first


class Witnesses:
    """What peers saw of us, kept for two minutes; a peer is authentic, yet may lie: its word is a candidate at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self.clock = clock
        self._seen: dict[PublicKey, tuple[Endpoint, float]] = {}

    def hear(self, peer: PublicKey, at: Endpoint, mapped: Endpoint) -> None:
        """A peer answered a check from `at` and saw us at `mapped`."""
        if is_plausible(mapped, at):
            self._seen[peer] = mapped, self.clock()

    def forget(self) -> None:
        """Our addresses changed: what was seen before is over."""
        self._seen.clear()

    def beside(self, others: Iterable[Found]) -> list[Found]:
        """What peers saw in the families in which no server has seen us: behind some NATs every peer sees another."""
        known = {each.endpoint.address.version for each in others if each.kind is not Kind.HOST}
        return [each for each in self.found() if each.endpoint.address.version not in known]

    def found(self) -> list[Found]:
        """Our endpoints as peers see them, each once, the latest word first."""
        end = self.clock() - VALID
        self._seen = {peer: seen for peer, seen in self._seen.items() if seen[1] >= end}
        latest = sorted(self._seen.items(), key=lambda item: item[1][1], reverse=True)
        words: dict[Endpoint, list[str]] = {}
        for peer, (mapped, _) in latest:
            words.setdefault(mapped, []).append(peer.short)
        return [
            Found(mapped, Kind.OBSERVED, PEERS, f"seen by {', '.join(peers[:3])}")
            for mapped, peers in list(words.items())[:MOST]
        ]
