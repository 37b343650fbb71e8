"""Follow the records of many peers in every store at once, and ask more often for those that are missing."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import aclosing, suppress
from math import inf

from wgdisco.backend import Slot
from wgdisco.errors import UsageError, WgdiscoError
from wgdisco.keys import PublicKey
from wgdisco.node import Node
from wgdisco.search import Finding, Search
from wgdisco.store import Store

__all__ = ["Seeker"]

REFRESH = 600.0  # seconds for which the places are computed, since periods pass
HURRY, GENTLE = 30, 8  # times as often as at rest, for stores in general and for those that limit what we may do
EAGER = 60.0  # seconds for which a missing peer is asked for that often; then less and less
HUNTED = 16  # missing peers that are asked for at one time, those that went missing last first
AT_ONCE = 200  # peers whose places are computed, or values judged again, before the loop gets a turn
RIPE = 1.0  # seconds in which what has become valid is gathered


class Seeker:
    """Tells the freshest record of each peer as it comes, through `found(peer, finding)`.

    `looked` is set when every store has answered or failed once, `complete` when every store has answered for every
    peer, or failed. Stores are followed; while a peer is `missing` they
    are also asked, thirty times as often as they are polled at rest, for `eager` seconds, then less and less.
    """

    def __init__(
        self,
        node: Node,
        peers: Iterable[PublicKey],
        found: Callable[[PublicKey, Finding], None],
        say: Callable[[str], None],
        eager: float = EAGER,
    ) -> None:
        self.node, self.found, self.say, self.eager = node, found, say, eager
        self.searches: dict[PublicKey, Search | None] = dict.fromkeys(peers)
        self.errors: dict[str, WgdiscoError] = {}
        self.looked, self.complete = asyncio.Event(), asyncio.Event()
        self.records = 0
        self.refused: Counter[str] = Counter()
        self._slots: dict[bytes, PublicKey] = {}
        self._answered: set[str] = set()
        self._unheard: dict[str, set[bytes]] = {}
        self._missing: dict[PublicKey, float] = {}
        self._hunger = {store.name: asyncio.Event() for store in node.stores}
        self._round: asyncio.Timeout | None = None
        self._ripens, self._ripening, self._outdated = inf, asyncio.Event(), False

    async def run(self) -> None:
        """Go on until cancelled."""
        hunts = [asyncio.ensure_future(self._hunt(store)) for store in self.node.stores]
        tasks = [*hunts, asyncio.ensure_future(self._follow()), asyncio.ensure_future(self._ripen())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def miss(self, peer: PublicKey) -> None:
        """A wanted peer has gone: ask for it often from now on, beginning at once."""
        if peer in self._missing:
            return
        self._missing[peer] = time.monotonic()
        for hunger in self._hunger.values():
            hunger.set()

    def have(self, peer: PublicKey) -> None:
        """A peer is there: following is enough."""
        self._missing.pop(peer, None)

    def again(self) -> None:
        """Start to follow anew, as after a sleep that no connection survived; all that is missing is asked for."""
        if self._round is not None and self._answered:
            with suppress(RuntimeError):  # it is just ending by itself
                self._round.reschedule(asyncio.get_running_loop().time())
        missing, self._missing = self._missing, {}
        for peer in missing:
            self.miss(peer)

    def reconsider(self) -> None:
        """The clock was set, or this host slept: judge again what the stores hold, and look where it lies now.

        A store that pushes says everything once only, so what was refused for the time has to be remembered here.
        """
        self._ripens, self._outdated = -inf, True
        self._ripening.set()
        if self._round is not None:
            with suppress(RuntimeError):  # it is just ending by itself
                self._round.reschedule(asyncio.get_running_loop().time())

    async def _ripen(self) -> None:
        """Judge values that came from the future as soon as their time has come."""
        while True:
            wait = None if self._ripens == inf else max(0.0, (self._ripens - self.node.clock()) / 1000)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._ripening.wait()
            self._ripening.clear()
            if self._ripens <= self.node.clock():
                await self._judge_again(everything=self._ripens == -inf)
                await asyncio.sleep(RIPE)

    async def _judge_again(self, *, everything: bool) -> None:
        now, self._ripens = self.node.clock(), inf
        for count, (peer, search) in enumerate(list(self.searches.items()), 1):
            if search is not None and (everything or search.ripens <= now):
                self._tell(peer, search, fresher=search.again())
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._ripens = min(self._ripens, *(search.ripens for search in self.searches.values() if search), inf)

    async def _follow(self) -> None:
        while True:
            self._outdated = False
            try:
                await self._place()
            except UsageError as error:  # a clock before 1971, as after a boot without one
                self._failed("clock", error)
                await asyncio.sleep(1.0)
                continue
            self.errors.pop("clock", None)
            places = [place for search in self.searches.values() if search for place in search.places.values()]
            if not self.complete.is_set():
                self._unheard = {store.name: set(self._slots) for store in self.node.stores}
            with suppress(TimeoutError):
                async with (
                    asyncio.timeout(0.0 if self._outdated else REFRESH) as self._round,
                    aclosing(self.node.follow(places, self._failed)) as changes,
                ):
                    async for backend, slot, values in changes:
                        self.errors.pop(backend, None)
                        self._judge(backend, slot, values)
                        self._looked(backend)
                        self._heard(backend, slot)
            gc.collect()  # a round of ten thousand peers leaves 20 MB in cycles, which nobody would look for in hours

    async def _place(self) -> None:
        """Where every peer's records may lie now; what was found and refused stays known."""
        slots: dict[bytes, PublicKey] = {}
        for count, peer in enumerate(self.searches):
            search, places = self.searches[peer], self.node.places(peer, round(1000 * REFRESH))
            if search is None or search.places.keys() != {place.id for place in places}:
                fresh = Search(places, self.node.state, self.node.clock)
                if search is not None:
                    fresh.best, fresh.answers = search.best, search.answers
                else:
                    self._recall(peer, fresh)
                self.searches[peer] = search = fresh
            slots |= dict.fromkeys(search.places, peer)
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._slots = slots

    def _recall(self, peer: PublicKey, search: Search) -> None:
        """Begin with the last good record, if it is still valid: the stores may be down."""
        good = self.node.state.good(peer)
        if good is None or good.record.end <= self.node.clock():
            return
        for place in search.places.values():
            if (place.network, place.period) == (good.network, good.period):
                search.best = Finding(good.record, good.backend, place, good.blob)
                self.found(peer, search.best)

    async def _hunt(self, store: Store) -> None:
        """Ask one store for the missing peers, again and again, at its pace."""
        rest = store.backend.poll
        quick = max(1.0, rest / (GENTLE if store.backend.slow_writes else HURRY))
        hunger, due = self._hunger[store.name], time.monotonic() + quick  # it is being followed already
        while True:
            await hunger.wait()
            hunger.clear()
            pause, start = quick, time.monotonic()
            while self._missing and pause <= rest and not hunger.is_set():
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not store.reading.seconds:
                    await self._ask(store)
                pause *= 2 if time.monotonic() - start > self.eager else 1
                due = time.monotonic() + pause

    async def _ask(self, store: Store) -> None:
        latest = sorted(self._missing, key=lambda peer: self._missing[peer])[-HUNTED:]
        slots = [slot for peer in latest if (search := self.searches.get(peer)) for slot in search.slots]
        try:
            async with aclosing(store.fetch(slots)) as answers:
                async for slot, values in answers:
                    self._judge(store.name, slot, values)
        except WgdiscoError as error:
            self._failed(store.name, error)

    def _judge(self, backend: str, slot: Slot, values: list[bytes]) -> None:
        peer = self._slots.get(slot.id)
        search = self.searches.get(peer) if peer is not None else None
        if peer is None or search is None:
            return
        before = sum(search.answers[backend].refused.values()) if backend in search.answers else 0
        fresher = search.judge(backend, slot, values)
        search.answers[backend].done = True
        self.refused[backend] += sum(search.answers[backend].refused.values()) - before
        if search.ripens < self._ripens:
            self._ripens = search.ripens
            self._ripening.set()
        self._tell(peer, search, fresher=fresher)

    def _tell(self, peer: PublicKey, search: Search, *, fresher: bool) -> None:
        if fresher and search.best is not None:
            self.records += 1
            self.found(peer, search.best)

    def _looked(self, backend: str) -> None:
        self._answered.add(backend)
        if len(self._answered) >= len(self.node.stores):
            self.looked.set()

    def _heard(self, backend: str, slot: Slot | None = None) -> None:
        """A store has answered for a slot, or failed for all."""
        if (unheard := self._unheard.get(backend)) is None:
            return
        if slot is None:
            unheard.clear()
        else:
            unheard.discard(slot.id)
        if not any(self._unheard.values()):
            self.complete.set()

    def _failed(self, backend: str, error: WgdiscoError) -> None:
        self._looked(backend)
        self._heard(backend)
        if backend not in self.errors:
            self.say(f"{error} (trying again)")
        self.errors[backend] = error
