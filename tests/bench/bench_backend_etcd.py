"""etcd on loopback: put, get, push; time to an error when it is down and frozen; a leader lost; what importing costs.

`python -m tests.bench.bench_backend_etcd [COUNT]` from the project's root. One line of JSON each.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from tests.backends.etcdclient import LATER, opened
from tests.backends.etcdserver import VERSIONS, EtcdServer, cluster, slot, started
from wgdisco.backends.etcd import Etcd

BLOB = bytes(range(256)) * 2 + bytes(41)  # 553 bytes: a record of the commonest size


def report(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p95 = ordered[int(0.95 * len(ordered))]
    figures = {"median_ms": round(statistics.median(ordered), 2), "p95_ms": round(p95, 2), "n": len(ordered)}
    print(json.dumps({"bench": f"etcd {name}", **figures}))


async def timed(work: Callable[[int], Awaitable[object]], count: int) -> list[float]:
    """Milliseconds of each call."""
    times = []
    for number in range(count):
        start = time.perf_counter()
        await work(number)
        times.append(1000 * (time.perf_counter() - start))
    return times


async def pushes(writer: Etcd, reader: Etcd, count: int) -> list[float]:
    """Milliseconds from the beginning of a put to its arrival at a follower on another connection."""
    times: list[float] = []
    async with aclosing(reader.follow([slot("pushed")])) as changes:
        await anext(changes)
        for number in range(count):
            start = time.perf_counter()
            putting = asyncio.ensure_future(writer.put(slot("pushed"), b"%d" % number, LATER))
            await anext(changes)
            times.append(1000 * (time.perf_counter() - start))
            await putting
    return times


async def healthy(server: EtcdServer, version: str, count: int) -> None:
    async with opened(server) as writer, opened(server, prefix=writer.prefix) as reader:
        await reader.get(slot(0))
        report(f"{version} put", await timed(lambda number: writer.put(slot(number % 100), BLOB, LATER), count))
        report(f"{version} get", await timed(lambda number: reader.get(slot(number % 100)), count))
        report(f"{version} put to push", await pushes(writer, reader, count))

        async def everything(_: int) -> None:
            assert len([each async for each in reader.fetch([slot(number) for number in range(100)])]) == 100

        report(f"{version} fetch of 100 slots", await timed(everything, count // 10 or 1))


async def failing(server: EtcdServer, trouble: str, count: int) -> None:
    async def attempt(_: int) -> None:
        try:
            await backend.get(slot("a"))
        except ConnectionError:
            return
        raise AssertionError("it should have failed")

    async with opened(server) as backend:
        await backend.put(slot("a"), BLOB, LATER)
        getattr(server, trouble)()
        report(f"error when {'down' if trouble == 'kill' else 'frozen'}", await timed(attempt, count))


async def losing(trouble: str) -> None:
    """The longest time between two acknowledged puts while the leader, that everybody talks to, goes."""
    with cluster() as three:
        members = three.leader_first()
        async with opened(*members) as backend:
            for number in range(20):
                await backend.put(slot(number), BLOB, LATER)
            getattr(members[0], trouble)()
            times = await timed(lambda number: backend.put(slot(number), BLOB, LATER), 100)
    print(json.dumps({"bench": f"etcd longest put, leader {trouble}", "max_ms": round(max(times)), "n": len(times)}))


def importing(code: str, count: int) -> float:
    """Milliseconds that a new Python takes to run some code, median."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main(count: int) -> None:
    for version, kind in VERSIONS.items():
        with started(kind=kind) as server:
            asyncio.run(healthy(server, version, count))
    for trouble, times in (("kill", 20), ("freeze", 3)):
        with started() as server:
            asyncio.run(failing(server, trouble, times))
    for trouble in ("kill", "freeze"):
        asyncio.run(losing(trouble))
    core = importing("import wgdisco.store, wgdisco.discovery, msgspec", 9)
    whole = importing("import wgdisco.store, wgdisco.discovery, msgspec, wgdisco.backends.etcd, httpx2", 9)
    print(json.dumps({"bench": "etcd import over the core", "median_ms": round(whole - core), "core_ms": round(core)}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
