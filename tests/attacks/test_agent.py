"""Attacks on the agent itself: plugins that would end it, peers that would have it flood, users it must not overrule."""

from __future__ import annotations

import asyncio
import sys

import pytest

from wgdisco.backend import Backend, Slot
from wgdisco.errors import StoreError
from wgdisco.sources import gather
from wgdisco.store import Store

SLOT = Slot(b"s" * 20, "s" * 32, b"p" * 32)


# ---- plugins


class Blunt(Backend):
    """A plugin whose calls are no coroutines, and end the process that makes them."""

    name = "blunt"

    def __init__(self, call: str) -> None:
        async def nothing(*_) -> None:
            return None

        for name in ("open", "put", "remove", "close"):
            setattr(self, name, self.end if name == call else nothing)
        if call in ("fetch", "follow"):
            setattr(self, call, self.end)

    def end(self, *_):
        sys.exit(3)


@pytest.mark.parametrize("call", ["open", "put", "remove", "close", "fetch", "follow"])
async def test_a_plugin_that_exits_in_a_plain_call_ends_nothing(call) -> None:
    store = Store(Blunt(call))
    works = [store.put(SLOT, b"x", 60), store.remove(SLOT), drained(store.fetch([SLOT])), drained(store.follow([SLOT]))]
    errors = [str(each) for each in await asyncio.gather(*works, return_exceptions=True) if each is not None]
    await store.close()
    if call != "close":
        assert "blunt: the plugin raised SystemExit" in errors


@pytest.mark.parametrize("answer", [7, (SLOT,), (SLOT, None), (SLOT, 7)], ids=repr)
async def test_what_is_no_answer_is_the_stores_error(answer) -> None:
    """Raised elsewhere it would be a bug of ours, and hide what the other stores said."""

    class Odd(Backend):
        name = "odd"

        async def fetch(self, slots):
            yield answer

    with pytest.raises(StoreError, match=r"^odd: "):
        await drained(Store(Odd()).fetch([SLOT]))


async def drained(answers) -> None:
    async for _ in answers:
        pass


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()], ids=repr)
async def test_a_source_that_exits_ends_nothing_and_hides_no_other(error) -> None:
    class Exits:
        name = "exits"

        async def find(self, deadline):
            raise error

    class Plain(Exits):
        def find(self, deadline):
            raise error

    where = await gather([Exits(), Plain()])
    assert len(where.problems) == 2
    assert all(each.startswith("exits: ") for each in where.problems)
