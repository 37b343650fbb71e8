"""Authenticated checks between two agents: which path works, and where the other side sees us (docs/checks.md).

A check is a STUN binding request from WireGuard's own port, signed with a key that only the two peers can derive. It is
answered by the other agent, and ignored by WireGuard. No answer is larger than its question.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from wgdisco.audience import Audience, slot_text
from wgdisco.budget import Budget
from wgdisco.device.port import Arrival, Port
from wgdisco.endpoint import Endpoint
from wgdisco.keys import PrivateKey, PublicKey
from wgdisco.stun import Attribute, Message, Type, encode

__all__ = ["Checker", "Passed", "Prober"]

WAITS = (0.1, 0.2, 0.4, 0.8, 0.8)  # seconds after each transmission of one check
HOUR = 3600  # seconds for which a tag is used
TAG = 20  # bytes; as text they make a request at least as large as its answer
SEEN = 4096  # transactions remembered against replays
ANSWERS = 20.0  # answers a second to one peer
PROBES = 16  # endpoints checked for one peer at one time
AGAIN = 2.0  # seconds before an endpoint that did not answer is checked again


class Passed(NamedTuple):
    """A path that works: the peer's endpoint, the round trip in seconds, and where the peer sees us."""

    endpoint: Endpoint
    seconds: float
    mapped: Endpoint | None


@dataclass
class _Pair:
    """What two peers share, and how many answers the other one may still have."""

    peer: PublicKey
    key: bytes
    credit: float = ANSWERS
    since: float = 0.0

    def may_answer(self, now: float) -> bool:
        self.credit = min(ANSWERS, self.credit + (now - self.since) * ANSWERS)
        self.since = now
        if self.credit < 1.0:
            return False
        self.credit -= 1.0
        return True


class Checker:
    """Answers the checks of known peers and makes our own; `heard` learns of every authentic request."""

    def __init__(
        self,
        port: Port,
        private: PrivateKey,
        peers: Iterable[PublicKey],
        heard: Callable[[PublicKey, Endpoint], None],
        clock: Callable[[], float] = time.time,
        seen: Callable[[PublicKey, Endpoint, Endpoint], None] = lambda *_: None,
        budget: Budget | None = None,
    ) -> None:
        """Begin to answer at once; `clock` gives unix seconds. `seen` learns who answered where, and saw us where.

        What we ask stays within the `budget`; an answer is not in it, since it costs who asked as much.
        """
        self.seen, self.budget = seen, budget or Budget()
        self.port, self.own, self.heard, self.clock = port, private.public, heard, clock
        self._pairs = {peer: _Pair(peer, Audience.peers(private, peer).check_key()) for peer in peers}
        self._tags: dict[str, _Pair] = {}
        self._hour = -1
        self._seen: OrderedDict[bytes, Endpoint] = OrderedDict()
        port.on_request = self._answer

    async def check(self, peer: PublicKey, endpoint: Endpoint, waits: Sequence[float] = WAITS) -> Passed | None:
        """Whether the peer answers at an endpoint; None when it does not, or nothing can or may be sent there."""
        pair, start = self._pairs[peer], time.monotonic()
        tag = _tag(pair.key, self.own, int(self.clock()) // HOUR)
        request = Message(Type.REQUEST, {Attribute.USERNAME: tag})
        waits = waits[: self.budget.take(peer, endpoint.address, len(waits))]
        try:
            answer = await self.port.transact(request, endpoint, key=pair.key, waits=waits)
        except (OSError, ValueError):
            return None
        self.budget.give_back(peer, endpoint.address, len(waits))  # who answers has consented
        if answer.mapped is not None:
            self.seen(peer, endpoint, answer.mapped)
        return Passed(endpoint, time.monotonic() - start, answer.mapped)

    def _answer(self, message: Message, arrival: Arrival) -> None:
        """Answer an authentic request; everything else is silence."""
        tag = message.attributes.get(Attribute.USERNAME)
        pair = self._known().get(tag) if message.type is Type.REQUEST and isinstance(tag, str) else None
        # the signature first: whoever copied a tag must not use up the peer's answers
        if pair is None or not message.signed_by(pair.key) or not pair.may_answer(time.monotonic()):
            return
        # a copy from another place than the first one is a replay; a retransmission is not
        if self._seen.setdefault(message.transaction, arrival.source) != arrival.source:
            return
        while len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        answer = message.answer(Type.SUCCESS, {Attribute.XOR_MAPPED_ADDRESS: arrival.source})
        try:
            self.port.send(encode(answer, pair.key), arrival.source, source=arrival.local)
        except OSError:
            return
        self.heard(pair.peer, arrival.source)

    def _known(self) -> dict[str, _Pair]:
        """Every tag a peer may use now, within an hour of clock skew."""
        hour = int(self.clock()) // HOUR
        if hour != self._hour:
            self._hour = hour
            self._tags = {
                _tag(pair.key, pair.peer, each): pair
                for pair in self._pairs.values()
                for each in (hour - 1, hour, hour + 1)
            }
        return self._tags


def _tag(key: bytes, sender: PublicKey, hour: int) -> str:
    """What names the pair and the direction for an hour, to nobody but the two."""
    data = sender.raw + hour.to_bytes(8, "big")
    return slot_text(blake2b(data, digest_size=TAG, key=key, person=b"wgdisco user").digest())


class Prober:
    """Checks all endpoints of one peer at once; the first that answers is `path`, all that did are in `passed`.

    `told` hears of every check that ended: the endpoint, and the round trip in seconds or None.
    """

    def __init__(
        self, checker: Checker, peer: PublicKey, told: Callable[[Endpoint, float | None], None] = lambda *_: None
    ) -> None:
        self.checker, self.peer, self.told = checker, peer, told
        self.path: Passed | None = None
        self.passed: dict[Endpoint, Passed] = {}
        self.found = asyncio.Event()
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}
        self._under_way: set[Endpoint] = set()

    def add(self, endpoints: Iterable[Endpoint]) -> None:
        """Check these too, until `close`; at most 16 at one time."""
        for endpoint in endpoints:
            if endpoint not in self._tasks and len(self._tasks) < PROBES:
                self._tasks[endpoint] = asyncio.ensure_future(self._probe(endpoint))

    def hear(self, endpoint: Endpoint) -> None:
        """The peer itself spoke from this endpoint: check it now, at the cost of another one if need be."""
        # a check that is under way is left alone: two sides that both began anew would never hear an answer
        if self.path is None and endpoint not in self._under_way:
            stale = self._tasks.pop(endpoint, None)
            if stale is None and len(self._tasks) >= PROBES:
                stale = self._tasks.pop(next(reversed(self._tasks)))
            if stale is not None:
                stale.cancel()
            self.add([endpoint])

    async def _probe(self, endpoint: Endpoint) -> None:
        pause = AGAIN
        while self.path is None:
            self._under_way.add(endpoint)
            try:
                passed = await self.checker.check(self.peer, endpoint)
            finally:
                self._under_way.discard(endpoint)
            self.told(endpoint, None if passed is None else passed.seconds)
            if passed is not None:
                self.passed[endpoint] = passed
                self.path = self.path or passed
                self.found.set()
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 900.0)

    async def within(self, seconds: float) -> Passed | None:
        """The path, if there is one within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.found.wait()
        return self.path

    async def close(self) -> None:
        """Stop checking."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
