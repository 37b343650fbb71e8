"""pastebin: put, get and a fetch of 20 slots on each service; the time to an error; the cost of the import."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.backends.httpservers import slot
from tests.backends.pastebinservers import Bepasty, Fake, gist, pastebin_com
from tests.support import Server
from wgdisco.backends.pastebin import Pastebin
from wgdisco.errors import StoreError
from wgdisco.store import Store

RUNS = 40


async def median(what: str, work: Callable[[int], Awaitable[object]], runs: int = RUNS) -> None:
    took = []
    for number in range(runs):
        start = time.perf_counter()
        await work(number)
        took.append(time.perf_counter() - start)
    print(f"{what:36} {statistics.median(took) * 1000:8.2f} ms")


async def failing(what: str, backend: Pastebin) -> None:
    start = time.perf_counter()
    store = Store(backend)
    try:
        await store.put(slot("a"), b"x", 600)
    except StoreError as error:
        print(f"{what:36} {(time.perf_counter() - start) * 1000:8.0f} ms  {error}")
    await store.close()


async def measure(what: str, server: Server, make: Callable[[], Pastebin]) -> None:
    backend = make()
    await backend.open()

    async def fetch(_: int) -> None:
        async for _ in backend.fetch([slot(number) for number in range(20)]):
            pass

    # a record of its own each time: the same one would not be written again
    await median(f"{what}: put", lambda number: backend.put(slot(number % 10), b"%d" % number + bytes(600), 600))
    await median(f"{what}: get", lambda number: backend.get(slot(number % 10)))
    await median(f"{what}: fetch 20 slots", fetch)
    await backend.close()
    server.freeze()
    await failing(f"{what}: error when frozen", make())
    server.thaw()
    server.kill()
    await failing(f"{what}: error when down", make())


def main() -> None:
    """Print medians."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import wgdisco.backend"], check=True)
    middle = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import wgdisco.backends.pastebin, requests"], check=True)
    print(f"{'import, beyond wgdisco.backend':36} {(time.perf_counter() - 2 * middle + start) * 1000:8.0f} ms")
    services = (("pastebin.com", Fake, lambda s: pastebin_com(s.url)), ("gist", Fake, lambda s: gist(s.url)),
                ("bepasty", Bepasty, lambda s: s.backend()))  # fmt: skip
    for what, kind, make in services:
        with tempfile.TemporaryDirectory() as folder, kind(Path(folder)) as server:
            asyncio.run(measure(what, server, lambda make=make, server=server: make(server)))


if __name__ == "__main__":
    main()
