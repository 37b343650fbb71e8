"""Multicast DNS on loopback: put, get, put to push, a slot that is empty.

`python -m tests.bench.bench_backend_lan [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from contextlib import aclosing

from wgdisco.backends.lan import Lan
from wgdisco.testing import Author

BLOB = bytes(range(256)) * 2 + bytes(41)  # 553 bytes: a record of the commonest size


def report(name: str, times: list[float]) -> None:
    print(json.dumps({"bench": f"lan {name}", "median_ms": round(statistics.median(times), 2), "n": len(times)}))


async def answers(reader: Lan, names: list[str]) -> list[float]:
    """Milliseconds from a question to its first answer, without the grace in which others may answer."""
    times = []
    for name in names:
        with reader._air.listening() as news:
            start = time.perf_counter()
            await reader._air.ask([name], unicast=False)
            while not reader._air.heard(name):
                news.clear()
                await news.wait()
            times.append(1000 * (time.perf_counter() - start))
    return times


async def main(count: int) -> None:
    author = Author()
    writer, reader = Lan(interfaces=["lo"]), Lan(interfaces=["lo"])
    await writer.open()
    puts, gets, pushes = [], [], []
    for number in range(count):
        start = time.perf_counter()
        await writer.put(author.slot(number), BLOB, 600)
        puts.append(1000 * (time.perf_counter() - start))
    await asyncio.sleep(2.5)  # what was just announced is not repeated within a second
    await reader.open()
    names = [f"{author.reading(number).text}._wgdisco._udp.local." for number in range(count)]
    report("put", puts)
    report("first answer", await answers(reader, names))
    for number in range(count):
        start = time.perf_counter()
        assert await reader.get(author.reading(number)) == [BLOB]
        gets.append(1000 * (time.perf_counter() - start))
    report("get with grace", gets)
    async with aclosing(reader.watch(author.reading(count))) as values:
        await anext(values)
        for number in range(count):
            start = time.perf_counter()
            await writer.put(author.slot(count), b"%d" % number, 600)
            while b"%d" % number not in await anext(values):
                pass
            pushes.append(1000 * (time.perf_counter() - start))
    report("put to push", pushes)
    start = time.perf_counter()
    await reader.get(author.reading(count + 1))
    report("get of an empty slot", [1000 * (time.perf_counter() - start)])
    await writer.close()
    await reader.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
