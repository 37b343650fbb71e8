"""Where nodes of the DHT see us (BEP 42), asked from WireGuard's own port, so that no STUN server is needed.

Each answer in the DHT may say where its question came from. Anybody can run a node, so no node is believed alone:
at least three have to answer, each from a network of its own where there are so many, and more than half have to agree.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from wgdisco.bep44.contact import host, reachable
from wgdisco.bep44.known import network
from wgdisco.bep44.krpc import KrpcError, Query, read
from wgdisco.device.port import Port
from wgdisco.endpoint import Endpoint, short
from wgdisco.policy import is_plausible
from wgdisco.record import Kind
from wgdisco.sources import Behaviour, Found, Nat, Where
from wgdisco.sources.behaviour import is_translated

__all__ = ["Jury", "ObservedSource", "Sighting"]

MOST = 8  # nodes of one address family that are asked
ENOUGH = 3  # voices without which nothing is believed
ADVICE = "name nodes with --observer HOST:PORT, or say where this node is with --endpoint ADDRESS:PORT"
SETTLE = 1.0  # seconds that nodes get after three networks have answered

T = TypeVar("T")


class Sighting(NamedTuple):
    """Where a node saw us."""

    node: Endpoint
    seen: Endpoint


@dataclass
class Jury:
    """Up to eight nodes of one address family that are asked, and what they saw. Sans I/O.

    `candidates` are the nodes known, the best first; one of each network is asked before a second one of any.
    """

    candidates: Sequence[Endpoint]
    sightings: list[Sighting] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Choose the nodes, and what counts as one voice: a network, or a host when there are not three networks."""
        ranked: list[tuple[int, Endpoint]] = []
        earlier: Counter[bytes] = Counter()
        for node in dict.fromkeys(self.candidates):
            ranked.append((earlier[network(node)], node))
            earlier[network(node)] += 1
        self.nodes = [node for _, node in sorted(ranked, key=lambda each: each[0])][:MOST]
        self._voice = network if len({network(node) for node in self.nodes}) >= ENOUGH else _host

    @property
    def voices(self) -> list[Endpoint]:
        """Where we were seen, once for each voice: what it said first."""
        return list({self._voice(each.node): each.seen for each in reversed(self.sightings)}.values())

    @property
    def has_enough(self) -> bool:
        """Whether so many have spoken that the others need not be waited for much longer."""
        return len(self.voices) >= ENOUGH

    def is_sure(self, silent: int) -> bool:
        """Whether the nodes that are still silent could not change what we believe."""
        return self.has_enough and 2 * _top(self.voices)[1] > len(self.voices) + silent

    @property
    def believed(self) -> list[Endpoint]:
        """Where we are: one endpoint; several at one address when the nodes disagree on the port; none."""
        voices = self.voices
        if len(voices) < ENOUGH:
            return []
        address, count = _top([voice.address for voice in voices])
        if 2 * count <= len(voices):
            return []
        there = [voice for voice in voices if voice.address == address]
        endpoint, count = _top(there)
        return [endpoint] if 2 * count > len(there) else list(dict.fromkeys(there))

    @property
    def mapping(self) -> Behaviour:
        """What the ports say about the NAT: most nodes saw the same one, or it depends on who is asked."""
        if not self.believed:
            return Behaviour.UNKNOWN
        return Behaviour.ENDPOINT_INDEPENDENT if len(self.believed) == 1 else Behaviour.ADDRESS_DEPENDENT

    def problems(self) -> list[str]:
        """Why nothing is believed, or which nodes say something else than most."""
        if not self.has_enough:
            few = f"{len(self.voices)} of {len(self.nodes)} DHT nodes say where they see us"
            return [f"{few}, and {ENOUGH} in different places have to: {ADVICE}"]
        if not self.believed:
            said = ", ".join(f"{each.node} at {each.seen.short}" for each in self.sightings)
            return [f"no majority of the DHT nodes sees us at one address: {said}"]
        best = self.believed[0]
        most = best.short if len(self.believed) == 1 else short(best.address)
        return [
            f"{each.node} sees us at {each.seen.short}, most DHT nodes at {most}"
            for each in self.sightings
            if each.seen not in self.believed
        ]


