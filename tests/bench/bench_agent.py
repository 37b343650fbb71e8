"""`wgdisco run` on both sides of a tunnel: seconds to the first ping, seconds of an outage, packets lost, what it costs.

`python tests/bench/bench_agent.py [--runs N] [--rtt MS …] [PART …]`: parts are start, change, loss, idle.

Both homes are behind port-restricted NATs (masq). An outage is the longest time without an answer to a ping every 50 ms
around a change of address, so 0.05 is none. "own": the host's own address, which netlink tells. "nat": the router's
outer address, which nothing tells; the ping that is not answered is the first sign.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.duo import Duo
from tests.lab.lab import Lab, LabUnavailable

RTTS = (0, 50, 100)  # milliseconds between the two hosts
CHANGES = ("own", "own of both", "nat", "nat of both")
PARTS = ("start", "change", "loss", "idle")
IDLE = 60.0  # seconds


def summary(values: Sequence[float]) -> str:
    """Median, 95th percentile and number."""
    ranked = sorted(values)
    late = ranked[min(len(ranked) - 1, round(0.95 * (len(ranked) - 1)))]
    return f"p50 {statistics.median(ranked):5.2f}  p95 {late:5.2f}  ({len(ranked)} runs)"


@contextmanager
def scene(rtt: int, first: str = "masq", second: str = "masq", *, dht: bool = False) -> Iterator[Duo]:
    """Two sites in a lab of their own, `rtt` milliseconds apart; with `dht` three storing nodes are the store."""
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        store: list[str] = []
        if dht:
            nodes = [lab.public(f"dht{number}") for number in range(3)]
            first_node = f"{nodes[0].address}:6881"
            for node in nodes:
                words = ["dht-node", "--port", "6881", "--bind", node.address]
                process = node.wgdisco(*words, *(() if node is nodes[0] else ("--bootstrap", first_node)))
                assert process.stdout is not None
                process.stdout.readline()
            store = ["-b", "dht", "-o", f"bootstrap={','.join(f'{node.address}:6881' for node in nodes)}"]
        duo = Duo(lab, Path(folder), first, second, store=store)
        for host in duo.hosts if rtt else ():
            getattr(host.network, "cable", host.cable).delay(rtt / 4000)
        yield duo


def first_ping(duo: Duo) -> float:
    """Start both agents at once; seconds to the first answer, the programs' own start included."""
    with duo.pinging() as pings:
        start = time.time()
        duo.run(0), duo.run(1)
        while (first := pings.first(start)) is None:
            if time.time() > start + 60:
                raise SystemExit(f"no ping within 60 s\n{duo.words()}")
            time.sleep(0.02)
        return first - start


def change(duo: Duo, what: str) -> None:
    """One of CHANGES."""
    for host in duo.hosts if what.endswith("of both") else duo.hosts[:1]:
        (host if what.startswith("own") else host.network).readdress()  # type: ignore[attr-defined]  # it is a router


def start(runs: int, rtts: Sequence[int]) -> None:
    """Both started together."""
    for dht in (False, True):
        for rtt in rtts:
            times = []
            for _ in range(runs):
                with scene(rtt, dht=dht) as duo:
                    times.append(first_ping(duo))
            print(f"start to first ping, {'dht' if dht else 'folder':>6}, {rtt:3} ms: {summary(times)}", flush=True)


def changes(runs: int, rtts: Sequence[int]) -> None:
    """Addresses that change, with a ping going on."""
    for dht in (False, True):
        for rtt in rtts:
            outages: dict[str, list[float]] = {what: [] for what in CHANGES}
            while len(outages[CHANGES[0]]) < runs:
                with scene(rtt, dht=dht) as duo, duo.pinging() as pings:
                    first_ping(duo)
                    time.sleep(8)
                    for _ in range(min(3, runs - len(outages[CHANGES[0]]))):
                        for what, found in outages.items():
                            began = time.time()
                            change(duo, what)
                            found.append(pings.outage(began, 120))
                            time.sleep(4)
            for what, found in outages.items():
                print(f"outage, {what:>11}, {'dht' if dht else 'folder':>6}, {rtt:3} ms: {summary(found)}", flush=True)


def loss(runs: int, rtts: Sequence[int]) -> None:
    """A working tunnel for 20 s with both agents, and for 20 s after they were stopped."""
    for first, second in (("masq", "masq"), ("fullcone", "sym"), ("public", "masq")):
        with scene(50, first, second) as duo:
            first_ping(duo)
            time.sleep(5)
            for what in ("with", "without"):
                with duo.pinging() as pings:
                    time.sleep(20)
                    sent = max(pings.answers)
                    print(f"loss {what:>7} the agents, {first}-{second}: {pings.lost} of {sent}", flush=True)
                if what == "with":
                    duo.stop(0), duo.stop(1)


def used(pid: int) -> tuple[float, float]:
    """CPU seconds so far and resident megabytes."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def traffic(duo: Duo) -> int:
    """Bytes that left and reached the outer interface of the first host's router."""
    counters = duo.hosts[0].network.run("cat", "/proc/net/dev").stdout  # type: ignore[attr-defined]  # it is a router
    fields = next(line for line in counters.splitlines() if "wan" in line).replace(":", " ").split()
    return int(fields[1]) + int(fields[9])


def idle(runs: int, rtts: Sequence[int]) -> None:
    """What an agent costs while nothing happens: with one peer, and with a hundred of which one is there."""
    for peers in (1, 100):
        with scene(0) as duo:
            for number in range(peers - 1):
                duo.tunnels[0].peer(type(duo.tunnels[0].public).parse(_key(number)), f"10.77.0.{number}/32")
            first_ping(duo)
            time.sleep(90 if peers > 1 else 15)  # missing peers are sought eagerly for a minute
            pid = duo.agents[0].inner
            (before, _), bytes_before = used(pid), traffic(duo)
            time.sleep(IDLE)
            (after, megabytes), bytes_after = used(pid), traffic(duo)
            share, day = 100 * (after - before) / IDLE, (bytes_after - bytes_before) / IDLE * 86400 / 1e6
            print(
                f"idle, {peers:3} peers: {share:.2f} % CPU, {megabytes:.0f} MB RSS, {day:.1f} MB/day on the wire (tunnel included)"
            )


def _key(number: int) -> str:
    from wgdisco.keys import PrivateKey

    return str(PrivateKey(number.to_bytes(32, "big")).public)


def main() -> None:
    """Run the parts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rtt", type=int, nargs="*", default=RTTS)
    parser.add_argument("parts", nargs="*", metavar="PART", default=PARTS)
    options = parser.parse_args()
    works: dict[str, Callable[[int, Sequence[int]], None]] = dict(zip(PARTS, (start, changes, loss, idle), strict=True))
    for part in options.parts:
        works[part](options.runs, options.rtt)


if __name__ == "__main__":
    try:
        main()
    except LabUnavailable as reason:
        sys.exit(f"no lab here: {reason}")
