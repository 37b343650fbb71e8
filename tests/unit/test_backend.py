"""What a backend inherits: the text form, slots, and watch, fetch and follow made of get."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgdisco.backend import AT_ONCE, Backend, Slot, from_text, to_text
from wgdisco.testing import Author

SLOTS = [Slot(bytes([number]) * 20, f"slot{number}", b"p" * 32) for number in range(40)]
ONE, TWO = SLOTS[:2]


class Shelf(Backend):
    """A store in memory that polls fast and can be told to fail for some slots."""

    name = "shelf"
    poll = 0.01

    def __init__(self) -> None:
        self.values: dict[str, list[bytes]] = {}
        self.errors: dict[str, BaseException] = {}
        self.asked: Counter[str] = Counter()
        self.under_way = self.most = 0

    async def get(self, slot: Slot) -> list[bytes]:
        self.asked[slot.text] += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0.001)
        finally:
            self.under_way -= 1
        if slot.text in self.errors:
            raise self.errors[slot.text]
        return list(self.values.get(slot.text, []))


class Pushing(Shelf):
    """The same with a watch of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = 0

    async def watch(self, slot: Slot):
        self.watched += 1
        try:
            async for values in super().watch(slot):
                yield values
        finally:
            self.watched -= 1


@given(st.binary(max_size=700))
def test_the_text_form_gives_the_very_bytes_back(blob: bytes) -> None:
    text = to_text(blob)
    assert from_text(text) == blob
    assert text.startswith("wgd1.")
    assert set(text[5:]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(st.text(max_size=60).map("wgd1.".__add__) | st.text())
def test_a_text_is_ours_only_in_its_one_spelling(text: str) -> None:
    blob = from_text(text)
    assert blob is None or to_text(blob) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "wgd2.AAAA",
        "WGD1.AAAA",
        "wgd1.AAAA=",
        "wgd1.AAA=",
        "wgd1.A",
        "wgd1.AA\n",
        " wgd1.AAAA",
        "wgd1.AA AA",
        "wgd1.+/+/",
        "wgd1.AB",  # bits beyond the last byte
        "wgd1.é",
        "wgd1.A\ud800",
    ],
)
def test_foreign_text_is_none_and_no_error(text: str) -> None:
    assert from_text(text) is None


def test_the_largest_blob_has_913_characters() -> None:
    assert len(to_text(bytes(681))) == 913


def test_a_slot_to_read_cannot_sign() -> None:
    with pytest.raises(PermissionError, match=r"^only the subject of a slot can sign for it \(3 bytes, seq 7\)$"):
        ONE.sign(7, b"abc")


def test_slots_are_equal_by_place_whoever_holds_them() -> None:
    author = Author()
    writing, reading = author.slot(), author.reading()
    assert (writing, hash(writing)) == (reading, hash(reading))
    assert writing != author.slot(1)


def test_nothing_of_a_slot_shows_how_it_signs() -> None:
    assert "sign" not in repr(Author().slot())


def test_the_surface_is_what_docs_promise() -> None:
    """Fixed: whatever is added needs a default, whatever is here stays."""
    surface = {name for name in vars(Backend) if not name.startswith("_")}
    assert surface == {
        *("name", "max_size", "keeps", "poll", "slow_writes", "lasting", "cache"),
        *("open", "close", "moved", "put", "get", "remove", "watch", "fetch", "follow"),
    }
    assert str(inspect.signature(Backend.put)).startswith("(self, slot: 'Slot', blob: 'bytes', lifetime: 'int')")


async def test_a_backend_that_does_neither_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"^backend '' cannot store$"):
        await Backend().put(ONE, b"x", 60)
    with pytest.raises(NotImplementedError, match=r"^backend '' cannot look up$"):
        await Backend().get(ONE)
    await Backend().remove(ONE)


