"""What the benches of the stores share: the figures that every one of them gives, one line of JSON each.

Put, get, get of nothing, a fetch of many slots, and put to watch are the backend's own times; the time to an error is
taken at the boundary that the core asks through (wgdisco/store.py), whose deadline is the longest there is.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TypeVar

from tests.backends.common import LATER, opening
from tests.support import Server
from wgdisco.backend import Backend
from wgdisco.errors import StoreError
from wgdisco.store import Store
from wgdisco.testing import Author

__all__ = ["asked", "blob", "errors", "figures", "importing", "in_folder", "measure", "pushes", "report", "timed"]

BODY = bytes(range(256)) * 2 + bytes(41)  # 553 bytes: a record of the commonest size
TRIES = 3  # at a server that does not answer
Make = Callable[[], Backend]
S = TypeVar("S", bound=Server)


def asked(default: int = 200) -> int:
    """How many calls of a kind: the first word of the command line."""
    return int(sys.argv[1]) if len(sys.argv) > 1 else default


def blob(number: int) -> bytes:
    """A record of its own for each number: some stores do not write the same one again."""
    return number.to_bytes(4) + BODY[4:]


def report(name: str, times: list[float]) -> None:
    """Print median and 95th percentile of so many milliseconds."""
    ordered = sorted(times)
    p95 = ordered[int(0.95 * len(ordered))]
    figures = {"median_ms": round(statistics.median(ordered), 2), "p95_ms": round(p95, 2), "n": len(ordered)}
    print(json.dumps({"bench": name, **figures}), flush=True)


async def timed(count: int, work: Callable[[int], Awaitable[object]]) -> list[float]:
    """Milliseconds of each call."""
    times = []
    for number in range(count):
        start = time.perf_counter()
        await work(number)
        times.append(1000 * (time.perf_counter() - start))
    return times


async def pushes(writer: Backend, reader: Backend, count: int) -> list[float]:
    """Milliseconds from the beginning of a put to its arrival at a follower on another connection."""
    author, times = Author(), []
    async with aclosing(reader.follow([author.reading()])) as changes:
        await anext(changes)
        for number in range(count):
            slot = author.slot()
            start = time.perf_counter()
            putting = asyncio.ensure_future(writer.put(slot, blob(number), LATER))
            while blob(number) not in (await anext(changes))[1]:
                pass
            times.append(1000 * (time.perf_counter() - start))
            await putting
    return times


async def figures(name: str, make: Make, count: int, *, slots: int = 20, poll: float | None = None) -> None:
    """What a store in good health takes, for a writer and a reader; `poll` seconds for one that cannot push."""
    author = Author()
    written = [author.slot(number % slots) for number in range(count)]
    reading, nothing = ([author.reading(number) for number in range(start, start + slots)] for start in (0, slots))
    async with opening(make()) as writer, opening(make()) as reader:
        await writer.put(author.slot(2 * slots), BODY, LATER)  # whatever the first use does is not counted
        await reader.get(author.reading(2 * slots))

        async def everything(_: int) -> None:
            assert len([each async for each in reader.fetch(reading)]) == slots

        report(f"{name}: put", await timed(count, lambda each: writer.put(written[each], blob(each), LATER)))
        report(f"{name}: get", await timed(count, lambda each: reader.get(reading[each % slots])))
        report(f"{name}: get of nothing", await timed(count, lambda each: reader.get(nothing[each % slots])))
        report(f"{name}: fetch of {slots} slots", await timed(count // 10 or 1, everything))
        if poll is not None:
            reader.poll = poll  # type: ignore[misc] # an option of the instance
        how = "push" if poll is None else f"watch, polling every {poll:g} s"
        report(f"{name}: put to {how}", await pushes(writer, reader, count if poll is None else min(count, 20)))


async def errors(name: str, make: Make, server: Server) -> None:
    """How long a store that worked takes to fail for the first time when its server is down, and when it is frozen."""
    troubles = (("down", server.kill, server.start), ("frozen", server.freeze, server.thaw))
    for when, begin, end in troubles:
        for what, work in (("error", read), ("error of a put", write)):
            times = []
            for _ in range(TRIES):
                store, author = Store(make()), Author()
                await write(store, author)
                await read(store, author)
                begin()
                times += await timed(1, lambda _, store=store, author=author, work=work: fails(work(store, author)))
                end()
                await store.close()
            report(f"{name}: {what} when {when}", times)


async def read(store: Store, author: Author) -> None:
    async for _ in store.fetch([author.reading()]):
        pass


async def write(store: Store, author: Author) -> None:
    await store.put(author.slot(), BODY, LATER)


async def fails(work: Awaitable[None]) -> None:
    """Wait for a failure; AssertionError when there is none."""
    try:
        await work
    except StoreError:
        return
    raise AssertionError("it should have failed")


def measure(name: str, make: Make, server: Server, count: int, *, slots: int = 20, poll: float | None = None) -> None:
    """All figures of a store; its server is killed, started, frozen and thawed."""

    async def both() -> None:
        await figures(name, make, count, slots=slots, poll=poll)
        await errors(name, make, server)

    asyncio.run(both())


def importing(name: str, modules: str, count: int = 5) -> None:
    """What a new process pays for a backend and its library beyond the core."""
    code = f"import wgdisco.discovery, asyncio, time; s = time.perf_counter(); import {modules}; print(time.perf_counter() - s)"
    command = [sys.executable, "-c", code]
    done = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(count)]
    report(f"{name}: import", [1000 * float(each) for each in done])


@contextmanager
def in_folder(kind: Callable[[Path], S]) -> Iterator[S]:
    """A running server in a folder of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, kind(Path(folder)) as server:
        yield server
