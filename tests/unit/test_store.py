"""The boundary around one backend, against backends that misbehave in every way we know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from wgdisco.backend import Backend, Slot
from wgdisco.errors import MissingExtra, RetryLater, StoreError
from wgdisco.health import Health
from wgdisco.store import Store, bounded

SLOT = Slot(b"i" * 20, "slot", b"p" * 32)


class Bad(Backend):
    """Does in every call what it is told."""

    name = "bad"

    def __init__(self, act) -> None:
        self.act = act
        self.opened = self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.closed += 1

    async def put(self, slot, blob, lifetime) -> None:
        await self.act()

    async def get(self, slot) -> list[bytes]:
        return await self.act()


async def fetched(store: Store) -> list[tuple[Slot, list[bytes]]]:
    return [answer async for answer in store.fetch([SLOT])]


def raising(error: BaseException):
    async def act():
        raise error

    return act


async def hang():
    await asyncio.sleep(3600)


async def stubborn():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(3600)  # the first cancellation is swallowed


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(111, "Connection refused"), "bad: [Errno 111] Connection refused"),
        (ValueError(), "bad: ValueError"),
        (SystemExit(3), "bad: the plugin raised SystemExit"),
        (KeyError("x"), "bad: 'x'"),
        (StoreError("bad: already named"), "bad: already named"),
    ],
)
async def test_whatever_a_plugin_raises_is_a_store_error_with_its_name(error: BaseException, text: str) -> None:
    store = Store(Bad(raising(error)))
    with pytest.raises(StoreError) as put:
        await store.put(SLOT, b"x", 60)
    with pytest.raises(StoreError) as got:
        await fetched(store)
    assert [str(put.value), str(got.value)] == [text, text]


async def test_a_missing_library_names_the_extra() -> None:
    backend = Bad(raising(ModuleNotFoundError("No module named 'httpx2'", name="httpx2")))
    backend.name = "etcd"
    store = Store(backend)
    with pytest.raises(MissingExtra, match=r"^etcd: needs httpx2; install it with: pip install 'wgdisco\[etcd\]'$"):
        await store.put(SLOT, b"x", 60)


@pytest.mark.parametrize("act", [hang, stubborn])
async def test_a_call_that_never_returns_is_left_behind(act) -> None:
    store = Store(Bad(act), deadline=0.05)
    with pytest.raises(StoreError, match=r"^bad: no answer within 0.05 s$"):
        await store.put(SLOT, b"x", 60)
    with pytest.raises(StoreError, match=r"^bad: no answer within 0.05 s$"):
        await fetched(store)
    start = time.monotonic()
    await store.close()
    assert time.monotonic() - start < 5


async def test_failures_back_off_and_success_forgives() -> None:
    outcomes = [OSError("1"), OSError("2"), RetryLater(900), None]

    async def act():
        error = outcomes.pop(0)
        if error:
            raise error

    store = Store(Bad(act))
    rests = []
    for _ in range(3):
        with pytest.raises(StoreError):
            await store.put(SLOT, b"x", 60)
        rests.append(round(store.rests))
        store.writing.resume = 0.0  # as if that time had passed
    await store.put(SLOT, b"x", 60)
    assert rests == [1, 2, 900]
    assert store.rests == 0


async def test_many_failures_at_once_are_one_trouble() -> None:
    store = Store(Bad(raising(OSError("down"))))
    await asyncio.gather(*(store.put(SLOT, b"x", 60) for _ in range(30)), return_exceptions=True)
    assert (store.writing.failures, round(store.rests)) == (1, 1)


async def test_what_takes_no_writes_may_still_be_read() -> None:
    async def fine() -> list[bytes]:
        return []

    backend = Bad(raising(RetryLater(900)))
    store = Store(backend)
    with pytest.raises(StoreError):
        await store.put(SLOT, b"x", 60)
    backend.act = fine
    await fetched(store)
    assert (store.reading.seconds, round(store.writing.seconds), round(store.rests)) == (0, 900, 900)
    assert store.health.error == "bad: the store asks to come back in 900 s"


async def test_waking_ends_every_rest() -> None:
    store = Store(Bad(raising(OSError("no network"))))
    await asyncio.gather(store.put(SLOT, b"x", 60), fetched(store), return_exceptions=True)
    before = store.rests
    store.wake()
    assert (round(before), store.rests, store.health.error) == (1, 0, "bad: no network")


async def test_health_is_empty_before_anything_was_asked() -> None:
    assert Store(Bad(hang)).health == Health(answered=0.0, failed=0.0, error="", rests_until=0.0)


async def test_health_tells_of_success_and_of_failure() -> None:
    """The times by the clock of the wall; the error as long as the last thing asked failed."""

    async def fine() -> list[bytes]:
        return []

    backend, start = Bad(fine), time.time()
    store = Store(backend)
    await fetched(store)
    first = store.health
    backend.act = raising(OSError("down"))
    with pytest.raises(StoreError):
        await fetched(store)
    second = store.health
    backend.act = fine
    await fetched(store)
    third, end = store.health, time.time()
    assert (first.failed, first.error, first.rests_until) == (0.0, "", 0.0)
    assert (second.answered, second.error) == (first.answered, "bad: down")
    assert (third.failed, third.error, third.rests_until) == (second.failed, "", 0.0)
    assert start <= first.answered <= second.failed <= third.answered <= end
    assert second.failed + 0.9 < second.rests_until <= end + 1


async def test_opened_once_and_again_after_a_failed_opening() -> None:
    async def fine() -> None:
        return None

    backend = Bad(fine)
    real, fails = backend.open, [OSError("down"), None]

    async def open_() -> None:
        await real()
        if (error := fails.pop(0)) is not None:
            raise error

    backend.open = open_
    store = Store(backend)
    with pytest.raises(StoreError, match=r"^bad: down$"):
        await store.put(SLOT, b"x", 60)
    await asyncio.gather(*(store.put(SLOT, b"x", 60) for _ in range(5)))
    await store.close()
    assert (backend.opened, backend.closed) == (2, 2)


async def test_slots_that_answered_arrive_before_the_error() -> None:
    other = Slot(b"o" * 20, "other", b"q" * 32)

    class Half(Backend):
        name = "half"

        async def get(self, slot: Slot) -> list[bytes]:
            if slot == other:
                raise OSError("lost")
            return [b"value"]

    answers = []
    with pytest.raises(StoreError, match=r"^half: lost$"):
        async for answer in Store(Half()).fetch([other, SLOT]):
            answers.append(answer)
    assert answers == [(SLOT, [b"value"])]


async def test_sys_exit_in_a_default_fetch_does_not_end_the_loop() -> None:
    store = Store(Bad(raising(SystemExit(1))))
    with pytest.raises(StoreError):
        await fetched(store)
    await asyncio.sleep(0)


async def test_a_watch_that_ends_is_an_error_so_that_it_is_begun_again() -> None:
    class Ends(Backend):
        name = "ends"

        async def follow(self, slots) -> AsyncIterator[tuple[Slot, list[bytes]]]:
            yield SLOT, [b"x"]

    seen = []
    with pytest.raises(StoreError, match=r"^ends: the watch ended$"):
        async for answer in Store(Ends()).follow([SLOT]):
            seen.append(answer)
    assert seen == [(SLOT, [b"x"])]


def test_a_flooded_slot_is_cut_to_sixteen_values_chosen_at_random() -> None:
    values = [bytes([high, low]) for high in range(40) for low in range(250)]
    chosen = [frozenset(bounded(values)) for _ in range(3)]
    assert [len(each) for each in chosen] == [16, 16, 16]
    assert len(set(chosen)) > 1


def test_repeated_and_foreign_values_do_not_count_and_giants_are_cut() -> None:
    assert sorted(bounded([b"a"] * 100 + [b"b", None, "text", bytearray(b"c")])) == [b"a", b"b", b"c"]
    assert [len(value) for value in bounded([b"x" * 10**7])] == [682]


async def test_a_plugin_that_cancels_itself_has_failed_and_cancels_nobody_else() -> None:
    store = Store(Bad(raising(asyncio.CancelledError())))
    with pytest.raises(StoreError, match=r"^bad: the plugin gave up its own call$"):
        await store.put(SLOT, b"x", 60)
    with pytest.raises(StoreError, match=r"^bad: the plugin gave up its own call$"):
        await fetched(store)
    with pytest.raises(StoreError, match=r"^bad: the plugin gave up its own call$"):
        async for _ in store.follow([SLOT]):
            pass
