"""Looking for peers while the clock is wrong, is set, or passes the border of a day; in virtual time."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.attacks.scene import HOUR, Scene
from tests.attacks.virtual import virtually
from tests.unit.records import ALICE, BOB, NOW, W, here, record, sealed
from wgdisco.audience import Audience
from wgdisco.backend import Backend
from wgdisco.seek import REFRESH, RIPE, Seeker

PAIR = Audience.peers(BOB, ALICE.public)


class Push(Backend):
    """A store that says what it holds once, and what is put there later."""

    name = "push"

    def __init__(self, *blobs: bytes, now: int = NOW) -> None:
        self.blobs, self.now, self.followed, self.rounds = blobs, now, [], 0

    async def fetch(self, slots):
        for slot in ():
            yield slot, []

    async def follow(self, slots):
        self.followed, self.rounds = [slot.id for slot in slots], self.rounds + 1
        for slot in slots:
            if self.rounds == 1 and slot.id == here(PAIR, now=self.now).id:
                yield slot, list(self.blobs)
        await asyncio.Event().wait()


def said(issued: int, now: int = NOW) -> bytes:
    """Alice's record for Bob, as it lies in the period of `now`."""
    return sealed(record(issued, PAIR), here(PAIR, now=now))


class Seeking:
    """Bob looks for Alice: `found` is when (seconds) which of her records came."""

    def __init__(self, folder: Path, store: Backend, now: int) -> None:
        self.scene, self.store, self.found = Scene(folder), store, []
        loop, self.ahead = asyncio.get_running_loop(), now
        node = self.scene.node(BOB, store)
        node.clock = self.clock = lambda: self.ahead + round(1000 * loop.time())
        self.seeker = Seeker(node, [ALICE.public], self._heard, lambda _: None)

    def _heard(self, _, finding) -> None:
        self.found.append((round(time.monotonic()), finding.record.issued))


@asynccontextmanager
async def seeking(folder: Path, store: Backend, now: int = NOW):
    made = Seeking(folder, store, now)
    task = asyncio.ensure_future(made.seeker.run())
    await asyncio.sleep(0.5)
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.scene.close()


def test_a_peer_whose_clock_is_ahead_is_found_when_its_time_comes(tmp_path) -> None:
    """330 s ahead, in a store that says it only once: 30 s later."""

    async def work() -> list:
        async with seeking(tmp_path, Push(said(NOW + W + 30_000))) as made:
            await asyncio.sleep(100)
            return made.found

    ((when, issued),) = virtually(work())
    assert 30 <= when <= 30 + RIPE
    assert issued == NOW + W + 30_000


def test_two_peers_of_the_future_are_found_each_in_its_time(tmp_path) -> None:
    async def work() -> list:
        async with seeking(tmp_path, Push(said(NOW + W + 60_000), said(NOW + W + 30_000))) as made:
            await asyncio.sleep(100)
            return made.found

    assert [issued - NOW - W for _, issued in virtually(work())] == [30_000, 60_000]


@pytest.mark.parametrize("wrong", [-HOUR, 2 * HOUR], ids=["behind", "ahead"])
def test_what_was_refused_for_a_wrong_clock_is_found_when_it_is_set(tmp_path, wrong) -> None:
    async def work() -> list:
        async with seeking(tmp_path, Push(said(NOW)), NOW + wrong) as made:
            await asyncio.sleep(10)
            assert made.found == []
            made.ahead -= wrong
            made.seeker.reconsider()
            await asyncio.sleep(5)
            return made.found

    assert virtually(work()) == [(10, NOW)]


def test_after_a_clock_is_set_it_looks_where_things_lie_now(tmp_path) -> None:
    """Also when no store has answered yet."""

    async def work() -> list[bool]:
        store, today = Push(), here(PAIR).id
        async with seeking(tmp_path, store, NOW - 48 * HOUR) as made:
            before = today in store.followed
            made.ahead += 48 * HOUR
            made.seeker.reconsider()
            await asyncio.sleep(1)
            return [before, today in store.followed]

    assert virtually(work()) == [False, True]


def test_at_every_moment_it_looks_wherever_a_record_may_lie(tmp_path) -> None:
    """A day long: around the border its peer may be up to W ahead of us, or behind."""

    async def work() -> int:
        store, rounds = Push(), []
        async with seeking(tmp_path, store) as made:
            for _ in range(24 * 60):
                await asyncio.sleep(60)
                wanted = PAIR.readable(ALICE.public, made.clock())
                assert {place.id for place in wanted} <= set(store.followed)
                rounds.append(store.rounds)
        return rounds[-1]

    assert virtually(work()) == pytest.approx(86400 / REFRESH, abs=2)
