"""The contract is tested by breaking a backend in every way we know: a kit that passes a broken backend is broken."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest

from wgdisco.backend import Backend, Slot
from wgdisco.backends.memory import Memory
from wgdisco.testing import BackendContract


class DropsZeros(Memory):
    async def put(self, slot, blob, lifetime):
        await super().put(slot, blob.replace(b"\0", b""), lifetime)


class StripsBlanks(Memory):
    async def put(self, slot, blob, lifetime):
        await super().put(slot, blob.strip(b" \t\r\n"), lifetime)


class SpeaksText(Memory):
    async def put(self, slot, blob, lifetime):
        await super().put(slot, blob.decode("utf-8", "replace").encode(), lifetime)


class Truncates(Memory):
    async def put(self, slot, blob, lifetime):
        await super().put(slot, blob[:512], lifetime)


class CutsSilently(Memory):
    max_size = 400

    async def put(self, slot, blob, lifetime):
        await super().put(slot, blob[:400], lifetime)


class FirstPutWins(Memory):
    async def put(self, slot, blob, lifetime):
        if not await self.get(slot):
            await super().put(slot, blob, lifetime)


class MixesSlots(Memory):
    async def put(self, slot, blob, lifetime):
        await super().put(one_of_sixteen(slot), blob, lifetime)

    async def get(self, slot):
        return await super().get(one_of_sixteen(slot))

    async def watch(self, slot):
        async for values in super().watch(one_of_sixteen(slot)):
            yield values


def one_of_sixteen(slot: Slot) -> Slot:
    return Slot(bytes([slot.id[0] % 2]) * 20, "x", b"")


class EmptyIsAnEmptyValue(Memory):
    async def get(self, slot):
        return await super().get(slot) or [b""]


class EmptyIsAnError(Memory):
    async def get(self, slot):
        values = await super().get(slot)
        if not values:
            raise KeyError(slot.text)
        return values


class ReturnsText(Memory):
    async def get(self, slot):
        return [value.decode("latin-1") for value in await super().get(slot)]


class ReturnsOneValue(Memory):
    async def get(self, slot):
        return (await super().get(slot) or [None])[0]


class RemovesEverything(Memory):
    async def remove(self, slot):
        self._room.values.clear()


class RemovesNothing(Memory):
    async def remove(self, slot):
        pass


class RemoveOfNothingRaises(Memory):
    async def remove(self, slot):
        del self._room.values[slot.id]


class RemembersItself(Memory):
    """Keeps everything in the instance."""

    def __init__(self, room):
        super().__init__(room=uuid4().hex)


class CachesForEver(Memory):
    def __init__(self, room):
        super().__init__(room)
        self.cached = {}

    async def get(self, slot):
        values = await super().get(slot)
        return self.cached.setdefault(slot.id, values) if values else []


class RefusesTheSameAgain(Memory):
    async def put(self, slot, blob, lifetime):
        if [blob] == await self.get(slot):
            raise FileExistsError(slot.text)
        await super().put(slot, blob, lifetime)


class WatchStartsSilent(Memory):
    async def watch(self, slot):
        first = True
        async for values in super().watch(slot):
            if not first:
                yield values
            first = False


class WatchEnds(Memory):
    async def watch(self, slot):
        yield await self.get(slot)


class WatchMissesTheSecondChange(Memory):
    async def watch(self, slot):
        count = 0
        async for values in super().watch(slot):
            count += 1
            if count < 3:
                yield values


class FollowSeesTheFirstSlot(Memory):
    async def follow(self, slots):
        async for change in super().follow(slots[:1]):
            yield change


class FetchForgetsEmptySlots(Memory):
    async def fetch(self, slots):
        async for slot, values in super().fetch(slots):
            if values:
                yield slot, values


class FetchStopsAfterTen(Memory):
    async def fetch(self, slots):
        async for answer in super().fetch(slots[:10]):
            yield answer


class BlocksTheLoop(Memory):
    async def get(self, slot):
        time.sleep(0.5)  # noqa: ASYNC251 - that is the point
        return await super().get(slot)


class LosesWhatComesAtOnce(Memory):
    busy = False

    async def put(self, slot, blob, lifetime):
        if self.busy:
            return
        self.busy = True
        await asyncio.sleep(0.001)
        await super().put(slot, blob, lifetime)
        self.busy = False


class WatchMissesRemoval(Memory):
    async def watch(self, slot):
        async for values in super().watch(slot):
            if values:
                yield values


class CannotCloseUnopened(Memory):
    async def open(self):
        self.client = object()

    async def close(self):
        del self.client


class MovesAway(Memory):
    lost = False

    async def moved(self):
        self.lost = True

    async def put(self, slot, blob, lifetime):
        if self.lost:
            raise ConnectionError("not connected")
        await super().put(slot, blob, lifetime)


class Frozen:
    """A control that makes the backends of one test hang or fail."""

    def __init__(self) -> None:
        self.state = "well"

    def freeze(self) -> None:
        self.state = "frozen"

    def thaw(self) -> None:
        self.state = "well"

    def kill(self) -> None:
        self.state = "dead"

    restart = thaw


class Served(Memory):
    """A memory backend with a server that can be frozen and killed; its watch notices that."""

    control: Frozen

    async def put(self, slot, blob, lifetime):
        await self.reached()
        await super().put(slot, blob, lifetime)

    async def get(self, slot):
        await self.reached()
        return await super().get(slot)

    async def reached(self) -> None:
        while self.control.state == "frozen":
            await asyncio.sleep(0.01)
        if self.control.state == "dead":
            raise ConnectionError("refused")

    watch = Backend.watch  # polls, and so raises when the server is dead


class HidesOutages(Served):
    async def get(self, slot):
        try:
            return await super().get(slot)
        except ConnectionError:
            return []


class NeverRecovers(Served):
    broken = False

    async def reached(self) -> None:
        self.broken = self.broken or self.control.state == "dead"
        if self.broken:
            raise ConnectionError("the connection was lost")
        await super().reached()


class OpensOnce(Served):
    tried = False

    async def open(self):
        if self.tried:
            raise RuntimeError("it was open before")
        self.tried = True
        await self.reached()


class BlocksWhenFrozen(Served):
    async def put(self, slot, blob, lifetime):
        if self.control.state == "frozen":
            time.sleep(1)  # noqa: ASYNC251 - that is the point
        await super().put(slot, blob, lifetime)


class WatchDiesSilently(Served):
    async def watch(self, slot):
        yield await self.get(slot)
        while self.control.state == "well":
            values = await self.get(slot)
            yield values
            await asyncio.sleep(0.05)
        await asyncio.sleep(3600)


BROKEN = {
    DropsZeros: "test_returns_the_very_bytes",
    StripsBlanks: "test_returns_the_very_bytes",
    SpeaksText: "test_returns_the_very_bytes",
    Truncates: "test_keeps_the_largest_value",
    CutsSilently: "test_refuses_what_is_too_large_instead_of_cutting_it",
    FirstPutWins: "test_a_second_put_replaces_or_joins_the_first",
    MixesSlots: "test_slots_do_not_mix",
    EmptyIsAnEmptyValue: "test_an_empty_slot_is_an_empty_list",
    EmptyIsAnError: "test_an_empty_slot_is_an_empty_list",
    ReturnsText: "test_returns_the_very_bytes",
    ReturnsOneValue: "test_an_empty_slot_is_an_empty_list",
    RemovesEverything: "test_remove_forgets_this_slot_alone",
    RemovesNothing: "test_remove_forgets_this_slot_alone",
    RemoveOfNothingRaises: "test_remove_of_an_empty_slot_is_no_error",
    RemembersItself: "test_another_instance_sees_what_was_stored",
    CachesForEver: "test_an_instance_sees_what_another_one_changed",
    RefusesTheSameAgain: "test_the_same_value_can_be_put_again",
    WatchStartsSilent: "test_watch_starts_with_what_is_there",
    WatchEnds: "test_watch_reports_changes",
    WatchMissesTheSecondChange: "test_watch_reports_changes",
    FollowSeesTheFirstSlot: "test_follow_reports_changes_of_every_slot",
    FetchForgetsEmptySlots: "test_fetch_gives_every_slot_once",
    FetchStopsAfterTen: "test_fetch_gives_every_slot_once",
    BlocksTheLoop: "test_leaves_the_event_loop_free",
    LosesWhatComesAtOnce: "test_ten_at_once",
    WatchMissesRemoval: "test_watch_reports_a_removal",
    CannotCloseUnopened: "test_close_without_open",
    MovesAway: "test_goes_on_after_the_host_has_moved",
    OpensOnce: "test_opens_again_when_the_server_is_back",
    HidesOutages: "test_a_killed_server_is_an_error_and_works_when_it_is_back",
    NeverRecovers: "test_a_killed_server_is_an_error_and_works_when_it_is_back",
    BlocksWhenFrozen: "test_a_frozen_server_holds_up_nothing",
    WatchDiesSilently: "test_news_come_again_after_the_server_was_killed",
}


def kit(backend: type[Memory]) -> BackendContract:
    """The contract over a backend of a room of its own, with short patience."""

    class Kit(BackendContract):
        deadline = 0.4
        impatience = 0.3

        def __init__(self) -> None:
            self.control = Frozen() if issubclass(backend, Served) else None
            self.room = uuid4().hex

        def backend(self) -> Memory:
            made = backend(room=self.room)
            if self.control is not None:
                made.control = self.control
            return made

    return Kit()


def outcomes(backend: type[Memory], names: list[str]) -> dict[str, bool]:
    """Whether each test of the contract passes."""
    passed = {}
    for name in names:
        test = getattr(BackendContract, name)
        marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
        results = []
        for values in [(value,) for value in marks[0].args[1]] if marks else [()]:
            try:
                getattr(kit(backend), name)(*values)
            except pytest.skip.Exception:
                continue
            except (Exception, pytest.fail.Exception):  # noqa: BLE001 - an assertion, a timeout, or the backend's own
                results.append(False)
            else:
                results.append(True)
        passed[name] = all(results)
    return passed


TESTS = sorted(name for name in dir(BackendContract) if name.startswith("test_"))


@pytest.mark.parametrize("backend", BROKEN, ids=lambda backend: backend.__name__)
def test_the_contract_catches_a_broken_backend(backend: type[Memory]) -> None:
    name = BROKEN[backend]
    assert outcomes(backend, [name]) == {name: False}


@pytest.mark.parametrize("backend", [Memory, Served], ids=lambda backend: backend.__name__)
def test_the_contract_passes_a_sound_backend(backend: type[Memory]) -> None:
    assert outcomes(backend, TESTS) == dict.fromkeys(TESTS, True)


def test_every_test_of_the_contract_catches_something() -> None:
    assert set(TESTS) - set(BROKEN.values()) == set()
