"""Publish and resolve over several stores: verify first, then choose; no store hides another."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from ipaddress import ip_address
from math import inf

import pytest

from wgdisco.audience import Audience
from wgdisco.backend import Backend
from wgdisco.discovery import Deposit, follow, publish, require, resolve
from wgdisco.endpoint import Endpoint
from wgdisco.errors import NotFound, RetryLater, StoreError
from wgdisco.freshness import Marks
from wgdisco.keys import PrivateKey
from wgdisco.record import Candidate, Kind, Record, encode, sign
from wgdisco.search import Search, slot_of
from wgdisco.store import Store

NOW = 1_795_233_600_000
W = 300_000  # SPEC section 5
ALICE, MALLORY = PrivateKey(b"a" * 32), PrivateKey(b"m" * 32)
OPEN = Audience.key(ALICE.public)
SECRET = Audience.members(b"s" * 32)
PLACE = OPEN.place(ALICE.public, OPEN.period(ALICE.public, NOW))


class Remembered:
    """Marks in memory."""

    def __init__(self) -> None:
        self.kept: dict = {}

    def marks(self, subject) -> Marks:
        return self.kept.setdefault(subject, Marks())

    def remember(self, subject, marks) -> None:
        self.kept[subject] = marks


def blob(issued: int = NOW, signer: PrivateKey = ALICE, audience: Audience = OPEN, port: int = 51820) -> bytes:
    record = Record(
        subject=ALICE.public,
        network=audience.network,
        issued=issued,
        candidates=(Candidate(Kind.MAPPED, Endpoint(ip_address("192.0.2.1"), port)),),
    )
    place = audience.place(ALICE.public, audience.period(ALICE.public, NOW))
    return place.seal(sign(encode(record), signer))


class Shelf(Backend):
    """A store in memory with a delay, or an error, or nothing to say for ever."""

    def __init__(self, name: str, *values: bytes, delay: float = 0.0, error: Exception | None = None) -> None:
        self.name = name
        self.values, self.delay, self.error = list(values), delay, error
        self.got: list = []

    async def put(self, slot, blob, lifetime) -> None:
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        self.got.append((slot, blob, lifetime))

    async def get(self, slot) -> list[bytes]:
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        return list(self.values)


async def search(*shelves: Backend, deadline: float = 0.3, settle: float | None = None, places=(PLACE,)) -> Search:
    return await resolve([Store(each, deadline) for each in shelves], places, Remembered(), lambda: NOW, settle)


async def test_the_freshest_record_of_all_stores_wins() -> None:
    found = await search(Shelf("old", blob(NOW - 5000)), Shelf("new", blob(NOW)), Shelf("older", blob(NOW - 9000)))
    assert (found.best.record.issued, found.best.backend) == (NOW, "new")


async def test_refusals_and_errors_are_listed_by_store() -> None:
    forged, stale = blob(signer=MALLORY), blob(NOW - 10_000_000)
    found = await search(
        Shelf("liar", forged, b"junk", forged[:-1] + b"x"),
        Shelf("stale", stale),
        Shelf("dead", error=OSError("refused")),
        Shelf("slow", blob(), delay=9),
        Shelf("empty"),
    )
    with pytest.raises(NotFound) as error:
        require(found, ALICE.public)
    assert str(error.value) == (
        f"no valid record of {ALICE.public.short}:\n"
        "  liar: refused: 1 malformed, 1 signature, 1 unsealed\n"
        "  stale: refused: 1 expired\n"
        "  dead: refused\n"
        "  slow: no answer within 0.3 s\n"
        "  empty: nothing there"
    )


async def test_when_no_store_answers_that_is_another_error() -> None:
    found = await search(Shelf("one", error=OSError("refused")), Shelf("two", delay=9))
    with pytest.raises(StoreError, match=r"^no backend answered:\n  one: refused\n  two: no answer within 0\.3 s$"):
        require(found, ALICE.public)


async def test_a_frozen_store_does_not_hold_up_a_finding() -> None:
    start = time.monotonic()
    found = await search(Shelf("frozen", delay=60), Shelf("good", blob()), deadline=30, settle=0.05)
    assert found.best.backend == "good"
    assert not found.answers["frozen"].done
    assert time.monotonic() - start < 10


async def test_of_two_records_of_one_time_the_one_for_fewer_readers_counts() -> None:
    narrow = SECRET.place(ALICE.public, SECRET.period(ALICE.public, NOW))
    values = (blob(), blob(audience=SECRET))
    for order in (values, values[::-1]):
        found = await search(Shelf("both", *order), places=(narrow, PLACE))
        assert found.best.place.network == SECRET.network


async def test_two_records_of_one_time_are_an_alarm_and_the_larger_hash_counts() -> None:
    pair = [blob(port=1), blob(port=2)]
    ports = set()
    for order in (pair, pair[::-1]):
        found = await search(Shelf("one", order[0]), Shelf("two", order[1], delay=0.05))
        ports.add(found.best.record.candidates[0].endpoint.port)
        assert found.best.equivocation or found.answers["two"].refused == {"equivocation": 1}
    assert len(ports) == 1


async def test_the_same_bytes_are_judged_once() -> None:
    memory, calls = Remembered(), []
    memory.remember = lambda *_: calls.append(1)
    same = blob()
    stores = [Store(Shelf(f"s{index}", same)) for index in range(5)]
    found = await resolve(stores, [PLACE], memory, lambda: NOW, None)
    assert [len(answer.accepted) for answer in found.answers.values()] == [1] * 5
    assert len(calls) == 1


def test_what_no_store_holds_any_more_is_forgotten() -> None:
    """An agent follows ten thousand peers for months, and each of them renews its record every 20 minutes."""
    search, slot = Search([PLACE], Remembered(), lambda: NOW + 1000), slot_of(PLACE)
    for number in range(100):
        for name in ("one", "two"):
            search.judge(name, slot, [blob(NOW + number)])
    search.judge("slow", slot, [blob(NOW + 100)])
    kept = blob(NOW + 101)
    for name in ("one", "two", "slow"):
        search.judge(name, slot, [kept])
    assert (list(search._verdicts), len(search.answers["one"].accepted)) == ([(PLACE.id, kept)], 16)


def test_what_one_store_still_holds_is_not_judged_again() -> None:
    memory, judged = Remembered(), []
    memory.remember = lambda *_: judged.append(1)
    search, slot, old = Search([PLACE], memory, lambda: NOW + 1000), slot_of(PLACE), blob()
    search.judge("slow", slot, [old])
    search.judge("quick", slot, [old])
    search.judge("quick", slot, [blob(NOW + 1)])
    search.judge("slow", slot, [old])
    assert (len(judged), search.answers["slow"].accepted, search.answers["slow"].refused) == (2, [NOW], {})


# ---- verdicts that depend on the clock


class Looking(Search):
    """One place, looked at by a clock that is set by hand."""

    def __init__(self, now: int) -> None:
        self.now, self.memory_of = now, Remembered()
        super().__init__([PLACE], self.memory_of, lambda: self.now)

    def told(self, *values: bytes, backend: str = "push") -> str:
        """A store says what it holds; the verdict on the first one, or nothing when it is accepted."""
        self.judge(backend, slot_of(PLACE), values)
        verdict = self._known(PLACE.id, values[0])
        return getattr(verdict, "reason", "")


def test_what_comes_from_the_future_is_judged_again_in_its_time() -> None:
    """The store says it once; and another one that holds it counts it, too."""
    search, early = Looking(NOW - W - 30_000), blob(NOW)
    assert [search.told(early), search.told(early, backend="other")] == ["future", "future"]
    assert search.ripens == NOW - W
    search.now = NOW - W - 1
    assert (search.again(), search.best) == (False, None)
    search.now = NOW - W
    assert search.again()
    assert (search.best.record.issued, search.ripens) == (NOW, inf)
    assert {name: answer.accepted for name, answer in search.answers.items()} == {"push": [NOW], "other": [NOW]}


@pytest.mark.parametrize(("now", "reason"), [(NOW - W - 1, "future"), (NOW + 3_600_000 + W + 1, "expired")])
def test_the_same_bytes_are_accepted_once_the_clock_is_right(now, reason) -> None:
    search, value = Looking(now), blob(NOW)
    assert search.told(value) == reason
    search.now = NOW
    assert search.told(value) == ""
    assert search.best.record.issued == NOW


@pytest.mark.parametrize(("now", "reason"), [(NOW - W - 1, "future"), (NOW + 3_600_000 + W + 1, "expired")])
def test_the_same_bytes_are_refused_once_the_clock_says_so(now, reason) -> None:
    search, value = Looking(NOW), blob(NOW)
    assert search.told(value) == ""
    search.now = now
    assert search.told(value) == reason


def test_a_clock_that_was_ahead_leaves_no_rollback() -> None:
    """What it accepted then is suspended: the verdict on what is true, and the finding itself."""
    search, ahead, true = Looking(NOW + 3_600_000), blob(NOW + 3_600_000), blob(NOW)
    assert search.told(ahead) == ""
    assert search.told(true, backend="other") == "rollback"
    search.now = NOW
    assert search.again()
    assert search.best.record.issued == NOW
    assert not search.again()


def test_what_was_accepted_before_is_found_again_when_the_best_is_suspended() -> None:
    search, ahead, true = Looking(NOW), blob(NOW + W + 1), blob(NOW)
    assert search.told(true) == ""
    search.now = NOW + 3_600_000
    assert search.told(ahead, backend="other") == ""
    search.now = NOW
    assert search.again()
    assert (search.best.record.issued, search.answers["push"].accepted) == (NOW, [NOW])


def test_time_that_passes_costs_no_second_judgement() -> None:
    search, judged, value = Looking(NOW), [], blob()
    search.memory_of.remember = lambda *_: judged.append(1)
    for search.now in range(NOW - W, NOW + 3_600_000, 60_000):
        search.told(value)
        search.again()
    assert len(judged) == 1


async def test_publish_reports_each_store() -> None:
    slot = slot_of(PLACE)
    good, dead = Shelf("good"), Shelf("dead", error=OSError("disk full"))
    deposits = {name: [Deposit(slot, b"1", 60), Deposit(slot, b"2", 60)] for name in ("good", "dead")}
    outcomes = await publish([Store(good), Store(dead)], deposits)
    assert [(each.backend, each.stored, each.asked, str(each.error)) for each in outcomes] == [
        ("good", 2, 2, "None"),
        ("dead", 0, 2, "dead: disk full"),
    ]
    assert [(blob, lifetime) for _, blob, lifetime in good.got] == [(b"1", 60), (b"2", 60)]


async def test_a_store_that_hangs_is_not_waited_for_once_for_each_deposit() -> None:
    start = time.monotonic()
    deposits = {"frozen": [Deposit(slot_of(PLACE), b"x", 60)] * 200}
    (outcome,) = await publish([Store(Shelf("frozen", delay=60), 0.2)], deposits)
    assert (outcome.stored, str(outcome.error)) == (0, "frozen: no answer within 0.2 s")
    assert time.monotonic() - start < 1.5  # one deadline, not one for each batch


async def test_a_publish_leaves_a_store_alone_that_failed_again_and_again() -> None:
    """The first failure forbids nothing, the second does; when the rest is over the store is asked again."""
    shelf = Shelf("down", error=OSError("refused"))
    store, deposits = Store(shelf), {"down": [Deposit(slot_of(PLACE), b"x", 60)]}
    for expected in ("down: refused", "down: refused", "down: refused; left alone for another 2 s"):
        (outcome,) = await publish([store], deposits)
        assert (outcome.stored, outcome.asked, str(outcome.error)) == (0, 1, expected)
        if store.writing.failures == 1:
            store.writing.resume = 0.0  # as if that time had passed
    shelf.error, store.writing.resume = None, 0.0
    (outcome,) = await publish([store], deposits)
    assert (outcome.stored, outcome.error) == (1, None)


async def test_a_publish_leaves_a_store_alone_that_asked_for_it_and_no_other() -> None:
    busy, good = Shelf("busy", error=RetryLater(60, "429")), Shelf("good")
    stores, deposits = [Store(busy), Store(good)], [Deposit(slot_of(PLACE), b"x", 60)]
    for _ in range(2):
        outcomes = await publish(stores, {"busy": deposits, "good": deposits})
    assert [(each.stored, str(each.error)) for each in outcomes] == [
        (0, "busy: 429; left alone for another 60 s"),
        (1, "None"),
    ]
    busy.error = None
    assert (await publish(stores[:1], {"busy": deposits}))[0].stored == 0
    assert busy.got == []


async def test_a_resolve_leaves_a_store_alone_that_asked_for_it_and_says_so() -> None:
    busy, good = Shelf("busy", error=RetryLater(60, "429")), Shelf("good", blob())
    stores = [Store(busy), Store(good)]
    await resolve(stores, [PLACE], Remembered(), lambda: NOW, None)
    busy.error, busy.values = None, [blob(NOW + 1)]
    found = await resolve(stores, [PLACE], Remembered(), lambda: NOW, None)
    assert (found.best.backend, str(found.answers["busy"])) == ("good", "busy: 429; left alone for another 60 s")
    with pytest.raises(StoreError, match=r"^no backend answered:\n  busy: 429; left alone for another 60 s$"):
        require(await resolve(stores[:1], [PLACE], Remembered(), lambda: NOW, None), ALICE.public)


async def test_what_takes_no_more_writes_is_read() -> None:
    shelf = Shelf("full", blob(), error=RetryLater(60, "no more today"))
    store = Store(shelf)
    await publish([store], {"full": [Deposit(slot_of(PLACE), b"x", 60)]})
    shelf.error = None
    assert (await resolve([store], [PLACE], Remembered(), lambda: NOW, None)).best.backend == "full"


async def test_follow_reports_failures_and_goes_on_with_the_others() -> None:
    failures, seen = [], []

    class Pushes(Shelf):
        async def watch(self, slot):
            await asyncio.sleep(0.05)
            for value in (b"1", b"2"):
                yield [value]
            await asyncio.sleep(60)

    stores = [Store(Shelf("dead", error=OSError("gone"))), Store(Pushes("good"))]
    async for backend, _, values in follow(stores, [slot_of(PLACE)], lambda *failure: failures.append(failure)):
        seen.append((backend, values))
        if len(seen) == 2:
            break
    assert seen == [("good", [b"1"]), ("good", [b"2"])]
    assert [(name, str(error)) for name, error in failures] == [("dead", "dead: gone")]


async def test_a_store_that_speaks_without_end_is_heard_at_a_pace() -> None:
    """What it may have to say at first comes at once; then a hundred changes a second."""

    class Endless(Backend):
        name = "endless"

        async def follow(self, slots):
            number = 0
            while True:
                number += 1
                yield slots[0], [b"%d" % number]
                await asyncio.sleep(0)

    heard, start = 0, time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            async for _ in follow([Store(Endless())], [slot_of(PLACE)], lambda *_: None):
                heard += 1
    assert 100 < heard <= 1 + 100 + 100 * (time.monotonic() - start) + 2
