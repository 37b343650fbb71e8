"""Keep saying where this node is: gather, publish when that changed or a third of the lifetime is over, tidy up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from wgdisco.audience import Audience
from wgdisco.node import Node, Publication
from wgdisco.policy import publishable
from wgdisco.record import Candidate
from wgdisco.sources import Where

__all__ = ["Announcer", "hints_of"]

MAPPING_LIVES = 20.0  # seconds between two looks: a NAT forgets a mapping 30 s after its last packet
RETRY = 5.0  # seconds after a publish that no store took


def hints_of(where: Where) -> dict[str, Any]:
    """What a record says about the NAT, when something is known (SPEC section 2)."""
    mapping, filtering = str(where.nat.mapping), str(where.nat.filtering)
    return {} if (mapping, filtering) == ("unknown", "unknown") else {"nat": [mapping, filtering]}


class Announcer:
    """Publishes the node's whereabouts to its audiences; `where` and `publication` are the latest, `told` the event."""

    def __init__(
        self,
        node: Node,
        gather: Callable[[], Awaitable[Where]],
        audiences: Sequence[Audience],
        say: Callable[[str], None],
        *,
        expose_hosts: bool = False,
    ) -> None:
        """`gather` asks every source once; done again and again, it also keeps the NAT's mapping alive."""
        self.node, self.gather, self.audiences, self.say = node, gather, audiences, say
        self.expose_hosts = expose_hosts
        self.where = Where()
        self.candidates: list[Candidate] = []
        self.publication: Publication | None = None
        self.told = asyncio.Event()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self.once()
            stored = self.publication is not None and self.publication.stored
            await asyncio.sleep(MAPPING_LIVES if stored else RETRY)

    async def once(self) -> Publication:
        """Gather, and publish if there is something new to say or the record is due."""
        self.where = await self.gather()
        scope = self.audiences[0].scope.name.lower() if self.audiences else "peers"
        candidates = publishable(self.where.found, scope, expose_hosts=self.expose_hosts)
        if self.publication is not None and candidates == self.candidates and not self._due(self.publication):
            return self.publication
        self.candidates = candidates
        self.publication = await self.node.publish(candidates, self.audiences, hints_of(self.where))
        self._report(self.publication)
        self.told.set()
        await self.node.tidy()
        return self.publication

    def _due(self, publication: Publication) -> bool:
        third = 1000 * publication.lifetime // 3
        return not publication.stored or self.node.clock() - publication.issued >= third

    def _report(self, publication: Publication) -> None:
        where = ", ".join(each.endpoint.short for each in publication.candidates) or "no endpoint"
        for outcome in publication.outcomes:
            if outcome.complete:
                self.say(f"published to {outcome.backend}: {where}")
            else:
                self.say(f"not published: {outcome.error}")
