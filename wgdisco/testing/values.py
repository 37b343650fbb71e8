"""The contract on values: what comes back is what was put, in its own slot, whole."""

from __future__ import annotations

import asyncio

import pytest

from wgdisco.backend import Backend
from wgdisco.testing.base import LIFETIME, Contract, Pulse, checked, removes
from wgdisco.testing.slots import Author

__all__ = ["Values"]

LARGEST = 681  # bytes of the largest blob there is (SPEC section 4)
NASTY = {
    "every byte": bytes(range(256)),
    "zeros at both ends": b"\0\0middle\0\0",
    "blanks at both ends": b" \t\r\n text \r\n\t ",
    "one byte": b"x",
    "text that is no text": b"\xff\xfe\xfd caf\xc3 \xf0\x28",
    "looks like a text form": b"wgd1.AAAA",
    "quotes and braces": b"\"'{}[]<>&%00\\n${HOME}`id`;--",
}


class Values(Contract):
    """Bytes, sizes, slots, removal, many at once."""

    @pytest.mark.parametrize("name", NASTY)
    def test_returns_the_very_bytes(self, name: str) -> None:
        """What is put comes back byte for byte, whatever the bytes are."""
        author, blob = Author(), NASTY[name]

        async def work(backend: Backend) -> None:
            await backend.put(author.slot(), blob, LIFETIME)
            assert await self.until(backend, author.reading(), bool) == [blob]

        self.run(work)

    def test_keeps_the_largest_value(self) -> None:
        """A value of `max_size` bytes is stored whole."""
        author, blob = Author(), bytes(index * 7 % 256 for index in range(min(LARGEST, self.backend().max_size)))

        async def work(backend: Backend) -> None:
            await backend.put(author.slot(), blob, LIFETIME)
            assert await self.until(backend, author.reading(), bool) == [blob]

        self.run(work)

    def test_refuses_what_is_too_large_instead_of_cutting_it(self) -> None:
        """A value over `max_size` raises, or is stored whole; it is never stored in part."""
        size = self.backend().max_size
        if size >= LARGEST:
            pytest.skip("there is no larger value than this store takes")
        author, blob = Author(), b"x" * (size + 1)

        async def work(backend: Backend) -> None:
            try:
                await backend.put(author.slot(), blob, LIFETIME)
            except Exception:  # noqa: BLE001 - any error will do
                assert checked(await backend.get(author.reading())) == []
            else:
                assert await self.until(backend, author.reading(), bool) == [blob]

        self.run(work)

    def test_an_empty_slot_is_an_empty_list(self) -> None:
        """Nothing there is no error and no value."""

        async def work(backend: Backend) -> None:
            assert checked(await backend.get(Author().reading())) == []

        self.run(work)

    def test_a_second_put_replaces_or_joins_the_first(self) -> None:
        """After a second put the new value is there, alone or beside the old one."""
        author = Author()

        async def work(backend: Backend) -> None:
            await backend.put(author.slot(), b"first", LIFETIME)
            await backend.put(author.slot(), b"second", LIFETIME)
            values = await self.until(backend, author.reading(), lambda values: b"second" in values)
            assert b"second" in values
            assert set(values) <= {b"first", b"second"}

        self.run(work)

    def test_the_same_value_can_be_put_again(self) -> None:
        """A refresh re-puts identical bytes under the same number, and nothing changes."""
        author = Author()
        slot = author.slot()

        async def work(backend: Backend) -> None:
            for _ in range(3):
                await backend.put(slot, b"same", LIFETIME)
            assert set(await self.until(backend, author.reading(), bool)) == {b"same"}

        self.run(work)

    def test_slots_do_not_mix(self) -> None:
        """Each slot has its own value, also those of one author and those that differ little."""
        author, other = Author(), Author()

        async def work(backend: Backend) -> None:
            for number in range(3):
                await backend.put(author.slot(number), b"mine %d" % number, LIFETIME)
            await backend.put(other.slot(0), b"theirs", LIFETIME)
            for number in range(3):
                assert await self.until(backend, author.reading(number), bool) == [b"mine %d" % number]
            assert await self.until(backend, other.reading(0), bool) == [b"theirs"]

        self.run(work)

    def test_remove_forgets_this_slot_alone(self) -> None:
        """After `remove` a slot is empty, unless the store leaves that to expiry; others are untouched."""
        author = Author()

        async def work(backend: Backend) -> None:
            await backend.put(author.slot(0), b"gone", LIFETIME)
            await backend.put(author.slot(1), b"stays", LIFETIME)
            assert await self.until(backend, author.reading(0), bool) == [b"gone"]
            await backend.remove(author.slot(0))
            if removes(backend):
                assert await self.until(backend, author.reading(0), lambda values: not values) == []
            assert await self.until(backend, author.reading(1), bool) == [b"stays"]

        self.run(work)

    def test_remove_of_an_empty_slot_is_no_error(self) -> None:
        """Removing what is not there does nothing."""

        async def work(backend: Backend) -> None:
            await backend.remove(Author().slot())

        self.run(work)

    def test_another_instance_sees_what_was_stored(self) -> None:
        """The store remembers, not the instance; the writer may be gone when the reader comes."""
        author = Author()

        async def write(backend: Backend) -> None:
            await backend.put(author.slot(), b"kept", LIFETIME)

        async def read(backend: Backend) -> None:
            assert await self.until(backend, author.reading(), bool) == [b"kept"]

        self.run(write)
        self.run(read)

    def test_an_instance_sees_what_another_one_changed(self) -> None:
        """Nothing is cached past a change."""
        author = Author()

        async def work(backend: Backend) -> None:
            await backend.put(author.slot(), b"old", LIFETIME)
            assert await self.until(backend, author.reading(), bool) == [b"old"]
            async with self.opened() as other:
                await other.put(author.slot(), b"new", LIFETIME)
            assert b"new" in await self.until(backend, author.reading(), lambda values: b"new" in values)

        self.run(work)

    def test_fetch_gives_every_slot_once(self) -> None:
        """`fetch` answers for all slots, the empty ones included, and ends."""
        author = Author()

        async def work(backend: Backend) -> None:
            for number in range(0, 20, 2):
                await backend.put(author.slot(number), b"%d" % number, LIFETIME)
                await self.until(backend, author.reading(number), bool)
            slots = [author.reading(number) for number in range(20)]
            found = [(slot.id, checked(values)) async for slot, values in backend.fetch(slots)]
            assert len(found) == len(slots)
            wanted = [[b"%d" % number] if number % 2 == 0 else [] for number in range(20)]
            assert dict(found) == {slot.id: values for slot, values in zip(slots, wanted, strict=True)}

        self.run(work)

    def test_ten_at_once(self) -> None:
        """Ten puts and then ten gets under way at one time do not disturb each other."""
        author = Author()

        async def work(backend: Backend) -> None:
            await asyncio.gather(*(backend.put(author.slot(n), b"%d" % n, LIFETIME) for n in range(10)))
            found = await asyncio.gather(*(self.until(backend, author.reading(n), bool) for n in range(10)))
            assert found == [[b"%d" % n] for n in range(10)]

        self.run(work)

    def test_leaves_the_event_loop_free(self) -> None:
        """While the store is asked everything else goes on: nothing blocks for a quarter of a second."""
        author = Author()

        async def work(backend: Backend) -> None:
            with Pulse():
                for number in range(5):
                    await backend.put(author.slot(number), b"x", LIFETIME)
                    await backend.get(author.reading(number))

        self.run(work)
