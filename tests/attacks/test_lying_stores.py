"""Attacks by stores, named after The Update Framework's list: slow retrieval, endless data, freeze, mix-and-match, mirrors.

What a store can do to one record is in test_records.py; here whole nodes read from stores that lie.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import aclosing

import pytest

import wgdisco.record
from tests.attacks.scene import FIRST, HOUR, SECOND, Scene, growth, liar, shelf
from tests.unit.records import ALICE, BOB, MALLORY, M, W, candidate, here, record
from wgdisco.audience import Audience, Scope
from wgdisco.backend import Backend
from wgdisco.discovery import require
from wgdisco.errors import NotFound, StoreError
from wgdisco.node import Node
from wgdisco.record import encode, sign
from wgdisco.search import Search
from wgdisco.testing import LIES

ALLOWED = 8_000_000  # bytes by which a reader may grow
SECRET = b"s" * 32


@pytest.fixture
async def scene(tmp_path):
    made = Scene(tmp_path)
    yield made
    await made.close()


async def publish(node: Node, candidates, scope: Scope = Scope.KEY) -> int:
    return (await node.publish(candidates, node.readers(scope, [BOB.public]))).issued


def values_of(backend) -> list[bytes]:
    return [value for value, _ in backend._room.values.values()]


class Serves(Backend):
    """A store that has the same values in every slot."""

    name = "serves"

    def __init__(self, *values: bytes) -> None:
        self.values = list(values)

    async def get(self, slot) -> list[bytes]:
        return self.values


# ---- malicious mirrors: one honest store beside every lie


@pytest.mark.parametrize("lie", LIES)
async def test_mirror_beside_an_honest_store_the_newest_record_is_found(scene, lie: str) -> None:
    bad, good = liar(lie), shelf()
    bob, alice = scene.node(BOB, bad, good), scene.node(ALICE, bad, good)
    await publish(bob, [candidate("203.0.113.66:53")])
    await publish(alice, FIRST)
    scene.clock.now += 1000
    newest = await publish(alice, SECOND)
    finding = await scene.stranger(bad, good).find(ALICE.public)
    assert (finding.record.issued, list(finding.record.candidates)) == (newest, SECOND)


@pytest.mark.parametrize("lie", LIES)
async def test_mirror_that_is_asked_first_changes_nothing_afterwards(scene, lie: str) -> None:
    """A reader that heard the liar alone still takes the newest record from the honest store."""
    bad, good = liar(lie), shelf()
    alice = scene.node(ALICE, bad, good)
    await publish(alice, FIRST)
    scene.clock.now += 1000
    newest = await publish(alice, SECOND)
    await scene.node(BOB, bad).resolve(ALICE.public)
    assert (await scene.node(BOB, good).find(ALICE.public)).record.issued == newest


ALONE = {
    "withholds": (NotFound, "withholds: nothing there"),
    "garbage": (NotFound, r"garbage: refused: \d malformed, \d unsealed"),
    "flips a bit": (NotFound, "flips a bit: refused: 1 unsealed"),
    "floods": (NotFound, r"floods: refused: 1[0-6] malformed(, \d unsealed)?"),
    "endless": (NotFound, "endless: refused: 1 size"),
    "replays the first": (NotFound, "replays the first: refused: 1 rollback"),
    "serves other slots": (NotFound, "serves other slots: refused: 1 unsealed"),
    "pretends to store": (NotFound, "pretends to store: nothing there"),
    "hangs": (StoreError, r"hangs: no answer within 0\.3 s"),
    "fails": (StoreError, "fails: the store hung up"),
}
WITHOUT_THE_RECORD = {"floods", "endless", "serves other slots"}  # which would find it there, if by chance


@pytest.mark.parametrize("lie", LIES)
async def test_mirror_alone_is_an_error_with_its_name_and_reason(scene, lie: str) -> None:
    kind, reason = ALONE[lie]
    bad, good = liar(lie), shelf()
    if lie in WITHOUT_THE_RECORD:
        await publish(scene.node(BOB, bad), SECOND)
    else:
        alice = scene.node(ALICE, bad, good)
        await publish(alice, FIRST)
        scene.clock.now += 1000
        await publish(alice, SECOND)
    reader = scene.stranger(bad)
    if lie == "replays the first":
        reader = scene.node(BOB, good)
        await reader.find(ALICE.public)
        await reader.close()
        reader = scene.node(BOB, bad)
    with pytest.raises((NotFound, StoreError)) as error:
        await reader.find(ALICE.public)
    assert type(error.value) is kind
    assert re.search(rf"^  {reason}$", str(error.value), re.MULTILINE), error.value


async def test_mirror_that_serves_other_peers_records(scene) -> None:
    """Bob's record in Alice's slot, as it was stored and sealed anew by a member of the network."""
    bad = liar("serves other slots")
    bob = scene.node(BOB, bad, networks=[SECRET])
    await publish(bob, SECOND, Scope.NETWORK)
    members = Audience.members(SECRET)
    told = sign(encode(record(audience=members, subject=BOB)), BOB)
    moved = Serves(here(members, ALICE).seal(told))
    reader = scene.stranger(bad, moved, networks=[SECRET])
    search = await reader.resolve(ALICE.public, settle=None)
    assert search.best is None
    assert set(search.answers["serves other slots"].refused) == {"unsealed"}
    assert set(search.answers["serves"].refused) == {"signature", "unsealed"}  # `unsealed`: the audience `key`
    assert (await reader.find(BOB.public)).record.subject == BOB.public


# ---- endless data, floods


def forgeries(number: int) -> list[bytes]:
    """So many different values that Mallory signed and sealed for Alice's slot, as whoever knows her key can."""
    place = here(Audience.key(ALICE.public))
    told = sign(encode(record(audience=Audience.key(ALICE.public), candidates=SECOND)), MALLORY)
    return [place.seal(told) for _ in range(number)]


