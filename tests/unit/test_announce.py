"""When a node publishes, when it does not, and what becomes of its record where stores fail or forget."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import ClassVar
from uuid import uuid4

import pytest

from tests.attacks.scene import PATIENCE, Scene
from tests.attacks.virtual import virtually
from tests.unit.records import ALICE, BOB, candidate
from wgdisco.announce import (
    AT_REST,
    FIRST_LOOK,
    OUTAGE,
    REPAIR,
    RETRY,
    SOON,
    Announcer,
    hints_of,
)
from wgdisco.audience import Scope
from wgdisco.backends.memory import Memory
from wgdisco.errors import StoreError, UsageError
from wgdisco.record import LIFETIME, Kind
from wgdisco.search import slot_of
from wgdisco.sources import Behaviour, Found, Nat, Where
from wgdisco.steady import MAPPING_LIVES, remembered

FREE, ADDRESS, PORT, UNKNOWN = (
    Behaviour.ENDPOINT_INDEPENDENT,
    Behaviour.ADDRESS_DEPENDENT,
    Behaviour.ADDRESS_AND_PORT_DEPENDENT,
    Behaviour.UNKNOWN,
)
HOME, CAFE = "203.0.113.1:51820", "198.51.100.2:51820"
LAN = "192.168.1.5:51820"
DAY = 86_400_000


def found(*texts: str, kind: Kind = Kind.SERVER_REFLEXIVE) -> list[Found]:
    return [Found(candidate(text).endpoint, kind, "test") for text in texts]


# ---- the NAT


@pytest.mark.parametrize(
    ("nat", "mapped", "hints"),
    [
        (Nat(), [], {}),
        (Nat(), [HOME], {}),
        (Nat(PORT), [], {"nat": [str(PORT), "unknown"]}),
        (Nat(FREE, PORT), [], {"nat": [str(FREE), str(PORT)]}),
        (Nat(PORT, PORT), [HOME], {"nat": [str(FREE), str(FREE)]}),
        (Nat(PORT, PORT), ["[2001:db8::1]:51820"], {"nat": [str(PORT), str(PORT)]}),
    ],
    ids=["unknown", "unknown, forwarded", "mapping alone", "both", "forwarded", "forwarded in IPv6"],
)
def test_a_record_says_what_is_known_of_the_nat(nat, mapped, hints) -> None:
    assert hints_of(Where(found(*mapped, kind=Kind.MAPPED), nat)) == hints


@pytest.mark.parametrize(
    ("now", "before", "known"),
    [
        (Nat(FREE, UNKNOWN, True), Nat(FREE, PORT, True), Nat(FREE, PORT, True)),
        (Nat(ADDRESS, UNKNOWN, True), Nat(PORT, PORT, True), Nat(PORT, PORT, True)),
        (Nat(PORT, UNKNOWN, True), Nat(ADDRESS, PORT, True), Nat(PORT, UNKNOWN, True)),
        (Nat(FREE, UNKNOWN, True), Nat(PORT, PORT, True), Nat(FREE, UNKNOWN, True)),
        (Nat(FREE, FREE, True), Nat(FREE, PORT, True), Nat(FREE, FREE, True)),
        (Nat(FREE, UNKNOWN, False), Nat(FREE, PORT, True), Nat(FREE, PORT, False)),
    ],
    ids=["as before", "at least that", "worse", "another one", "measured anew", "moved"],
)
def test_a_quick_look_does_not_forget_what_was_measured_while_it_agrees(now, before, known) -> None:
    assert remembered(now, before) == known


# ---- publishing


class Moody(Memory):
    """A store that fails, hangs or is slow when told to; `puts` and `gets` count what was tried."""

    name: ClassVar[str] = "moody"

    def __init__(self, trouble: str = "") -> None:
        super().__init__(room=uuid4().hex)
        self.trouble, self.puts, self.gets = trouble, 0, 0

    async def put(self, slot, blob, lifetime) -> None:
        self.puts += 1
        if self.trouble == "hangs":
            await asyncio.sleep(10_000)
        if self.trouble == "is slow":
            await asyncio.sleep(PATIENCE / 2)
        if self.trouble == "fails":
            raise ConnectionError("it is down")
        await super().put(slot, blob, lifetime)

    async def get(self, slot) -> list[bytes]:
        self.gets += 1
        if self.trouble == "fails":
            raise ConnectionError("it is down")
        return await super().get(slot)

    @property
    def holds(self) -> dict[bytes, bytes]:
        """Slot -> blob."""
        return {slot: blob for slot, (blob, _) in self._room.values.items()}


class Honest(Moody):
    name: ClassVar[str] = "honest"


class Announced:
    """Alice, who announces herself to Bob; `where` is what her sources say, `asked` how thoroughly they were asked."""

    def __init__(self, folder, *backends, peers=(BOB.public,), **options) -> None:
        self.scene, self.backends = Scene(folder), backends or (Moody(),)
        self.node = self.scene.node(ALICE, *self.backends)
        for store in self.node.stores:
            store.reading.clock = store.writing.clock = lambda: 1.0 + time.monotonic()
        self.where, self.asked, self.said = Where(found(HOME), Nat(FREE, PORT, True)), [], []
        scope = options.pop("scope", Scope.PEERS)
        audiences = self.node.readers(scope, list(peers)) if peers else []
        self.announcer = Announcer(self.node, self.gather, audiences, self.said.append, **options)

    async def gather(self, thorough: bool) -> Where:
        self.asked.append((thorough, time.monotonic()))
        return Where(list(self.where.found), self.where.nat, list(self.where.problems))

    def move(self, *texts: str) -> None:
        self.where.found = found(*texts)

    async def read(self) -> None:
        """Read from the first store, as somebody who looks for Bob does."""
        slots = [slot_of(place) for place in self.node.places(BOB.public)]
        async for _ in self.node.stores[0].fetch(slots):
            pass

    @property
    def looks(self) -> list[float]:
        """When the sources were asked, in seconds since the first time."""
        return [when - self.asked[0][1] for _, when in self.asked]

    @asynccontextmanager
    async def working(self, *works):
        """Run these until the block ends, then take it all down."""
        tasks = [asyncio.ensure_future(work()) for work in works]
        try:
            async with asyncio.timeout(100_000):
                yield self.announcer
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks) if tasks else None
            await self.scene.close()
        for task in tasks:
            if not task.cancelled():
                task.result()

    def running(self):
        return self.working(self.announcer.run)


def test_the_first_look_is_published_and_told(tmp_path) -> None:
    async def work() -> tuple:
        alice = Announced(tmp_path)
        assert (alice.announcer.issued, alice.announcer.candidates) == (0, [])
        async with alice.working() as announcer:
            publication = await announcer.once()
            assert announcer.publication is publication
            assert announcer.issued == publication.issued == alice.scene.clock.now
            return publication.stored, announcer.candidates, announcer.told.is_set(), alice.said

    stored, candidates, told, said = virtually(work())
    assert (stored, candidates, told) == (["moody"], [candidate(HOME)], True)
    assert said == [f"published to moody: {candidate(HOME).endpoint.short}"]


def test_the_same_again_is_nothing_to_publish_in_whichever_order(tmp_path) -> None:
    async def work() -> tuple:
        alice = Announced(tmp_path)
        async with alice.working() as announcer:
            for texts in ([HOME, CAFE], [HOME, CAFE], [CAFE, HOME]):
                alice.move(*texts)
                await announcer.once()
            return announcer.publishes, announcer.candidates

    assert virtually(work()) == (1, [candidate(HOME), candidate(CAFE)])


def test_a_quick_look_that_sees_less_of_the_nat_is_nothing_to_publish(tmp_path) -> None:
    async def work() -> int:
        alice = Announced(tmp_path)
        async with alice.working() as announcer:
            for nat in (Nat(PORT, PORT, True), Nat(ADDRESS, UNKNOWN, True)):
                alice.where.nat = nat
                await announcer.once()
            return announcer.publishes

    assert virtually(work()) == 1


@pytest.mark.parametrize("what", ["candidates", "nat"])
def test_something_else_is_published(tmp_path, what) -> None:
    async def work() -> int:
        alice = Announced(tmp_path)
        async with alice.working() as announcer:
            await announcer.once()
            if what == "candidates":
                alice.move(CAFE)
            else:
                alice.where.nat = Nat(PORT, PORT, True)
            await announcer.once()
            return announcer.publishes

    assert virtually(work()) == 2


def test_other_candidates_are_told_and_neither_the_first_ones_nor_another_verdict(tmp_path) -> None:
    async def work() -> list[int]:
        alice, changed, counts = Announced(tmp_path), [], []
        async with alice.working() as announcer:
            announcer.changed = lambda: changed.append(1)
            for texts, nat in (([HOME], FREE), ([HOME], PORT), ([CAFE], PORT)):
                alice.move(*texts)
                alice.where.nat = Nat(nat, PORT, True)
                await announcer.once()
                counts.append(len(changed))
        return counts

    assert virtually(work()) == [0, 0, 1]


@pytest.mark.parametrize(("age", "publishes"), [(LIFETIME * 1000 // 3 - 1, 1), (LIFETIME * 1000 // 3, 2)])
def test_a_record_is_due_after_a_third_of_its_lifetime(tmp_path, age, publishes) -> None:
    async def work() -> int:
        alice = Announced(tmp_path)
        async with alice.working() as announcer:
            await announcer.once()
            alice.scene.clock.now += age
            await announcer.once()
            return announcer.publishes

    assert virtually(work()) == publishes


def test_what_could_not_be_signed_is_still_to_be_published(tmp_path) -> None:
    """As with a clock that was wrong for a moment: the new addresses must not wait for the old record to be due."""

    async def work() -> list:
        alice = Announced(tmp_path)
        async with alice.working() as announcer:
            await announcer.once()
            right, alice.scene.clock.now = alice.scene.clock.now, 0
            alice.move(CAFE)
            with pytest.raises(UsageError, match="set the clock"):
                await announcer.once()
            alice.scene.clock.now = right + 5000
            return list((await announcer.once()).candidates)

    assert virtually(work()) == [candidate(CAFE)]


def test_what_was_given_up_on_the_way_is_still_to_be_published(tmp_path) -> None:
    async def work() -> list:
        alice = Announced(tmp_path)
        async with alice.working() as announcer:
            await announcer.once()
            alice.backends[0].trouble = "hangs"
            alice.move(CAFE)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(announcer.once(), PATIENCE / 2)
            alice.backends[0].trouble = ""
            return list((await announcer.once()).candidates)

    assert virtually(work()) == [candidate(CAFE)]


@pytest.mark.parametrize("there", [HOME, CAFE], ids=["back again", "the same new place"])
def test_a_move_while_stores_are_waited_for_has_it_look_again_and_publish(tmp_path, there) -> None:
    async def work() -> list:
        alice = Announced(tmp_path)
        async with alice.working() as announcer:
            await announcer.once()
            alice.backends[0].trouble = "hangs"
            alice.move(CAFE)
            publishing = asyncio.ensure_future(announcer.once())
            await asyncio.sleep(PATIENCE / 2)
            alice.backends[0].trouble = ""
            alice.move(there)
            announcer.moved()
            publication = await publishing
            assert publication.stored
            return list(publication.candidates)

    assert virtually(work()) == [candidate(there)]


def test_a_problem_is_said_once(tmp_path) -> None:
    async def work() -> list[str]:
        alice = Announced(tmp_path)
        alice.where.problems = ["stun: no answer"]
        async with alice.working() as announcer:
            for text in (HOME, CAFE):
                alice.move(text)
                await announcer.once()
        return alice.said

    assert virtually(work()).count("stun: no answer") == 1


@pytest.mark.parametrize(
    ("scope", "expose", "published"),
    [(Scope.PEERS, False, 2), (Scope.KEY, False, 1), (Scope.KEY, True, 2)],
    ids=["peers", "whoever has the key", "exposed"],
)
def test_whoever_knows_our_key_alone_does_not_learn_our_home_network(tmp_path, scope, expose, published) -> None:
    async def work() -> int:
        alice = Announced(tmp_path, scope=scope, expose_hosts=expose)
        alice.where.found = [*found(HOME), *found(LAN, kind=Kind.HOST)]
        async with alice.working() as announcer:
            return len((await announcer.once()).candidates)

    assert virtually(work()) == published


@pytest.mark.parametrize("checks", [False, True])
def test_a_record_says_whether_we_answer_checks(tmp_path, checks) -> None:
    async def work() -> bool:
        alice = Announced(tmp_path, checks=checks)
        bob = alice.scene.node(BOB, alice.backends[0])
        async with alice.working() as announcer:
            await announcer.once()
            return (await bob.find(ALICE.public)).record.hints.get("checks", False)

    assert virtually(work()) is checks


# ---- stores that fail


def test_a_store_that_hangs_holds_nobody_up(tmp_path) -> None:
    """The first one that has it is enough."""

    async def work() -> tuple:
        alice = Announced(tmp_path, Moody("hangs"), Honest())
        async with alice.working() as announcer:
            start = time.monotonic()
            publication = await announcer.once()
            return time.monotonic() - start, publication.stored

    assert virtually(work()) == (0.0, ["honest"])


def test_what_no_store_took_is_told_counted_and_tried_again(tmp_path) -> None:
    async def work() -> list:
        alice = Announced(tmp_path, Moody("fails"))
        async with alice.running() as announcer:
            await announcer.told.wait()
            counted = announcer.publication.stored, announcer.failures
            alice.backends[0].trouble = ""
            await asyncio.sleep(2 * RETRY + 2)
            return [*counted, announcer.publication.stored]

    assert virtually(work()) == [[], 1, ["moody"]]


def test_an_outage_is_said_once_and_paced(tmp_path) -> None:
    async def work() -> tuple:
        alice = Announced(tmp_path, Moody("fails"))
        async with alice.running() as announcer:
            await asyncio.sleep(60)
            tried = announcer.publishes
            alice.backends[0].trouble = ""
            await asyncio.sleep(300)
        return alice.said, tried

    said, tried = virtually(work())
    assert said == [
        "not published: moody: it is down (trying again)",
        f"published to moody: {candidate(HOME).endpoint.short}",
    ]
    assert 60 / RETRY - 2 <= tried <= 60 / RETRY + 4


def test_after_an_outage_of_hours_it_publishes_within_seconds(tmp_path) -> None:
    async def work() -> list[list[str]]:
        alice = Announced(tmp_path, Moody("fails"))
        async with alice.running() as announcer:
            await asyncio.sleep(4 * 3600)
            stored = [announcer.publication.stored]
            alice.backends[0].trouble = ""
            alice.node.stores[0].wake()
            await asyncio.sleep(RETRY + SOON)
            return [*stored, announcer.publication.stored]

    assert virtually(work()) == [[], ["moody"]]


def test_another_outage_is_said_again(tmp_path) -> None:
    async def work() -> list[str]:
        alice = Announced(tmp_path)
        async with alice.working() as announcer:
            for trouble, text in (("fails", HOME), ("", HOME), ("fails", CAFE)):
                alice.backends[0].trouble = trouble
                alice.move(text)
                await announcer.once()
        return [each.partition(":")[0] for each in alice.said]

    assert virtually(work()) == ["not published", "published to moody", "not published"]


def test_what_no_store_took_leaves_no_task_behind(tmp_path) -> None:
    async def work() -> set:
        alice = Announced(tmp_path, Moody("fails"))
        async with alice.working() as announcer:
            before = asyncio.all_tasks()
            await announcer.once()
            await asyncio.sleep(2)
            return asyncio.all_tasks() - before

    assert virtually(work()) == set()


def test_the_next_publish_ends_what_a_slow_store_has_not_taken(tmp_path) -> None:
    """Or an older record could come after a newer one."""

    async def work() -> tuple:
        alice = Announced(tmp_path, Moody("hangs"), Honest())
        async with alice.working() as announcer:
            await announcer.once()
            alice.backends[0].trouble = ""
            alice.move(CAFE)
            await announcer.once()
            await asyncio.sleep(2 * PATIENCE)
            return alice.backends[0].puts, list(announcer.publication.candidates), alice.said

    puts, candidates, said = virtually(work())
    assert (puts, candidates) == (2, [candidate(CAFE)])
    assert f"published to moody: {candidate(HOME).endpoint.short}" not in said


# ---- when it looks


def test_the_nat_is_measured_once_after_the_first_publish(tmp_path) -> None:
    async def work() -> list[bool]:
        alice = Announced(tmp_path)
        async with alice.running():
            await asyncio.sleep(100)
        return [thorough for thorough, _ in alice.asked]

    assert virtually(work())[:4] == [False, True, False, False]


@pytest.mark.parametrize(
    ("translated", "pause"), [(True, MAPPING_LIVES), (None, MAPPING_LIVES), (False, AT_REST)], ids=repr
)
def test_it_looks_as_often_as_a_mapping_needs(tmp_path, translated, pause) -> None:
    async def work() -> list[float]:
        alice = Announced(tmp_path)
        alice.where.nat = Nat(FREE, PORT, translated)
        if translated is False:
            alice.where.found += found(HOME, kind=Kind.HOST)
        async with alice.running():
            await asyncio.sleep(2.5 * pause)
        return alice.looks

    assert virtually(work()) == pytest.approx([0, 0, pause, 2 * pause])


def test_a_short_lifetime_is_looked_after_in_time(tmp_path) -> None:
    async def work() -> list[float]:
        alice = Announced(tmp_path)
        alice.where.nat, alice.node.lifetime = Nat(FREE, FREE, False), 600
        alice.where.found += found(HOME, kind=Kind.HOST)
        async with alice.running():
            await asyncio.sleep(250)
        return alice.looks

    assert virtually(work()) == pytest.approx([0, 0, 100, 200])


def test_who_hurries_it_has_it_look_at_once(tmp_path) -> None:
    async def work() -> float:
        alice = Announced(tmp_path)
        async with alice.running() as announcer:
            await asyncio.sleep(5)
            announcer.hurry()
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        return alice.looks[-1]

    assert virtually(work()) == pytest.approx(5, abs=0.01)


def test_however_often_something_changes_it_looks_once_a_second(tmp_path) -> None:
    async def work() -> list[float]:
        alice = Announced(tmp_path)
        async with alice.running() as announcer:
            await asyncio.sleep(5)
            for _ in range(1000):
                announcer.hurry()
                await asyncio.sleep(0.01)
        return [when for when in alice.looks if when > 4]

    looks = virtually(work())
    assert 10 / SOON - 1 <= len(looks) <= 10 / SOON + 2


def test_what_changes_right_after_a_look_is_not_forgotten(tmp_path) -> None:
    async def work() -> list:
        alice = Announced(tmp_path)
        async with alice.running() as announcer:
            await asyncio.sleep(5)
            announcer.hurry()
            await asyncio.sleep(0.1)
            alice.move(CAFE)
            announcer.hurry()
            await asyncio.sleep(SOON)
            return announcer.candidates

    assert virtually(work()) == [candidate(CAFE)]


@pytest.mark.parametrize(("seen", "waited"), [(0.2, 0.2), (60.0, FIRST_LOOK)], ids=["seen", "not seen"])
def test_the_first_publish_waits_for_a_look_at_the_other_side(tmp_path, seen, waited) -> None:
    async def work() -> list[float]:
        alice, times = Announced(tmp_path), []
        async with alice.working() as announcer:
            announcer.looked = asyncio.Event()
            asyncio.get_running_loop().call_later(seen, announcer.looked.set)
            for text in (HOME, CAFE):
                start = time.monotonic()
                alice.move(text)
                await announcer.once()
                times.append(time.monotonic() - start)
        return times

    assert virtually(work()) == pytest.approx([waited, 0.0])


def test_without_readers_nothing_is_published_and_the_others_need_not_wait(tmp_path) -> None:
    async def work() -> tuple:
        alice = Announced(tmp_path, peers=())
        async with alice.running() as announcer:
            await asyncio.wait_for(announcer.told.wait(), 1)
            await asyncio.sleep(600)
            return announcer.publishes, alice.asked, alice.said

    assert virtually(work()) == (0, [], ["there is no peer that could read a record, so none is published"])


def test_cancelled_it_puts_nothing_more(tmp_path) -> None:
    async def work() -> tuple:
        alice = Announced(tmp_path, Moody("hangs"), Honest())
        async with alice.running() as announcer:
            await announcer.told.wait()
        await asyncio.sleep(10)
        return alice.said, asyncio.all_tasks() - {asyncio.current_task()}

    said, tasks = virtually(work())
    assert said == [f"published to honest: {candidate(HOME).endpoint.short}"]
    assert tasks == set()


def test_a_good_bye_replaces_the_record_by_one_without_endpoints(tmp_path) -> None:
    async def work() -> tuple:
        alice = Announced(tmp_path)
        bob = alice.scene.node(BOB, alice.backends[0])
        async with alice.working() as announcer:
            await announcer.once()
            said = await announcer.leave()
            left = (await bob.find(ALICE.public)).record
            return said.stored, left.candidates, left.issued == said.issued, announcer.candidates

    assert virtually(work()) == (["moody"], (), True, [])


def test_nothing_comes_after_the_good_bye(tmp_path) -> None:
    """A slow store may still be taking the record before it."""

    async def work() -> tuple:
        alice = Announced(tmp_path, Moody("is slow"), Honest())
        bob = alice.scene.node(BOB, alice.backends[0])
        async with alice.working() as announcer:
            await announcer.once()
            alice.backends[0].trouble = ""
            await announcer.leave()
            await asyncio.sleep(2 * PATIENCE)
            return (await bob.find(ALICE.public)).record.candidates

    assert virtually(work()) == ()


# ---- maintaining


class Maintained(Announced):
    """Announced, and looked after."""

    def running(self):
        return self.working(self.announcer.run, self.announcer.maintain)


def test_what_a_store_has_lost_is_put_there_again(tmp_path) -> None:
    async def work() -> tuple:
        alice = Maintained(tmp_path)
        [store] = alice.backends
        async with alice.running():
            await asyncio.sleep(REPAIR / 2)
            held = store.holds
            store._room.values.clear()
            await asyncio.sleep(REPAIR / 2 - 10)
            early = store.holds
            await asyncio.sleep(20)
            return early, store.holds == held, alice.said[1:]

    assert virtually(work()) == ({}, True, ["moody lacked our record; it was put there again"])


def test_what_a_store_could_not_take_it_gets_when_it_is_back(tmp_path) -> None:
    """Long before the next look at what the stores have; after that it is asked no more."""

    async def work() -> tuple[bool, int]:
        alice = Maintained(tmp_path, Moody("fails"), Honest())
        moody, honest = alice.backends
        async with alice.running():
            await asyncio.sleep(3)
            moody.trouble = ""
            await asyncio.sleep(4 * RETRY)
            there, before = bool(moody.holds) and moody.holds == honest.holds, moody.gets
            await asyncio.sleep(10 * RETRY)
            return there, moody.gets - before

    assert virtually(work()) == (True, 0)


def test_a_store_that_was_down_meanwhile_is_looked_at_sooner(tmp_path) -> None:
    """Once: it may have lost its memory."""

    async def work() -> list[bool]:
        alice = Maintained(tmp_path)
        [store] = alice.backends
        async with alice.running():
            await asyncio.sleep(REPAIR - 2 * OUTAGE)
            store.trouble = "fails"
            with pytest.raises(StoreError, match="it is down"):
                await alice.read()
            store.trouble = ""
            there = []
            for seconds in (OUTAGE / 2, 2 * OUTAGE):
                store._room.values.clear()
                await asyncio.sleep(seconds)
                there.append(bool(store.holds))
            return there

    assert virtually(work()) == [True, False]


def test_another_host_with_our_key_is_said_once(tmp_path) -> None:
    async def work() -> tuple:
        alice = Maintained(tmp_path)
        other = alice.scene.node(ALICE, alice.backends[0], state="other")
        async with alice.running():
            await asyncio.sleep(5)
            alice.scene.clock.now += 1000
            await other.publish([candidate(CAFE)], other.readers(Scope.PEERS, [BOB.public]))
            theirs = alice.backends[0].holds
            await asyncio.sleep(2 * REPAIR + 10)
            return alice.backends[0].holds == theirs, [each for each in alice.said if "another host" in each]

    kept, said = virtually(work())
    assert kept
    assert len(said) == 1


def test_slots_of_past_days_are_removed_with_the_next_publish(tmp_path) -> None:
    async def work() -> tuple:
        alice = Maintained(tmp_path)
        [store] = alice.backends
        async with alice.running() as announcer:
            await asyncio.sleep(RETRY)
            old = set(store.holds)
            alice.scene.clock.now += 3 * DAY
            store._room.values |= {slot: (b"x", time.monotonic() + 1e9) for slot in old}
            announcer.hurry()
            await asyncio.sleep(2 * RETRY)
            return bool(store.holds), old & set(store.holds)

    assert virtually(work()) == (True, set())


def test_nothing_is_removed_before_something_was_published(tmp_path) -> None:
    """What is there of old is better than nothing."""

    async def work() -> set:
        alice = Maintained(tmp_path)
        await alice.node.publish([candidate(HOME)], alice.announcer.audiences)
        old = set(alice.backends[0].holds)
        alice.scene.clock.now += 3 * DAY
        async with alice.working(alice.announcer.maintain):
            await asyncio.sleep(60)
            return old - alice.backends[0]._room.values.keys()

    assert virtually(work()) == set()


@pytest.mark.parametrize("turns", range(5))
def test_a_cancellation_that_comes_with_news_ends_it(tmp_path, turns: int) -> None:
    """At whichever turn of the loop, or the agent would wait for ever for the end of it."""

    async def work() -> bool:
        alice = Announced(tmp_path)
        async with alice.working() as announcer:
            running = asyncio.ensure_future(announcer.run())
            await asyncio.sleep(50)
            announcer.hurry()
            for _ in range(turns):
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait({running}, timeout=10)
            ended = running.cancelled()
            running.cancel()
            return ended

    assert virtually(work())
