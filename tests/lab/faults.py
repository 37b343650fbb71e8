"""What can go wrong around two agents, and how it is mended again; for the agent's fault tests and the soak."""

from __future__ import annotations

import base64
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.lab.duo import ADDRESSES, Duo
from tests.lab.lab import Host, Lab
from tests.lab.node import Process
from tests.lab.space import LabError, wait_until
from tests.lab.stations import Router
from tests.lab.wireguard import WireGuard
from tests.support import Server, require_binary

__all__ = [
    "RedisServer",
    "Sites",
    "Words",
    "bring_back",
    "command",
    "configure",
    "full_tunnel",
    "home",
    "known",
    "outer",
    "plugin",
    "redis",
    "run_both",
    "steady",
    "take_away",
    "tracebacks",
    "until_connected",
    "usage",
]

START = 30.0  # seconds to a handshake on both sides


class Words:
    """What the agent of a side has said since this was made."""

    def __init__(self, duo: Duo, side: int) -> None:
        self.duo, self.side = duo, side
        self.path = duo.log(side)
        self.begin = self.path.stat().st_size if self.path.exists() else 0

    def __str__(self) -> str:
        """All of it."""
        with self.path.open("rb") as log:
            log.seek(self.begin)
            return log.read().decode()

    def wait(self, text: str, seconds: float = 20.0) -> None:
        """Wait until it says this; raises LabError with what was said."""
        try:
            wait_until(lambda: self.path.exists() and text in str(self), f"the agent says {text!r}", seconds)
        except LabError as error:
            raise LabError(f"{error}\n{self.duo.words()}") from None


class RedisServer(Server):
    """A store on a Unix socket, which every host of a lab reaches, as they share the files; it keeps nothing."""

    program = "redis-server"
    arguments: ClassVar[tuple[str, ...]] = (
        *("--port", "0", "--unixsocket", "{folder}/r.sock", "--save", "", "--appendonly", "no"),
        *("--dir", "{folder}"),
    )

    @property
    def options(self) -> list[str]:
        """What makes an agent use it."""
        return ["-b", "redis", "-o", f"redis.url=unix://{self.folder}/r.sock"]

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None

    def keys(self) -> int:
        """How many keys it holds."""
        words = [require_binary("redis-cli"), "-s", f"{self.folder}/r.sock", "dbsize"]
        return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    def ready(self) -> bool:
        """Whether it answers."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(f"{self.folder}/r.sock") == 0


@contextmanager
def redis() -> Iterator[RedisServer]:
    """A running server; its folder has a short name, since that of a Unix socket must be."""
    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        yield server


def run_both(duo: Duo) -> None:
    """Start both agents."""
    duo.run(0)
    duo.run(1)


def home(duo: Duo, side: int) -> Router:
    """The router of a side."""
    router = duo.hosts[side].network
    assert isinstance(router, Router)
    return router


def outer(host: Host) -> str:
    """Where the internet sees a host."""
    while isinstance(host.network, Router):
        host = host.network  # type: ignore[assignment]  # a router is a station in a network, too
    return host.address


def known(duo: Duo, side: int, name: str = "state", number: int = 0) -> Any:
    """What the agent of a side reports of its first peer, or another one; None where there is none."""
    if not duo.hosts[side].path("/run/wgdisco/wg0/state.json").exists():
        return None
    peers = duo.state(side).get("peers") or []
    return peers[number].get(name) if number < len(peers) else None


def until_connected(duo: Duo, seconds: float = START) -> None:
    """Wait until a ping goes through and every agent says that it is connected."""
    duo.connected(seconds)
    for side in duo.agents:
        try:
            wait_until(lambda side=side: known(duo, side) == "connected", f"{duo.hosts[side].name} says connected", 20)
        except LabError as error:
            raise LabError(f"{error}\n{duo.words()}") from None


def take_away(duo: Duo, side: int, number: int = signal.SIGTERM) -> None:
    """End wireguard-go, and the interface with it."""
    duo.tunnels[side].process.send_signal(number)
    duo.tunnels[side].process.wait(10)


def bring_back(duo: Duo, side: int, *, private: bytes | None = None, port: int = 51820) -> WireGuard:
    """Make the interface again, with the key it had or another one, and the peer without an endpoint."""
    old = duo.tunnels[side]
    key = base64.b64decode(old.private) if private is None else private
    new = duo.hosts[side].wireguard("wg0", f"{ADDRESSES[side]}/24", port=port, private=key)
    new.peer(duo.tunnels[1 - side].public, f"{ADDRESSES[1 - side]}/32")
    duo.tunnels[side] = new
    return new


def full_tunnel(duo: Duo, side: int) -> None:
    """Everything goes through the tunnel but what WireGuard itself sends, by the rules of wg-quick(8)."""
    host, mark = duo.hosts[side], 51820
    duo.tunnels[side].set(f"fwmark={mark}")
    duo.tunnels[side].peer(duo.tunnels[1 - side].public, "0.0.0.0/0")
    host.sysctl("net/ipv4/conf/all/src_valid_mark=1")
    host.ip(
        f"route add 0.0.0.0/0 dev wg0 table {mark}",
        f"rule add not fwmark {mark} table {mark}",
        "rule add table main suppress_prefixlength 0",
    )


def configure(duo: Duo, side: int, text: str) -> None:
    """Write the configuration file of a side."""
    path = duo.hosts[side].path("/etc/wgdisco/wg0.toml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def command(duo: Duo, side: int, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Type a command at a side, whatever its exit code."""
    return duo.hosts[side].run(sys.executable, "-m", "wgdisco", *words, env=env, check=False)


