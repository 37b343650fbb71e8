"""An agent with many peers, beside its etcd in a host of the lab: what it takes. `figures` runs there."""

from __future__ import annotations

import os
import re
import socket
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.backends.etcdserver import EtcdServer, started
from tests.bench.people import SECRET, endpoint, fill, lines, people, person
from tests.support import wait_for
from wgdisco.session import WANTED

__all__ = ["busy", "figures", "memory"]

SOCKET = "/run/wireguard/wg0.sock"
TICKS = os.sysconf("SC_CLK_TCK")
LIMIT = 300.0  # seconds for the first pass
IDLE = 30.0  # seconds for which processor time is counted
CHANGES = 10  # records changed one after the other
RENEWAL = 1200.0  # seconds: every peer signs anew after a third of its lifetime


def ask(request: str) -> str:
    """wireguard-go's answer."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(SOCKET)
        channel.sendall(request.encode())
        answer = bytearray()
        while not answer.endswith(b"\n\n"):
            answer += channel.recv(1 << 20)
    return answer.decode()


def memory(pid: int, which: str) -> float:
    """VmRSS or VmHWM of a process in MB."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return round(int(found[1]) / 1024, 1) if found else 0.0


def busy(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def agent(etcd: EtcdServer, stun: str, log: Path) -> Iterator[int]:
    """A running agent; its pid."""
    secret = log.with_name("secret")
    secret.write_text(b64encode(SECRET).decode())
    secret.chmod(0o600)
    words = ["run", "-i", "wg0", "-b", "etcd", "-o", f"endpoints={etcd.url}", "--stun", stun]
    words += ["--to", "network", "--secret-file", str(secret)]
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "wgdisco", *words], stdout=file, stderr=file)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(60)


def figures(count: int, stun: str, folder: str) -> dict[str, Any]:
    """All of one number of peers; runs in the lab."""
    several, log = people(count), Path(folder) / "agent.log"
    with started() as etcd:
        fill(etcd, several)
        ask("\n".join(["set=1", *lines(several)]) + "\n\n")
        begun, result = time.monotonic(), {"peers": count}
        with agent(etcd, stun, log) as pid:

            def passed() -> bool:
                time.sleep(0.2 if count > 100 else 0.0)
                return ask("get=1\n\n").count("\nendpoint=") >= count

            try:
                wait_for(passed, "every endpoint is set", LIMIT)
            except AssertionError as error:
                error.add_note(log.read_text()[-3000:])
                raise
            result |= {"first_pass_s": round(time.monotonic() - begun, 1), "busy_s": round(busy(pid), 1)}
            time.sleep(IDLE / 2)
            result["idle_cpu_percent"] = idle(pid)
            result |= {"rss_mb": memory(pid, "VmRSS"), "peak_mb": memory(pid, "VmHWM")}
            if count > WANTED:
                times = [changed(etcd, number, number) for number in range(CHANGES)]
                result |= {"change_median_ms": round(statistics.median(times)), "change_max_ms": round(max(times))}
                result["renewing_cpu_percent"] = renewing(etcd, pid, count)
            result["rss_end_mb"] = memory(pid, "VmRSS")
        return result


def idle(pid: int) -> float:
    """Percent of one processor over half a minute."""
    before = busy(pid)
    time.sleep(IDLE)
    return round(100 * (busy(pid) - before) / IDLE, 2)


def changed(etcd: EtcdServer, number: int, port: int) -> float:
    """Milliseconds from the put of a record with another endpoint until WireGuard has it."""
    port += 40_000
    newer, wanted = person(number, port), f"endpoint={endpoint(number, port)}\n"
    fill(etcd, [newer])
    start = time.monotonic()
    wait_for(lambda: wanted in ask("get=1\n\n"), f"{wanted.strip()} is set", 60)
    took = 1000 * (time.monotonic() - start)
    time.sleep(1)
    return took


def renewing(etcd: EtcdServer, pid: int, count: int) -> float:
    """Percent of one processor while all renew their records, a few every second, and nothing changes in them."""
    before, start, done = busy(pid), time.monotonic(), 0
    while (spent := time.monotonic() - start) < IDLE:
        due = int(spent * count / RENEWAL)
        fill(etcd, [person((100 + number) % count) for number in range(done, due)])
        done = due
        time.sleep(1)
    return round(100 * (busy(pid) - before) / spent, 2)
