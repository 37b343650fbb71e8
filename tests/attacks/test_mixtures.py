"""Several stores at once, in virtual time: how long the newest record takes when the others do their worst (promise 4)."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing, suppress

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.attacks.virtual import virtually
from tests.unit.records import ALICE, MALLORY, NOW, here, record
from wgdisco.audience import Audience
from wgdisco.backend import Backend
from wgdisco.discovery import follow, resolve
from wgdisco.freshness import Marks
from wgdisco.record import encode, sign
from wgdisco.search import Search, slot_of
from wgdisco.store import Store

OPEN = Audience.key(ALICE.public)
PLACE = here(OPEN)
ALLOWED = 0.1  # seconds after the answer of the fastest honest store
DEADLINE = 5.0  # seconds that a store gets


def sealed(issued: int, signer=ALICE) -> bytes:
    return PLACE.seal(sign(encode(record(issued, OPEN)), signer))


NEWEST, OLDER = sealed(NOW), sealed(NOW - 60_000)
FORGED = [sealed(NOW + 1000 * number, MALLORY) for number in range(8)]


class Known:
    """Marks in memory."""

    def __init__(self) -> None:
        self.kept = Marks()

    def marks(self, _subject) -> Marks:
        return self.kept

    def remember(self, _subject, marks: Marks) -> None:
        self.kept = marks


class Plays(Backend):
    """A store of some kind, whose every answer takes `latency` seconds."""

    def __init__(self, number: int, kind: str, latency: float) -> None:
        self.name, self.kind, self.latency = f"{kind} {number}", kind, latency

    async def open(self) -> None:
        if self.kind == "does not open":
            await asyncio.sleep(3600)

    async def get(self, slot) -> list[bytes]:
        await asyncio.sleep(3600 if self.kind == "hangs" else self.latency)
        match self.kind:
            case "dead":
                raise ConnectionError("down")
            case "clings":
                return await self.cling()
        return {"healthy": [NEWEST], "stale": [OLDER], "lying": [os.urandom(233), *FORGED]}.get(self.kind, [])

    async def cling(self) -> list[bytes]:
        """Swallow every cancellation for a while."""
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
        return []

    async def fetch(self, slots):
        if self.kind == "exits":
            await asyncio.sleep(self.latency)
            raise SystemExit(1)
        while self.kind == "pours":
            await asyncio.sleep(0.01 + self.latency / 10)
            yield slots[0], [os.urandom(233) for _ in range(4)]
        async with aclosing(super().fetch(slots)) as answers:
            async for answer in answers:
                yield answer


OTHERS = ("empty", "stale", "lying", "dead", "exits", "hangs", "clings", "pours", "does not open")
LATENCIES = st.floats(0, 4).map(lambda seconds: round(seconds, 3))
MIXTURES = st.tuples(
    st.lists(st.tuples(st.sampled_from(OTHERS), LATENCIES), max_size=6),
    st.lists(LATENCIES.map(lambda latency: ("healthy", latency)), min_size=1, max_size=2),
).flatmap(lambda both: st.permutations(both[0] + both[1]))


def stores_of(mixture) -> list[Store]:
    return [Store(Plays(number, kind, latency), DEADLINE) for number, (kind, latency) in enumerate(mixture)]


def fastest(mixture, *kinds: str) -> float:
    """Seconds until a store of these kinds has answered."""
    return min(latency for kind, latency in mixture if kind in kinds)


async def followed(mixture) -> float:
    """Seconds of following until the newest record is the best."""
    stores, search = stores_of(mixture), Search([PLACE], Known(), lambda: NOW)
    changes = follow(stores, [slot_of(PLACE)], lambda *_: None)
    async with asyncio.timeout(60), aclosing(changes):
        async for backend, slot, values in changes:
            search.judge(backend, slot, values)
            if search.best is not None and search.best.record.issued == NOW:
                return asyncio.get_running_loop().time()
    raise AssertionError("it never came")


@settings(max_examples=150, deadline=None)
@given(MIXTURES)
def test_mixture_the_newest_record_is_there_when_an_honest_store_has_answered(mixture) -> None:
    """Following, as the agent and `connect` do: `Search.best` is the newest record 100 ms after the fastest honest store.

    Honest is a store that holds the newest record and gives it to whoever asks, after its latency. It is counted in
    waiting from the moment the search begins, whatever the other stores do, and also when an older record came first.
    """
    assert virtually(followed(mixture)) <= fastest(mixture, "healthy") + ALLOWED


async def resolved(mixture, settle: float) -> tuple[Search, float]:
    """What a search found, and after how many seconds it returned."""
    search = await resolve(stores_of(mixture), [PLACE], Known(), lambda: NOW, settle)
    return search, asyncio.get_running_loop().time()


@settings(max_examples=150, deadline=None)
@given(MIXTURES, st.sampled_from([ALLOWED, 1.0, 3.0]))
def test_mixture_a_search_ends_soon_after_the_first_record_and_has_the_newest(mixture, settle: float) -> None:
    """Asking once, as `resolve` does: it returns at most `settle` seconds after the first valid record.

    It has the newest one if an honest store answered by then. So with a `settle` of 100 ms, and nobody faster who still
    has an older record, the newest is there 100 ms after the fastest honest store.
    """
    first, honest = fastest(mixture, "healthy", "stale"), fastest(mixture, "healthy")
    assume(abs(first + settle - honest) > 0.01)
    search, seconds = virtually(resolved(mixture, settle))
    assert seconds <= first + settle + 0.001
    assert search.best.record.issued == (NOW if honest < first + settle else NOW - 60_000)
