"""Where STUN servers see us: all are asked at once, from WireGuard's own port, and none is believed alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wgdisco.device.port import Port
from wgdisco.endpoint import Endpoint, short
from wgdisco.policy import is_plausible, refused
from wgdisco.record import Kind
from wgdisco.sources import Behaviour, Found, Nat, Where
from wgdisco.sources.behaviour import discover, is_translated
from wgdisco.sources.names import split
from wgdisco.sources.pins import Pins
from wgdisco.stun import Message

__all__ = ["DEFAULT_STUN_SERVERS", "Seen", "StunSource", "mapping"]

DEFAULT_STUN_SERVERS = (
    "stun.l.google.com:19302",
    "stun.cloudflare.com:3478",
    "stun.nextcloud.com:443",
    "stun.sipgate.net:3478",
)
"""Public servers of four operators. Each sees the public address and port of our WireGuard interface, and when it is
asked; neither keys, nor peers, nor records. At least two are needed to tell what the NAT does."""
SETTLE = 1.0  # seconds that servers get after two others have answered


class Seen(NamedTuple):
    """One answer: the server's name as configured, its address, where it saw us, its second address if it has one."""

    server: str
    address: Endpoint
    mapped: Endpoint
    other: Endpoint | None = None


@dataclass
class StunSource:
    """Server-reflexive candidates and a NAT verdict. `behaviour` asks for RFC 5780's tests too, which take 2 s more."""

    port: Port
    servers: Sequence[str] = DEFAULT_STUN_SERVERS
    behaviour: bool = False
    name: str = "stun"
    pins: Pins = field(default_factory=Pins, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise UsageError for a server that is no HOST:PORT."""
        for server in self.servers:
            split(server)

    async def find(self, deadline: float) -> Where:
        """Ask all servers in all families; return as soon as two agree in each, at the latest after `deadline` s."""
        end = asyncio.get_running_loop().time() + deadline
        poll = _Poll(self.port, self.servers, self.pins)
        await poll.run(deadline)
        where = Where(self._found(poll.seen), asked=bool(self.servers))
        where.problems = [f"{self.name}: {each}" for each in poll.problems()]
        where.problems += self._disagreements(poll.seen)
        where.nat = await self._verdict(poll.seen, end)
        return where

    def _found(self, seen: Sequence[Seen]) -> list[Found]:
        """Each mapped endpoint once: what most servers saw first."""
        ranked = sorted({each.mapped: None for each in seen}, key=lambda mapped: _votes(mapped, seen), reverse=True)
        return [Found(mapped, Kind.SERVER_REFLEXIVE, self.name, _witnesses(mapped, seen)) for mapped in ranked]

    def _disagreements(self, seen: Sequence[Seen]) -> list[str]:
        return [
            f"{self.name}: {each.server} sees us at {short(each.mapped.address)}, the others at {short(most.address)}"
            for version in (4, 6)
            for most in _majority(_family(seen, version))
            for each in _family(seen, version)
            if each.mapped.address != most.address
        ]

    async def _verdict(self, seen: Sequence[Seen], end: float) -> Nat:
        """The verdict for IPv4, or for IPv6 where there is nothing else; by RFC 5780 if wanted and possible."""
        family = _family(seen, 4) or _family(seen, 6)
        if not family:
            return Nat()
        best = max((each.mapped for each in family), key=lambda mapped: _votes(mapped, family))
        nat = Nat(mapping(family), Behaviour.UNKNOWN, is_translated(self.port, best))
        able = [each for each in family if each.other is not None]
        if not (self.behaviour and able):
            return nat
        try:
            async with asyncio.timeout_at(end):
                return await discover(self.port, able[0].address)
        except (OSError, ValueError):  # silent, or contradicting itself: what the servers together say still stands
            return nat


def mapping(seen: Sequence[Seen]) -> Behaviour:
    """What answers to one socket say about the NAT: one port for all servers, or another one for each.

    A server that names another address than two that agree is a liar, or stands behind another way out; one that names
    another port is evidence.
    """
    if len({each.address for each in seen}) < 2:
        return Behaviour.UNKNOWN
    if len({each.mapped for each in seen}) == 1:
        return Behaviour.ENDPOINT_INDEPENDENT
    for most in _majority(seen):
        if all(each.mapped == most or each.mapped.address != most.address for each in seen):
            return Behaviour.ENDPOINT_INDEPENDENT
    return Behaviour.ADDRESS_DEPENDENT


@dataclass
class _Poll:
    """One round of questions to all servers."""

    port: Port
    servers: Sequence[str]
    pins: Pins
    seen: list[Seen] = field(default_factory=list)
    errors: dict[tuple[str, int], str] = field(default_factory=dict)
    late: bool = False

    async def run(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        tasks = {
            asyncio.ensure_future(self._ask(server, version)): version
            for server in self.servers
            for version in sorted(self.port.families)
        }
        pending, settling = set(tasks), False
        try:
            while pending and not self.late:
                done, pending = await asyncio.wait(
                    pending, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED
                )
                self.late = not done
                for task in done:
                    task.result()
                if all(self._is_sure(tasks[task]) for task in pending):
                    break
                if not settling and any(self._is_enough(version) for version in (4, 6)):
                    settling, end = True, min(end, loop.time() + SETTLE)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        self._note()

    def _note(self) -> None:
        """Tell who has answered and who has not; whoever was not waited for has done neither."""
        answered = {(each.server, each.address.address.version) for each in self.seen}
        for server in self.servers:
            for version in self.port.families:
                if (server, version) in answered:
                    self.pins.heard(server, version)
                elif self.late or (server, version) in self.errors:
                    self.pins.missed(server, version)

    def problems(self) -> list[str]:
        """Servers that gave no answer in any family, and what to do when there is none at all."""
        answered = {each.server for each in self.seen}
        reasons = {server: self._reason(server) for server in self.servers if server not in answered}
        problems = [f"{server}: {reason}" for server, reason in reasons.items() if reason]
        if self.seen or not self.servers:
            return problems
        return [*problems, "no server answered: name others, or say where this node is with --endpoint ADDRESS:PORT"]

    def _reason(self, server: str) -> str | None:
        """Why a server gave no answer; None when it was not waited for, since others had said enough."""
        reasons = [self.errors.get((server, version)) for version in sorted(self.port.families)]
        if None in reasons:
            return "no answer in time" if self.late else None
        return next(iter(reasons), None)

    async def _ask(self, server: str, version: int) -> None:
        try:
            address = await self.pins.find(server, version)
            self._hear(server, address, await self.port.transact(Message(), address))
        except (OSError, ValueError) as error:
            self.errors[server, version] = getattr(error, "strerror", None) or str(error)

    def _hear(self, server: str, address: Endpoint, answer: Message) -> None:
        if answer.mapped is None:
            raise ValueError("its answer does not say where it sees us")
        if not is_plausible(answer.mapped, address):
            reason = refused(answer.mapped) or "a private address, and the server is a public one"
            raise ValueError(f"it says that we are at {answer.mapped.short}, which cannot be: {reason}")
        self.seen.append(Seen(server, address, answer.mapped, answer.other))

    def _is_enough(self, version: int) -> bool:
        return len(_family(self.seen, version)) >= min(2, len(self.servers))

    def _is_sure(self, version: int) -> bool:
        return any(True for _ in _majority(_family(self.seen, version)))


def _family(seen: Sequence[Seen], version: int) -> list[Seen]:
    return [each for each in seen if each.address.address.version == version]


def _majority(seen: Sequence[Seen]) -> list[Endpoint]:
    """The endpoint that at least two servers agree on, more than on any other; none or one."""
    top = Counter({(each.address, each.mapped): 1 for each in seen})
    counts = Counter(mapped for _, mapped in top).most_common(2)
    if not counts or counts[0][1] < 2 or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return []
    return [counts[0][0]]


def _votes(mapped: Endpoint, seen: Sequence[Seen]) -> tuple[int, int]:
    same = sum(each.mapped == mapped for each in seen)
    return same, sum(each.mapped.address == mapped.address for each in seen)


def _witnesses(mapped: Endpoint, seen: Sequence[Seen]) -> str:
    return "seen by " + ", ".join(dict.fromkeys(each.server for each in seen if each.mapped == mapped))