@pytest.fixture
def checked(monkeypatch) -> Counter:
    """How many signatures were checked."""
    counted: Counter = Counter()
    verify = wgdisco.record.verify

    def count(*words) -> bool:
        counted["signatures"] += 1
        return verify(*words)

    monkeypatch.setattr(wgdisco.record, "verify", count)
    return counted


async def test_endless_ten_thousand_forgeries_cost_sixteen_signature_checks(scene, checked) -> None:
    flood, good = Serves(*forgeries(10_000)), shelf()
    newest = await publish(scene.node(ALICE, good), FIRST)
    reader = scene.stranger(flood, good)
    assert len(reader.places(ALICE.public)) == 1
    with growth() as measured:
        search = await reader.resolve(ALICE.public, settle=None)
    assert search.best.record.issued == newest
    assert search.answers["serves"].refused == {"signature": 16}
    assert checked["signatures"] == 17
    assert max(measured) < ALLOWED


class Big(Backend):
    """A hundred values of 1 MB each, made anew for everyone who asks."""

    name = "big"

    async def get(self, slot) -> list[bytes]:
        return [bytes([number]) * 1_000_000 for number in range(100)]


async def test_endless_values_are_cut_before_they_are_kept(scene) -> None:
    """Of each of sixteen values the reader keeps 682 bytes, enough to refuse it."""
    reader = scene.stranger(Big())
    with growth() as measured:
        search = await reader.resolve(ALICE.public, settle=None)
        await asyncio.sleep(0.1)  # the task that read them may be about to end
    assert search.answers["big"].refused == {"size": 16}
    assert measured[0] < ALLOWED / 8


@pytest.mark.parametrize("lie", ["floods", "endless", "garbage"])
async def test_endless_asking_again_and_again_leaves_nothing_behind(scene, lie: str) -> None:
    bad, good = liar(lie), shelf()
    reader = scene.stranger(bad, good)
    await publish(scene.node(ALICE, bad, good), FIRST)
    await reader.find(ALICE.public)
    with growth() as measured:
        for _ in range(5):
            await reader.find(ALICE.public)
    assert measured[0] < ALLOWED / 8


class Pours(Backend):
    """A bulk read that never ends: the same slot with other values, again and again."""

    name = "pours"

    def __init__(self, values: list[bytes], pause: float = 0.0) -> None:
        self.values, self.pause, self.poured = values, pause, 0

    async def fetch(self, slots):
        while True:
            for slot in slots:
                for value in self.values:
                    self.poured += 1
                    yield slot, [value + self.poured.to_bytes(4, "big")]
                    await asyncio.sleep(self.pause)

    async def follow(self, slots):
        async for answer in self.fetch(slots):
            yield answer


async def test_endless_answers_end_with_the_deadline(scene) -> None:
    with pytest.raises(StoreError, match=r"pours: refused: \d+ unsealed; no answer within 0\.3 s"):
        await asyncio.wait_for(scene.stranger(Pours([b"\x01" * 300])).find(ALICE.public), 20)