@dataclass
class ObservedSource:
    """Observed candidates and a NAT verdict, from the nodes that `nodes()` names, the best first."""

    port: Port
    nodes: Callable[[], Awaitable[Sequence[Endpoint]]]
    name: str = "observed"

    async def find(self, deadline: float) -> Where:
        """Ask up to eight nodes of each family at once; return when enough agree, at most after `deadline` s."""
        end = asyncio.get_running_loop().time() + deadline
        known = [node for node in await self.nodes() if reachable(node, node)]
        juries = [Jury([node for node in known if node.address.version == version]) for version in (4, 6)]
        asked = [jury for jury in juries if jury.nodes and jury.nodes[0].address.version in self.port.families]
        if not asked:
            return Where(problems=[f"{self.name}: no DHT node is known; {ADVICE}"], asked=True)
        await asyncio.gather(*(self._hear(jury, end) for jury in asked))
        return self._where(asked)

    def _where(self, asked: Sequence[Jury]) -> Where:
        """What the families together say; one that is silent is a problem only when both are."""
        told = [jury for jury in asked if jury.believed]
        where = Where([found for jury in told for found in self._found(jury)], asked=True)
        where.problems = [f"{self.name}: {problem}" for jury in told or asked for problem in jury.problems()]
        if told:
            best = told[0].believed[0]
            where.nat = Nat(told[0].mapping, Behaviour.UNKNOWN, is_translated(self.port, best))
        return where

    def _found(self, jury: Jury) -> list[Found]:
        return [
            Found(
                endpoint,
                Kind.OBSERVED,
                self.name,
                f"seen by {jury.voices.count(endpoint)} of {len(jury.voices)} DHT nodes",
            )
            for endpoint in jury.believed
        ]

    async def _hear(self, jury: Jury, end: float) -> None:
        """Ask the nodes of a jury until it is sure, or `end` is there, or a second after there were enough voices."""
        loop, settling = asyncio.get_running_loop(), False
        every = [asyncio.ensure_future(self._ask(node, jury)) for node in jury.nodes]
        pending = set(every)
        try:
            while pending and (left := end - loop.time()) > 0 and not jury.is_sure(len(pending)):
                _, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if jury.has_enough and not settling:
                    settling, end = True, min(end, loop.time() + SETTLE)
        finally:
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)

    async def _ask(self, node: Endpoint, jury: Jury) -> None:
        """One ping; silence, errors and what cannot be are no voice."""
        transaction = os.urandom(8)
        # a new id each time, and read-only (BEP 43): no node takes WireGuard's port for one of the network
        ping = Query(transaction, b"ping", {b"id": os.urandom(20)}, read_only=True).encode()
        try:
            seen = await self.port.ask(ping, node, lambda data: _sighting(data, transaction, node))
        except OSError:  # nobody there, or no way to it
            return
        jury.sightings.append(Sighting(node, seen))


def _sighting(data: bytes, transaction: bytes, node: Endpoint) -> Endpoint | None:
    """Where an answer, be it an error, says that the node saw us; None when it is none of ours or cannot be true."""
    try:
        message = read(data)
    except KrpcError:
        return None
    if isinstance(message, Query) or message.transaction != transaction or message.observed is None:
        return None
    seen = message.observed
    return seen if seen.address.version == node.address.version and is_plausible(seen, node) else None


def _host(endpoint: Endpoint) -> bytes:
    return host(endpoint.address) if endpoint.address.is_global else str(endpoint).encode()


def _top(values: Sequence[T]) -> tuple[T, int]:
    """What is said most often, and how often; there has to be something."""
    return Counter(values).most_common(1)[0]
