"""DNS on loopback, BIND and Knot: put, replace, refresh, get, and errors when the server is down or frozen.

`python -m tests.bench.bench_backend_dns [COUNT]`. One line of JSON each: median and 95th percentile in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.backends.dnsservers import Bind, DNSServer, Knot, slot

__all__ = ["BLOB", "failing", "import_cost", "report", "timed"]

BLOB = bytes(range(256)) * 2 + bytes(41)  # 553 bytes: a record of the commonest size


def report(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p95 = ordered[int(0.95 * len(ordered))]
    figures = {"median_ms": round(statistics.median(ordered), 2), "p95_ms": round(p95, 2), "n": len(ordered)}
    print(json.dumps({"bench": name, **figures}))


async def timed(count: int, work: Callable[[int], Awaitable[object]]) -> list[float]:
    """Milliseconds of each call."""
    times = []
    for number in range(count):
        start = time.perf_counter()
        await work(number)
        times.append(1000 * (time.perf_counter() - start))
    return times


async def failing(work: Callable[[], Awaitable[object]], count: int = 3) -> list[float]:
    """Milliseconds until each call raises."""

    async def attempt(_: int) -> None:
        try:
            await work()
        except OSError:
            return
        raise AssertionError("it should have failed")

    return await timed(count, attempt)


def import_cost(name: str, module: str, count: int = 5) -> None:
    """What a process pays for importing it, beside Python itself and wgdisco's surface for plugins."""
    times = []
    for _ in range(count):
        code = f"import wgdisco.backend, asyncio, time; s = time.perf_counter(); import {module}; print(time.perf_counter() - s)"
        times.append(1000 * float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    report(f"{name}: import", times)


async def measure(server: DNSServer, count: int) -> None:
    name, backend = f"dns {server.program}", server.backend()
    await backend.open()
    report(f"{name}: put", await timed(count, lambda number: backend.put(slot(number), BLOB, 600)))
    report(f"{name}: replace", await timed(count, lambda number: backend.put(slot(number), BLOB[::-1], 600)))
    report(f"{name}: refresh", await timed(count, lambda number: backend.put(slot(number), BLOB[::-1], 600)))
    report(f"{name}: get", await timed(count, lambda number: backend.get(slot(number))))
    server.freeze()
    report(f"{name}: error when frozen", await failing(lambda: backend.get(slot(0))))
    server.thaw()
    server.kill()
    report(f"{name}: error when down", await failing(lambda: backend.get(slot(0))))
    report(f"{name}: error of a put when down", await failing(lambda: backend.put(slot(0), BLOB, 600)))
    await backend.close()


def main(count: int) -> None:
    import_cost("dns", "dns.asyncquery, dns.update, wgdisco.backends.dns")
    import_cost("doh", "dns.asyncquery, dns.update, wgdisco.backends.dns, httpx2, h2")
    for kind in (Bind, Knot):
        with tempfile.TemporaryDirectory() as folder, kind(Path(folder)) as server:
            asyncio.run(measure(server, count))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
