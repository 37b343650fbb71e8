"""A supervised task is started again whatever it raises, and ends when it is cancelled, whatever it raises then."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from wgdisco.errors import StoreError
from wgdisco.supervise import described, supervised, unheard


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("wgdisco.supervise.FIRST_PAUSE", 0.0)


@asynccontextmanager
async def under_way(work, say=None):
    """The task, and what it said; it ends with the block."""
    said: list[str] = []
    task = asyncio.ensure_future(supervised("work", work, say or said.append))
    try:
        async with asyncio.timeout(10):
            yield task, said
    finally:
        for _ in range(5):  # one that does not end is cancelled more than once
            task.cancel()
            await asyncio.sleep(0.01)


class Fails:
    """Raises the first time, and then goes on until cancelled."""

    def __init__(self, error: BaseException | None) -> None:
        self.error, self.runs, self.again = error, 0, asyncio.Event()

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs == 1:
            if self.error is not None:
                raise self.error
            return
        self.again.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "error",
    [OSError(5, "broken"), SystemExit(1), GeneratorExit(), MemoryError(), asyncio.CancelledError(), None],
    ids=lambda error: type(error).__name__,
)
async def test_it_is_started_again_whatever_ended_it(error):
    work = Fails(error)
    async with under_way(work) as (task, _):
        await work.again.wait()
        assert not task.done()


@pytest.mark.parametrize("error", [OSError(19, "gone"), SystemExit(1), RuntimeError("bug")], ids=repr)
async def test_cancelled_it_ends_even_when_its_clean_up_fails(error):
    """As that of a peer whose interface has gone: who waits for its end would wait for ever."""

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            raise error

    async with under_way(work) as (task, _):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


async def test_cancelled_it_ends_even_when_its_work_returns():
    async def work():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    async with under_way(work) as (task, _):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ValueError("I/O operation on closed file")])
async def test_it_goes_on_when_nobody_can_hear_what_it_says(error):
    def deaf(_):
        raise error

    work = Fails(OSError(5, "broken"))
    async with under_way(work, unheard(deaf)):
        await work.again.wait()


async def test_what_it_raised_is_said_with_its_name():
    work = Fails(StoreError("etcd: it hung up"))
    async with under_way(work) as (_, said):
        await work.again.wait()
        assert said == ["work: etcd: it hung up; starting it again in 0 s"]


def test_a_bug_is_described_with_its_place():
    try:
        list[int]()[1]
    except IndexError as error:
        text = described(error)
    assert text.startswith("IndexError: list index out of range at ")
    assert __file__ in text
