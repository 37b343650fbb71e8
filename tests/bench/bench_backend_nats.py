"""NATS JetStream on loopback: put, get, put to push, a fetch of 100 slots, the error when it is down.

`python -m tests.bench.bench_backend_nats [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path

from tests.backends.etcdserver import slot
from tests.backends.test_nats import LATER, NatsServer, opened

BLOB = bytes(range(256)) * 2 + bytes(41)  # 553 bytes: a record of the commonest size


async def report(name: str, work: Callable[[int], Awaitable[object]], count: int) -> None:
    times = []
    for number in range(count):
        start = time.perf_counter()
        await work(number)
        times.append(1000 * (time.perf_counter() - start))
    print(json.dumps({"bench": f"nats {name}", "median_ms": round(statistics.median(times), 2), "n": count}))


async def main(server: NatsServer, count: int) -> None:
    async with opened(server) as writer, opened(server, bucket=writer.bucket) as reader:
        await report("put", lambda number: writer.put(slot(number % 100), BLOB, LATER), count)
        await report("get", lambda number: reader.get(slot(number % 100)), count)

        async def everything(_: int) -> None:
            assert len([each async for each in reader.fetch([slot(number) for number in range(100)])]) == 100

        await report("fetch of 100 slots", everything, count // 10 or 1)
        async with aclosing(reader.follow([slot("pushed")])) as changes:
            await anext(changes)

            async def push(number: int) -> None:
                await writer.put(slot("pushed"), b"%d" % number, LATER)
                await anext(changes)

            await report("put to push", push, count)
        server.kill()

        async def fail(_: int) -> None:
            with suppress(OSError):
                await reader.get(slot(0))

        await report("error when down", fail, 20)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as path, NatsServer(Path(path)) as running:
        asyncio.run(main(running, int(sys.argv[1]) if len(sys.argv) > 1 else 200))
