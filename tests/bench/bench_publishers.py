"""10,000 publishers of one etcd: puts a second, what each costs etcd in time and on disk, and what its watchers cost.

`python -m tests.bench.bench_publishers [PUBLISHERS]` from the project's root. One line of JSON each. Publishers and etcd
share the machine; etcd's files are in memory. "ms" and "us" are processor time of etcd alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing

from tests.backends.etcdserver import VERSIONS, EtcdServer, started
from tests.bench.hub import busy, memory
from tests.bench.stores import asked, blob
from wgdisco.audience import slot_text
from wgdisco.backend import Slot
from wgdisco.backends.etcd import Etcd

LIFETIME = 3600  # seconds
AT_ONCE = 32  # publishers of one process
WATCHERS, CHANGES, RATE = 100, 200, 20.0  # changes a second
DAY = 86400


def place(number: int) -> Slot:
    """A slot of its own for each number."""
    name = number.to_bytes(20)
    return Slot(name, slot_text(name), bytes(32))


async def publish(url: str, prefix: str, numbers: Sequence[int], times: int) -> None:
    """Each of them is a node of its own: its own connection, its own lease, which a renewal replaces."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with limit:
            backend = Etcd(endpoints=[url], prefix=prefix)
            await backend.open()
            for count in range(times):
                await backend.put(place(number), blob(number + count), LIFETIME)
                backend._leases._current.clear()  # as if a third of the lifetime had passed
            await backend.close()

    await asyncio.gather(*map(one, numbers))


def process(url: str, prefix: str, numbers: Sequence[int], times: int) -> None:
    """`publish` in a process of its own."""
    asyncio.run(publish(url, prefix, numbers, times))


def size(etcd: EtcdServer) -> int:
    """Bytes of the database that are in use."""
    with urllib.request.urlopen(f"http://127.0.0.1:{etcd.ports[2]}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    name = "etcd_mvcc_db_total_size_in_use_in_bytes "
    return int(float(next(line for line in lines if line.startswith(name)).removeprefix(name)))


def compact(etcd: EtcdServer) -> None:
    """Forget all but the latest values, as periodic compaction does."""
    etcd.api("kv/compaction", revision=etcd.api("maintenance/status")["header"]["revision"], physical=True)
    time.sleep(1)


def put(etcd: EtcdServer, prefix: str, count: int, times: int) -> dict[str, float]:
    """What so many publishers that put so many times each cost."""
    workers = os.cpu_count() or 1
    before, worked, start = size(etcd), busy(etcd.pid), time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        parts = [range(first, count, workers) for first in range(workers)]
        for done in [pool.submit(process, etcd.url, prefix, part, times) for part in parts]:
            done.result()
    took = time.monotonic() - start
    time.sleep(1)  # etcd commits every tenth of a second
    return {"seconds": took, "worked": busy(etcd.pid) - worked, "bytes": size(etcd) - before}


def puts(version: str, etcd: EtcdServer, count: int) -> None:
    """The first record of each, and its renewal."""
    first, both = put(etcd, "/first/", count, 1), put(etcd, "/both/", count, 2)
    renewal = {name: both[name] - first[name] for name in first}
    print(
        json.dumps(
            {"bench": f"etcd {version}: puts by {count} publishers", "a_second": round(2 * count / both["seconds"])}
        )
    )
    for name, cost in (("put", first), ("renewal", renewal)):
        figures = {
            "etcd_ms": round(1000 * cost["worked"] / count, 2),
            "bytes": round(cost["bytes"] / count),
        }
        print(json.dumps({"bench": f"etcd {version}: one {name} by one of {count} publishers", **figures}), flush=True)
    per_day = {
        f"MB_a_day_at_{lifetime}_s": round(renewal["bytes"] * 3 * DAY / lifetime / 1e6)
        for lifetime in (LIFETIME, 21600, DAY)
    }
    print(json.dumps({"bench": f"etcd {version}: growth without compaction", **per_day}), flush=True)
    compact(etcd)
    kept = {"MB_before": round((first["bytes"] + both["bytes"]) / 1e6), "MB_after": round(size(etcd) / 1e6)}
    print(json.dumps({"bench": f"etcd {version}: {2 * count} records, compacted", **kept}), flush=True)
    print(json.dumps({"bench": f"etcd {version}: memory", "rss_mb": memory(etcd.pid, "VmRSS")}), flush=True)


async def watched(etcd: EtcdServer, watchers: int) -> float:
    """Seconds of etcd's time that a number of changes takes, with so many who follow the prefix."""
    prefix = f"/watched by {watchers}/"
    writer = Etcd(endpoints=[etcd.url], prefix=prefix)
    await writer.open()
    everybody = [asyncio.ensure_future(follow(etcd.url, prefix)) for _ in range(watchers)]
    await asyncio.sleep(3)
    worked, start = busy(etcd.pid), time.monotonic()
    for number in range(CHANGES):
        await writer.put(place(0), blob(number), LIFETIME)
        await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
    await asyncio.wait_for(asyncio.gather(*everybody), 60)
    spent = busy(etcd.pid) - worked
    await writer.close()
    return spent


async def follow(url: str, prefix: str) -> None:
    """Read until the last change has come."""
    reader = Etcd(endpoints=[url], prefix=prefix)
    await reader.open()
    async with aclosing(reader.follow([place(0)])) as changes:
        async for _, values in changes:
            if values == [blob(CHANGES - 1)]:
                break
    await reader.close()


def events(version: str, etcd: EtcdServer) -> None:
    """What it costs to tell one watcher of one change."""
    alone, spent = asyncio.run(watched(etcd, 0)), asyncio.run(watched(etcd, WATCHERS))
    each = 1e6 * (spent - alone) / (WATCHERS * CHANGES)
    print(json.dumps({"bench": f"etcd {version}: one event to one of {WATCHERS} watchers", "etcd_us": round(each, 1)}))


if __name__ == "__main__":
    for release, kind in VERSIONS.items():
        with started("--quota-backend-bytes=8589934592", kind=kind) as server:
            puts(release, server, asked(10_000))
            events(release, server)
