"""Two sites with a tunnel and an agent on each: what the agent's tests and benches are played with.

    duo = Duo(lab, folder, "masq", "masq")          # a shared folder is the store, which pushes
    duo.run(0), duo.run(1)                          # `wgdisco run -i wg0` on both sides
    duo.connected()                                 # waits for handshakes on both sides and a ping
    with duo.pinging() as pings:
        duo.hosts[0].readdress()
        print(pings.outage())                       # seconds

Sides are 0 (alice) and 1 (bob).
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.lab import Host, Lab
from tests.lab.node import Process
from tests.lab.space import LabError

__all__ = ["Duo", "Pings"]

ADDRESSES = ("10.9.0.1", "10.9.0.2")
REPLY = re.compile(r"\[(\d+\.\d+)\] \d+ bytes from .*icmp_seq=(\d+)")


class Pings:
    """A ping that goes on: when each answer came (unix seconds), by its number."""

    def __init__(self, host: Host, address: str, pause: float) -> None:
        self.pause, self.began = pause, time.time()
        self.answers: dict[int, float] = {}
        self.process = host.popen("ping", "-D", "-n", "-i", str(pause), address, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := REPLY.match(line):
                self.answers[int(found[2])] = float(found[1])

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)
        self.reader.join(10)

    @property
    def lost(self) -> int:
        """How many of those sent so far (but for the last second) were not answered."""
        last = max(self.answers, default=0)
        return last - len(self.answers)

    def first(self, after: float = 0.0) -> float | None:
        """When the first answer came."""
        return min((when for when in self.answers.values() if when > after), default=None)

    def outage(self, since: float, seconds: float = 60.0, quiet: float = 1.5) -> float:
        """Wait until answers come again after `since`; the longest time without one. Raises LabError.

        An outage counts as over when answers have come for `quiet` seconds; none at all is one of a pause.
        """
        end = time.time() + seconds
        while time.time() < end:
            time.sleep(0.05)
            times = sorted(when for when in self.answers.values() if when > since - 2 * self.pause)
            if not times or time.time() < since + quiet:
                continue
            gaps = [after - before for before, after in zip([since, *times], times, strict=False)]
            steady = [when for when in times if when > time.time() - quiet]
            if len(steady) > quiet / self.pause / 2 and max(gaps[-len(steady) + 1 :]) < max(0.5, 5 * self.pause):
                return max(gaps)
        raise LabError(f"no answer for {seconds:.0f} s after the change")


class Duo:
    """Two hosts with a tunnel that has no endpoint yet, and the options both agents are started with."""

    def __init__(
        self, lab: Lab, folder: Path, first: str = "masq", second: str = "masq", *, store: Sequence[str] = ()
    ) -> None:
        self.lab, self.folder = lab, folder
        (folder / "store").mkdir(exist_ok=True)
        self.servers = [lab.stun("stun"), lab.stun("stun2")]
        self.hosts = lab.site("alice", first), lab.site("bob", second)
        self.tunnels = [host.wireguard("wg0", f"{ip}/24") for host, ip in zip(self.hosts, ADDRESSES, strict=True)]
        for side in (0, 1):
            self.tunnels[side].peer(self.tunnels[1 - side].public, f"{ADDRESSES[1 - side]}/32")
        self.options = [*(store or ("-b", "folder", "-o", f"path={folder / 'store'}"))]
        for server in self.servers:
            place = server.place6 if "fw6" in (first, second) else server.place
            self.options += ["--stun", f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"]
        self.agents: dict[int, Process] = {}

    def run(self, side: int, *more: str, interface: str = "wg0", env: Mapping[str, str] | None = None) -> Process:
        """Start the agent of a side; what it says goes into a file."""
        environment = {"PYTHONUNBUFFERED": "1", **(env or {})}
        with self.log(side).open("a") as log:
            words = ["run", "-i", interface, *self.options, *more]
            self.agents[side] = self.hosts[side].wgdisco(*words, stdout=log, stderr=log, env=environment)
        return self.agents[side]

    def log(self, side: int) -> Path:
        """Where the agent's words are."""
        return self.folder / f"{self.hosts[side].name}.log"

    def words(self) -> str:
        """What both agents said, for the message of a test that failed."""
        return "\n".join(
            f"--- {self.log(side)}\n{self.log(side).read_text()}" for side in (0, 1) if self.log(side).exists()
        )

    def stop(self, side: int, number: int = signal.SIGTERM) -> int:
        """End the agent of a side; its exit code."""
        self.agents[side].send_signal(number)
        return self.agents[side].wait(20)

    def state(self, side: int) -> dict[str, Any]:
        """What the agent of a side reports."""
        return dict(json.loads(self.hosts[side].path("/run/wgdisco/wg0/state.json").read_text()))

    def other(self, side: int) -> Any:
        """What the interface of a side knows of the other one."""
        return self.tunnels[side].peers()[self.tunnels[1 - side].public]

    def connected(self, seconds: float = 30.0, after: float = 0.0) -> float:
        """Wait until a ping goes through; returns when (unix seconds)."""
        end = time.time() + seconds
        while time.time() < end:
            if self.hosts[0].run("ping", "-n", "-c1", "-W1", ADDRESSES[1], check=False).returncode == 0:
                return time.time()
        raise LabError(f"no ping went through within {seconds:.0f} s\n{self.words()}")

    @contextmanager
    def pinging(self, side: int = 0, pause: float = 0.05) -> Iterator[Pings]:
        """A ping from one side to the other that goes on meanwhile."""
        pings = Pings(self.hosts[side], ADDRESSES[1 - side], pause)
        try:
            yield pings
        finally:
            pings.stop()