async def test_watch_tells_what_is_there_and_then_only_changes() -> None:
    shelf = Shelf()
    async with aclosing(shelf.watch(ONE)) as news:
        assert await anext(news) == []
        shelf.values[ONE.text] = [b"a", b"b"]
        assert await anext(news) == [b"a", b"b"]
        asked = shelf.asked[ONE.text]
        shelf.values[ONE.text] = [b"b", b"a"]  # another order is no change
        change = asyncio.ensure_future(anext(news))
        while shelf.asked[ONE.text] < asked + 3:
            await asyncio.sleep(0.01)
        shelf.values[ONE.text] = [b"c"]
        assert await change == [b"c"]


async def test_fetch_asks_for_every_slot_a_few_at_once() -> None:
    shelf = Shelf()
    shelf.values[TWO.text] = [b"x"]
    found = {slot.text: values async for slot, values in shelf.fetch(SLOTS)}
    assert found == {slot.text: [b"x"] if slot == TWO else [] for slot in SLOTS}
    assert shelf.asked == Counter(slot.text for slot in SLOTS)
    assert shelf.most == AT_ONCE


async def test_fetch_raises_an_error_after_the_slots_that_answered() -> None:
    shelf = Shelf()
    shelf.errors[ONE.text] = OSError("lost")
    found = []
    with pytest.raises(OSError, match=r"^lost$"):
        async for slot, _ in shelf.fetch(SLOTS[:5]):
            found.append(slot.text)
    assert sorted(found) == ["slot1", "slot2", "slot3", "slot4"]


async def test_a_fetch_that_is_given_up_asks_no_more() -> None:
    shelf = Shelf()
    async with aclosing(shelf.fetch(SLOTS)) as answers:
        await anext(answers)
    asked = shelf.asked.total()
    await asyncio.sleep(0.05)
    assert (shelf.asked.total(), shelf.under_way) == (asked, 0)
    assert asked < len(SLOTS)


@pytest.mark.parametrize("make", [Shelf, Pushing])
async def test_follow_tells_every_slot_and_then_changes(make: type[Shelf]) -> None:
    shelf = make()
    shelf.values[TWO.text] = [b"x"]
    async with aclosing(shelf.follow([ONE, TWO])) as news:
        assert {(await anext(news))[0].text for _ in range(2)} == {"slot0", "slot1"}
        for slot, blob in ((ONE, b"1"), (TWO, b"2"), (ONE, b"3")):
            shelf.values[slot.text] = [blob]
            assert await anext(news) == (slot, [blob])


@pytest.mark.parametrize("make", [Shelf, Pushing])
async def test_follow_raises_when_a_slot_fails_so_that_it_is_begun_again(make: type[Shelf]) -> None:
    shelf = make()
    async with aclosing(shelf.follow([ONE, TWO])) as news:
        for _ in range(2):
            await anext(news)
        shelf.errors[TWO.text] = ConnectionResetError("gone")
        with pytest.raises(ConnectionResetError, match=r"^gone$"):
            await anext(news)


async def test_follow_ends_its_watches_with_itself() -> None:
    shelf = Pushing()
    async with aclosing(shelf.follow(SLOTS)) as news:
        await anext(news)
        assert shelf.watched == len(SLOTS)
    assert shelf.watched == 0


async def test_a_watch_that_ends_is_an_error_of_follow() -> None:
    class Ends(Shelf):
        async def watch(self, slot: Slot):
            yield []

    with pytest.raises(ConnectionError, match=r"^the watch of backend 'shelf' ended$"):
        async for _ in Ends().follow([ONE]):
            pass


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("make", [Shelf, Pushing])
async def test_what_would_end_the_event_loop_is_an_ordinary_error(make: type[Shelf], error: BaseException) -> None:
    shelf = make()
    shelf.errors[ONE.text] = error
    with pytest.raises(RuntimeError, match=f"^the plugin raised {type(error).__name__}$"):
        async for _ in shelf.follow([ONE]):
            pass
