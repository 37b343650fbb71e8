"""STUN round trips on loopback: a raw socket on WireGuard's port, IPv4 and IPv6, against an ordinary UDP socket.

`python tests/bench/bench_stun.py [COUNT]`; the raw ones need root. One line of JSON each: median and 95th percentile.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))

from stunserver import StunServer

from wgdisco.device.port import Port, UDPPort, WireGuardPort
from wgdisco.errors import AccessError
from wgdisco.stun import Message, decode, encode


async def transactions(make: type[Port], number: int, address: str, count: int, *, fresh: bool = False) -> list[float]:
    """Milliseconds of each transaction; `fresh` opens and closes the sockets every time."""
    times = []
    async with StunServer(address) as server:
        for _ in range(count if fresh else 1):
            started = time.perf_counter()
            async with make(number) as port:
                for _ in range(1 if fresh else count):
                    started = started if fresh else time.perf_counter()
                    await port.transact(Message(), server.endpoint())
                    times.append(1000 * (time.perf_counter() - started))
    return times


def codec(count: int) -> list[float]:
    """Milliseconds to write a signed request and to read and check it."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        assert decode(encode(Message(), b"key")).signed_by(b"key")
        times.append(1000 * (time.perf_counter() - started))
    return times


def report(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p95 = ordered[int(0.95 * len(ordered))]
    figures = {"median_ms": round(statistics.median(ordered), 3), "p95_ms": round(p95, 3), "n": len(ordered)}
    print(json.dumps({"bench": name, **figures}))


def main(count: int) -> None:
    report("stun codec, signed request both ways", codec(count))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as owner:  # stands for WireGuard
        owner.bind(("::", 0))
        number = owner.getsockname()[1]
        cases = [
            ("stun udp v4", UDPPort, 0, "127.0.0.1", False),
            ("stun udp v6", UDPPort, 0, "::1", False),
            ("stun raw v4", WireGuardPort, number, "127.0.0.1", False),
            ("stun raw v6", WireGuardPort, number, "::1", False),
            ("stun raw v4, sockets opened for each", WireGuardPort, number, "127.0.0.1", True),
        ]
        for name, make, at, address, fresh in cases:
            try:
                report(name, asyncio.run(transactions(make, at, address, count, fresh=fresh)))
            except AccessError as error:
                print(json.dumps({"bench": name, "skipped": str(error)}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
