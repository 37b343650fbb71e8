"""http: put, get, conditional get and put-to-watch on nginx; the time to an error; the cost of the import."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from tests.backends.httpservers import Nginx, slot
from wgdisco.backends.http import Http
from wgdisco.errors import StoreError
from wgdisco.store import Store

RUNS = 100


async def median(what: str, work: Callable[[int], Awaitable[object]], runs: int = RUNS) -> None:
    took = []
    for number in range(runs):
        start = time.perf_counter()
        await work(number)
        took.append(time.perf_counter() - start)
    print(f"{what:32} {statistics.median(took) * 1000:8.2f} ms")


async def failing(what: str, url: str) -> None:
    start = time.perf_counter()
    store = Store(Http(url=url))
    try:
        await store.put(slot("a"), b"x", 600)
    except StoreError as error:
        print(f"{what:32} {(time.perf_counter() - start) * 1000:8.0f} ms  {error}")
    await store.close()


async def pushed(url: str, backend: Http, poll: float, runs: int) -> None:
    reader = Http(url=url)
    reader.poll = poll  # type: ignore[misc] # an option of the instance
    await reader.open()
    async with aclosing(reader.watch(slot("w"))) as answers:
        await anext(answers)

        async def once(number: int) -> None:
            await asyncio.sleep(0.013)
            await backend.put(slot("w"), b"%d" % number, 600)
            await anext(answers)

        await median(f"put to watch, poll = {poll} s", once, runs)
    await reader.close()


async def measure(server: Nginx) -> None:
    url, blob = f"{server.url}/open/{{slot}}", bytes(681)
    backend = Http(url=url)
    await backend.open()
    await median("put", lambda number: backend.put(slot(number % 20), blob, 600))
    await median("get, of this moment", lambda number: backend.get(slot(number % 20)))
    await asyncio.sleep(2.5)
    for number in range(20):
        await backend.get(slot(number))
    await median("get, unchanged (304)", lambda number: backend.get(slot(number % 20)))
    await pushed(url, backend, 0.1, 20)
    await backend.close()
    server.freeze()
    await failing("error when frozen", url)
    server.thaw()
    server.kill()
    await failing("error when down", url)


def main() -> None:
    """Print medians."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import wgdisco.backend"], check=True)
    middle = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import wgdisco.backends.http, httpx2"], check=True)
    print(f"{'import, beyond wgdisco.backend':32} {(time.perf_counter() - 2 * middle + start) * 1000:8.0f} ms")
    with tempfile.TemporaryDirectory() as folder, Nginx(Path(folder)) as server:
        asyncio.run(measure(server))


if __name__ == "__main__":
    main()
