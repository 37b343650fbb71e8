"""Keep saying where this node is: gather, publish when that changed or a third of the lifetime is over, tidy up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from wgdisco.audience import SKEW, Audience
from wgdisco.discovery import Outcome
from wgdisco.freshness import MARGIN
from wgdisco.node import Node, Publication
from wgdisco.policy import publishable
from wgdisco.record import Candidate, Kind
from wgdisco.sources import Behaviour, Where
from wgdisco.steady import Steady, alike
from wgdisco.upkeep import repair, tidy

__all__ = ["Announcer", "hints_of"]

AT_REST = 300.0  # seconds between two looks where no NAT is in the way: the kernel tells when our addresses change
SOON = 1.0  # seconds at least between two looks, however often something changes
FIRST_LOOK = 0.5  # seconds that the first publish waits for a look at the other side
REPAIR = 300.0  # seconds between two looks at what the stores still have of ours
OUTAGE = 60.0  # the same where a store was down meanwhile, which may have lost its memory
NOWHERE = "no endpoint of ours is known, so nothing new is published; see what is missing with: wgdisco endpoints"
RETRY = 5.0  # seconds at most after a publish that no store took; the first time 1 s, then 2 s


def hints_of(where: Where) -> dict[str, Any]:
    """What a record says about the NAT, when something is known (SPEC section 2).

    A port that the router forwards is as good as no filter: whoever knows it gets in, whatever the NAT does.
    """
    mapping, filtering = str(where.nat.mapping), str(where.nat.filtering)
    if (mapping, filtering) == ("unknown", "unknown"):
        return {}
    if any(found.kind is Kind.MAPPED and found.endpoint.address.version == 4 for found in where.found):
        mapping = filtering = str(Behaviour.ENDPOINT_INDEPENDENT)
    return {"nat": [mapping, filtering]}


class Announcer:
    """Publishes the node's whereabouts to its audiences; `where` and `publication` are the latest, `told` the event."""

    def __init__(
        self,
        node: Node,
        gather: Callable[[bool], Awaitable[Where]],
        audiences: Sequence[Audience],
        say: Callable[[str], None],
        *,
        expose_hosts: bool = False,
        checks: bool = False,
    ) -> None:
        """`gather` asks every source, thoroughly if told so; done again and again it keeps the NAT's mapping alive.

        `checks` says that we answer authenticated checks. The first publish waits a moment for `looked`: who finds the
        other side first can open its NAT before the other side hears of it. `changed` is called when our candidates
        have become others.
        """
        self.looked: asyncio.Event | None = None
        self.checks = checks
        self.node, self.gather, self.audiences, self.say = node, gather, audiences, say
        self.expose_hosts = expose_hosts
        self.steady, self.where = Steady(), Where()
        self.said: tuple[list[Candidate], dict[str, Any]] = ([], {})
        self.publication: Publication | None = None
        self.told = asyncio.Event()
        self.publishes = self.failures = self._vain = 0
        self.changed: Callable[[], None] = lambda: None
        self._hurry, self._elsewhere = asyncio.Event(), asyncio.Event()
        self._problems: set[str] = set()
        self._task: asyncio.Task[Publication] | None = None
        self._stored = asyncio.Event()
        self._lacking: set[str] = set()
        self._clashed = self._owed = False

    @property
    def candidates(self) -> list[Candidate]:
        """What was published last."""
        return self.said[0]

    async def run(self) -> None:
        """Go on until cancelled: quickly at first, then once with the NAT tests that take seconds."""
        clock = asyncio.get_running_loop().time
        if not self.audiences:
            self.say("there is no peer that could read a record, so none is published")
            self.told.set()
            await asyncio.Event().wait()
        try:
            await self.once()
            measured = False
            while True:
                if self.steady.is_seen and not measured:
                    measured = True
                    await self.once(thorough=True)
                start, stored = clock(), self.publication is not None and bool(self.publication.stored)
                again = min(2.0 ** min(self._vain - 1, 9), RETRY)
                await self._wait(self._pause() if stored or not self.said[0] else again)
                await self.once()
                await asyncio.sleep(max(0.0, start + SOON - clock()))
        finally:
            await self._abandon()

    def hurry(self) -> None:
        """Look again now: something about our addresses has changed, or may have."""
        self._hurry.set()

    def moved(self) -> None:
        """Our addresses are others: look again now, even while stores are being waited for."""
        self._elsewhere.set()
        self.hurry()

    def _pause(self) -> float:
        return self.steady.pause(min(AT_REST, self.node.lifetime / 6))

    async def _wait(self, seconds: float) -> None:
        """Sleep, unless somebody is in a hurry."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        self._hurry.clear()

    async def once(self, *, thorough: bool = False) -> Publication:
        """Gather, and publish if there is something new to say or the record is due; anew when we move meanwhile.

        Without an endpoint nothing is published, since that would mean good-bye.
        """
        while (publication := await self._once(thorough)) is None:
            thorough = False
        return publication

    async def _once(self, thorough: bool) -> Publication | None:
        self._elsewhere.clear()
        where = self.where = self.steady.take(await self.gather(thorough))
        scope = self.audiences[0].scope.name.lower() if self.audiences else "peers"
        said = publishable(where.found, scope, expose_hosts=self.expose_hosts), self._hints(where)
        self._complain(where.problems if said[0] else [*where.problems, NOWHERE])
        if not said[0]:
            self.told.set()
            return self.publication or Publication(0, 0, [], self.audiences, [], {})
        moved = not alike(said[0], self.said[0], where.nat.mapping)
        same = not moved and said[1] == self.said[1]
        if self.publication is not None and same and not self._due(self.publication):
            return self.publication
        if same and self.publication is not None and (self._owed or not self.publication.stored):
            said = self.said  # the identical bytes again: who answers first is by chance
        await self._first_look()
        self.said = said
        if self.publication is not None and moved:
            self.changed()
        return await self._publish(said)

    def _complain(self, problems: Sequence[str]) -> None:
        for problem in problems:
            if problem not in self._problems:
                self._problems.add(problem)
                self.say(problem)

    async def _publish(self, said: tuple[list[Candidate], dict[str, Any]]) -> Publication | None:
        """Return when a store has it, or all have failed; those that are slow go on until the next publish.

        None when we moved before any store had it.
        """
        self._owed = True
        await self._abandon()
        self.publishes += 1
        self._task = asyncio.ensure_future(self.node.publish(said[0], self.audiences, said[1], self._done))
        events = [asyncio.ensure_future(event.wait()) for event in (self._stored, self._elsewhere)]
        try:
            await asyncio.wait({self._task, *events}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()
        if self._task.done():
            self.publication = self._task.result()
            self._vain = 0 if self.publication.stored else self._vain + 1
            self.failures += not self.publication.stored
        elif not self._stored.is_set():
            await self._abandon()
            return None
        self._owed = False
        self.told.set()
        assert self.publication is not None  # either it has ended, or `_done` was called
        return self.publication

    def _done(self, publication: Publication, outcome: Outcome) -> None:
        """A store has our record, or has not."""
        where = ", ".join(each.endpoint.short for each in publication.candidates) or "no endpoint"
        if outcome.complete:
            self._lacking.discard(outcome.backend)
            self.say(f"published to {outcome.backend}: {where}")
        else:
            if outcome.backend not in self._lacking:
                self.say(f"not published: {outcome.error} (trying again)")
            self._lacking.add(outcome.backend)
        if publication.stored:
            self.publication = publication
            self._stored.set()
            self.told.set()

    async def _abandon(self) -> None:
        """Give up what stores have not taken of the last publish."""
        task, self._task = self._task, None
        self._stored.clear()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def maintain(self) -> None:
        """Go on until cancelled: put again what stores lost or could not take, remove our slots of past days."""
        clock, tidied, repaired = asyncio.get_running_loop().time, -1, 0.0
        outages: dict[str, float] = {}
        await self.told.wait()
        while True:
            if tidied != self.publishes:
                tidied, repaired = self.publishes, repaired or clock()
                await tidy(self.node)
            lacking = [each for each in self.node.stores if each.name in self._lacking and not each.rests]
            failures = {each.name: each.reading.failed_at for each in self.node.stores if not each.rests}
            due = OUTAGE if any(outages.get(name, 0.0) != when for name, when in failures.items()) else REPAIR
            if lacking or clock() - repaired >= due:
                repaired = clock()
                outages |= failures
                for name in await repair(self.node, self.audiences, self._outdone):
                    self.say(f"{name} lacked our record; it was put there again")
                # whoever failed in this, be it only in reading, rests now, and lacks it still
                self._lacking -= {store.name for store in lacking if not store.rests}
            await asyncio.sleep(RETRY)

    def _outdone(self) -> None:
        if not self._clashed:
            self._clashed = True
            self.say(
                "another host publishes with this key, and what was signed last counts; give each host its own key"
            )

    async def _first_look(self) -> None:
        if self.publication is None and self.looked is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_LOOK):
                    await self.looked.wait()

    async def leave(self) -> Publication:
        """Say good-bye: a record without endpoints replaces the last one."""
        await self._abandon()
        self.said = [], {}
        self.publication = await self.node.publish([], self.audiences, {})
        return self.publication

    def _hints(self, where: Where) -> dict[str, Any]:
        return hints_of(where) | ({"checks": True} if self.checks else {})

    @property
    def issued(self) -> int:
        """When we published (milliseconds), 0 before."""
        return self.publication.issued if self.publication is not None else 0

    def _due(self, publication: Publication) -> bool:
        """Whether to say it anew: since that time has come, or since what is `said` is not what was published."""
        age, third = self.node.clock() - publication.issued, 1000 * publication.lifetime // 3
        # ahead of a clock that was set back, up to what readers tolerate: another one could only be later still
        return self._owed or not publication.stored or not MARGIN - SKEW <= age < third
