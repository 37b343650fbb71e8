"""Keep one peer reachable: follow its record in every store, and try what it says until there is a handshake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress

from wgdisco.checks import Checker, Prober
from wgdisco.connect import PUNCH_TTLS, UNKNOWN, Attempt, Link, impossible, initiates, order, silence
from wgdisco.discovery import Finding, Search
from wgdisco.endpoint import Endpoint
from wgdisco.errors import UsageError, WgdiscoError
from wgdisco.keys import PublicKey
from wgdisco.node import Node
from wgdisco.policy import Ground, tryable
from wgdisco.record import Candidate, Kind, Record

__all__ = ["Tender", "nat_of"]

REFRESH = 600.0  # seconds after which the places are computed again, since periods pass


def nat_of(record: Record) -> Sequence[str]:
    """Mapping and filtering of the node that speaks, in RFC 5780's names, or unknown."""
    nat = record.hints.get("nat")
    if isinstance(nat, list | tuple) and len(nat) == 2 and all(isinstance(part, str) for part in nat):
        return nat
    return UNKNOWN


class Tender:
    """Looks for one peer's record and connects; tells what it does in whole sentences through `say`."""

    def __init__(
        self,
        node: Node,
        link: Link,
        ground: Callable[[], Ground],
        ours: Callable[[], tuple[Sequence[Candidate], Sequence[str]]],
        say: Callable[[str], None],
        checker: Checker | None = None,
        issued: Callable[[], int] = lambda: 0,
        ready: asyncio.Event | None = None,
    ) -> None:
        """`ground` is what candidates are judged against, `ours` our own candidates and NAT verdict, as of now.

        With a `checker` paths are checked before WireGuard tries them; `issued` is when we published (milliseconds).
        Nothing is tried before `ready` is set: we have to know where we are.
        """
        self.ready = ready or asyncio.Event()
        if ready is None:
            self.ready.set()
        self.checker, self.issued = checker, issued
        self.looked = asyncio.Event()
        self._answered: set[str] = set()
        self._told: set[str] = set()
        self.prober: Prober | None = None
        self.node, self.link, self.ground, self.ours, self.say = node, link, ground, ours, say
        self.search: Search | None = None
        self.finding: Finding | None = None
        self.plan: tuple[list[Candidate], bool] | None = None
        self.skipped: list[tuple[Candidate, str]] = []
        self.errors: dict[str, WgdiscoError] = {}
        self.verdict: str | None = None
        self._since = 0.0
        self._attempt: asyncio.Task[None] | None = None

    @property
    def tried(self) -> Sequence[Candidate]:
        """The candidates that are being tried."""
        return self.plan[0] if self.plan is not None else ()

    @property
    def peer(self) -> PublicKey:
        """Whom this is about."""
        return self.link.key

    async def run(self) -> float:
        """Return at the handshake, with the seconds it took since the peer's record was there (0 if it came first)."""
        following = asyncio.ensure_future(self._follow())
        try:
            while not await self.link.handshake(1.0):
                if self.finding is not None:
                    self._review(self.finding.record)
                for task in (following, self._attempt):
                    if task is not None and task.done() and not task.cancelled():
                        task.result()
            return time.monotonic() - self._since if self.finding is not None else 0.0
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await self._stop()

    async def _follow(self) -> None:
        while True:
            try:
                places = self.node.places(self.peer)
            except UsageError as error:  # a clock before 1971, as after a boot without one
                if str(error) not in self._told:
                    self._told.add(str(error))
                    self.say(str(error))
                await asyncio.sleep(1.0)
                continue
            self.search = Search(places, self.node.state, self.node.clock)
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH), aclosing(self.node.follow(places, self._failed)) as changes:
                    async for backend, slot, values in changes:
                        self.errors.pop(backend, None)
                        if self.search.judge(backend, slot, values):
                            await self._consider()
                        self._looked(backend)

    def _looked(self, backend: str) -> None:
        self._answered.add(backend)
        if len(self._answered) == len(self.node.stores):
            self.looked.set()

    def _failed(self, backend: str, error: WgdiscoError) -> None:
        self._looked(backend)
        if backend not in self.errors:
            self.say(f"{error} (trying again)")
        self.errors[backend] = error

    async def _consider(self) -> None:
        """A fresher record: if it says something else, stop what the older one started and try this one."""
        finding = self.search.best if self.search is not None else None
        if finding is None or (self.finding is not None and finding.record.issued <= self.finding.record.issued):
            return
        self.node.remember(finding)
        if not self.ready.is_set():
            # open our NAT before anybody hears of us, so that the other side's first packet finds it open
            for candidate, reason in tryable(finding.record.candidates, self.ground()):
                if reason is None:
                    self.link.punch(candidate.endpoint, PUNCH_TTLS[0])
            self.looked.set()
            await self.ready.wait()
        self.finding = finding
        plan = self._plan(finding.record)
        if plan != self.plan:
            await self._stop()
            self.plan, self._since = plan, time.monotonic()
            self._describe(finding.record, *plan)
            self._attempt = asyncio.ensure_future(self._start(finding.record, *plan).run())

    def _start(self, record: Record, candidates: Sequence[Candidate], first: bool) -> Attempt:
        checks = record.hints.get("checks") is True
        return Attempt(
            self.link,
            candidates,
            initiate=first,
            silence=silence(nat_of(record)),
            prober=self._probe() if checks else None,
            later=checks and record.issued < self.issued(),
        )

    def _probe(self) -> Prober | None:
        if self.prober is None and self.checker is not None:
            self.prober = Prober(self.checker, self.peer)
        return self.prober

    def heard(self, endpoint: Endpoint) -> None:
        """The peer's authentic check came from this endpoint: check it too, be it in its record or not."""
        judged = tryable([Candidate(Kind.OBSERVED, endpoint)], self.ground())
        if (prober := self._probe()) is not None and judged[0][1] is None:
            prober.hear(endpoint)

    def _plan(self, record: Record) -> tuple[list[Candidate], bool]:
        """What to try, and whether we start; `verdict` says whether it can work at all."""
        ours, our_nat = self.ours()
        verdicts = tryable(record.candidates, self.ground())
        self.skipped = [(each, reason) for each, reason in verdicts if reason is not None]
        self._review(record)
        own = self.node.private
        first = own is None or initiates(own.public, self.peer, our_nat, nat_of(record))
        return order([each for each, reason in verdicts if reason is None], ours), first

    def _review(self, record: Record) -> None:
        """Whether this pair can work at all: our own NAT may be known better by now."""
        verdict = impossible(self.ours()[1], nat_of(record))
        if verdict is not None and verdict != self.verdict:
            self.say(f"this pair can hardly be connected directly: {verdict}")
        self.verdict = verdict

    def _describe(self, record: Record, tried: Sequence[Candidate], first: bool) -> None:
        age = (self.node.clock() - record.issued) / 1000
        where = ", ".join(each.endpoint.short for each in tried) or "nothing to try"
        self.say(f"found its record ({age:.0f} s old): {where}")
        self.say("we start the handshake" if first else "the other side starts the handshake, we open our NAT")

    async def _stop(self) -> None:
        attempt, self._attempt = self._attempt, None
        prober, self.prober = self.prober, None
        if attempt is not None:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
        if prober is not None:
            await prober.close()