def tracebacks(duo: Duo) -> list[str]:
    """What must never be in the words of an agent."""
    bad = ("Traceback", "is a bug", "never retrieved", "was destroyed but it is pending", "Warning:")
    return [line for line in duo.words().splitlines() if any(each in line for each in bad)]


def plugin(folder: Path, name: str, text: str) -> None:
    """Make a third party's backend importable where `folder` is on PYTHONPATH: its module, and what pip leaves."""
    (folder / f"wgdisco_{name}.py").write_text(text)
    described = folder / f"wgdisco_{name}-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: wgdisco-{name}\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(f"[wgdisco]\n{name} = wgdisco_{name}\n")


def steady(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Watch that something stays true for `seconds`; raises LabError naming `what`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            raise LabError(f"{what}: no longer so")
        time.sleep(0.2)


def usage(pid: int) -> tuple[int, int]:
    """Resident memory of a process in kB, and how many descriptors it has open."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident.split()[1]), sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


class Sites:
    """Many hosts, each behind a router of its own, with an agent; a `mesh` of all, or a `star` around the first."""

    def __init__(self, lab: Lab, folder: Path, number: int, shape: str) -> None:
        (folder / "store").mkdir()
        self.folder = folder
        server = lab.stun().place
        self.options = ["-b", "folder", "-o", f"path={folder / 'store'}", "--stun", f"{server[0]}:{server[1]}"]
        self.hosts = [lab.site(f"s{index}", "masq" if index else "public") for index in range(number)]
        self.tunnels = [host.wireguard("wg0", f"10.9.0.{index}/24") for index, host in enumerate(self.hosts, 1)]
        self.agents: list[Process] = []
        self.pairs = 0
        for one in range(number):
            for other in range(one):
                if shape == "mesh" or other == 0:
                    self.pairs += 1
                    self.tunnels[one].peer(self.tunnels[other].public, f"10.9.0.{other + 1}/32")
                    self.tunnels[other].peer(self.tunnels[one].public, f"10.9.0.{one + 1}/32")

    def run(self) -> None:
        """Start all agents."""
        for host in self.hosts:
            with (self.folder / f"{host.name}.log").open("w") as log:
                self.agents.append(host.wgdisco("run", "-i", "wg0", *self.options, stdout=log, stderr=log))

    def connected(self, seconds: float) -> float:
        """Wait until every tunnel has had a handshake; returns when (monotonic seconds), raises LabError."""
        open_tunnels = list(self.tunnels)
        end = time.monotonic() + seconds
        while open_tunnels:
            open_tunnels = [each for each in open_tunnels if not all(one.handshake for one in each.peers().values())]
            if time.monotonic() > end:
                raise LabError(f"not connected after {seconds:.0f} s: {[each.host.name for each in open_tunnels]}")
            time.sleep(0.5)
        return time.monotonic()

    def alive(self) -> bool:
        """Whether every agent runs and has said nothing that only programmers understand."""
        words = "".join(path.read_text() for path in self.folder.glob("*.log"))
        return all(agent.poll() is None for agent in self.agents) and not re.search("Traceback|is a bug", words)