async def test_endless_answers_hide_no_honest_store(scene) -> None:
    good = shelf()
    newest = await publish(scene.node(ALICE, good), FIRST)
    finding = await asyncio.wait_for(scene.stranger(Pours([b"\x01" * 300]), good).find(ALICE.public), 20)
    assert finding.record.issued == newest


async def test_endless_news_leave_nothing_behind(scene) -> None:
    """A store, or a stranger on an open broker, that pushes another value into the slot every moment."""
    reader = scene.stranger(Pours([b"\x01" * 677]))
    places = reader.places(ALICE.public)
    search = Search(places, reader.state, reader.clock)
    with growth() as measured:
        async with aclosing(reader.follow(places, lambda *_: None)) as news:
            async for backend, slot, values in news:
                search.judge(backend, slot, values)
                if search.answers["pours"].refused["unsealed"] == 3000:
                    break
    assert max(measured) < ALLOWED


# ---- slow retrieval


async def test_slow_retrieval_does_not_delay_the_others(scene) -> None:
    """A store that trickles for an hour: the reader has the record of the good one and goes."""
    slow, good = Pours([b"\x01" * 300], pause=0.01), shelf()
    newest = await publish(scene.node(ALICE, good), FIRST)
    reader = scene.stranger(slow, good, patience=3600)
    search = await asyncio.wait_for(reader.resolve(ALICE.public, settle=0.1), 20)
    assert search.best.record.issued == newest
    assert not search.answers["pours"].done


async def test_slow_retrieval_alone_ends_with_the_deadline_of_the_whole(scene) -> None:
    """Each answer comes in time, and yet they all together get no more than one deadline."""
    with pytest.raises(StoreError, match=r"no answer within 0\.3 s"):
        await asyncio.wait_for(scene.stranger(Pours([b"\x01" * 300], pause=0.05)).find(ALICE.public), 20)


# ---- indefinite freeze


async def test_freeze_shows_as_expired_after_lifetime_and_skew(scene) -> None:
    frozen, good = liar("replays the first"), shelf()
    alice = scene.node(ALICE, frozen, good)
    issued = await publish(alice, FIRST)
    scene.clock.now = issued + HOUR // 2
    await publish(alice, SECOND)
    scene.clock.now = issued + HOUR + W
    assert list((await scene.stranger(frozen).find(ALICE.public)).record.candidates) == FIRST
    scene.clock.now += 1
    with pytest.raises(NotFound, match=r"\n  replays the first: refused: 1 expired$"):
        require(await scene.stranger(frozen).resolve(ALICE.public), ALICE.public)
    assert list((await scene.stranger(frozen, good).find(ALICE.public)).record.candidates) == SECOND


# ---- mix-and-match


async def test_mix_and_match_of_two_records_is_refused(scene) -> None:
    good = shelf()
    alice = scene.node(ALICE, good)
    await publish(alice, FIRST)
    (older,) = values_of(good)
    scene.clock.now += M
    await publish(alice, SECOND)
    (newer,) = values_of(good)
    halves = [a[:cut] + b[cut:] for cut in range(16, len(older), 15) for a, b in ((older, newer), (newer, older))]
    for some in range(0, len(halves), 16):
        search = await scene.stranger(Serves(*halves[some : some + 16])).resolve(ALICE.public, settle=None)
        assert search.best is None
        assert set(search.answers["serves"].refused) == {"unsealed"}


@pytest.mark.parametrize("turned", [False, True])
async def test_mix_and_match_never_merges_the_endpoints_of_two_records(scene, turned: bool) -> None:
    good = shelf()
    alice = scene.node(ALICE, good)
    await publish(alice, FIRST)
    (older,) = values_of(good)
    scene.clock.now += M
    await publish(alice, SECOND)
    values = [older, *values_of(good)]
    finding = await scene.stranger(Serves(*(values[::-1] if turned else values))).find(ALICE.public)
    assert list(finding.record.candidates) == SECOND


async def test_mix_and_match_of_audiences_is_refused(scene) -> None:
    """What was said to the network, in the slot of the audience `key`, by the store or sealed anew by a member."""
    members, known = Audience.members(SECRET), Audience.key(ALICE.public)
    statement = sign(encode(record(audience=members)), ALICE)
    mixed = Serves(here(members).seal(statement), here(known).seal(statement))
    search = await scene.stranger(mixed).resolve(ALICE.public, settle=None)
    assert search.best is None
    assert search.answers["serves"].refused == {"unsealed": 1, "binding": 1}
