"""`make demo`: two homes behind NAT, both 192.168.1.0/24, find each other over the DHT and ping through WireGuard.

`python -m tests.lab.demo [--later SECONDS] [--latency SECONDS] [COMMAND …]`: COMMAND is typed on both sides, with PEER
replaced by the other side's public key; by default `wgdisco connect PEER`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

from tests.lab.lab import Host, Lab, LabError, LabUnavailable, Router
from tests.lab.node import Process
from tests.lab.wireguard import WireGuard

__all__ = ["main"]

DHT_PORT = 6881
CONFIGURATION = """stun = ["{stun}"]
[backends.dht]
bootstrap = ["{dht}"]
"""
SCENE = """
Everything below runs in namespaces of this machine: nothing is sent to a real network, nothing is left behind.

            alice                                 bob
        wg0 {alice.tunnel:<30}    wg0 {bob.tunnel}
       eth0 {alice.local:<30}   eth0 {bob.local}         the same address: two homes as sold
              |                                    |
         home router                          home router            both translate, neither forwards a port
       {alice.outer:<37}{bob.outer}
              |                                    |
              +--------- {latency:3.0f} ms each way ---------+
                                |
                          {server:<25}            a STUN server and a DHT node, as there are public ones

Each side has the other's public key as a peer, without an endpoint, and knows nothing else about it.
"""


@dataclass
class Side:
    """One home: its host, its WireGuard interface, and what is typed there."""

    router: Router
    host: Host
    wg: WireGuard
    tunnel: str
    started: float = 0
    ended: float = 0
    process: Process = field(init=False)
    reader: threading.Thread = field(init=False)

    @property
    def local(self) -> str:
        """The address inside the home."""
        return self.host.address

    @property
    def outer(self) -> str:
        """The address the internet sees."""
        return self.router.address

    def type(self, command: list[str]) -> None:
        """Start a command here, and print what it says as it says it."""
        say(self.host.name, f"$ {' '.join(command)}")
        words = [sys.executable, "-m", "wgdisco", *command[1:]] if command[0] == "wgdisco" else command
        self.started = time.monotonic()
        self.process = self.host.popen(*words, stderr=subprocess.STDOUT, env={"PYTHONUNBUFFERED": "1"})
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            say(self.host.name, line.rstrip())
        self.process.wait()
        self.ended = time.monotonic()

    def finish(self, seconds: float) -> int:
        """The exit code; raises LabError after `seconds`."""
        self.reader.join(seconds)
        if self.reader.is_alive():
            raise LabError(f"{self.host.name}: not done after {seconds:g} s")
        return self.process.returncode


def say(who: str, line: str) -> None:
    """Print a line of one of the two."""
    print(f"{who:>6} | {line}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 when the ping came through, 1 when it did not, 2 when this machine cannot run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.demo", description="Two homes behind NAT connect.")
    parser.add_argument("--later", type=float, default=1, metavar="SECONDS", help="how long bob waits (default: 1)")
    parser.add_argument("--latency", type=float, default=0.02, metavar="SECONDS", help="one way (default: 0.02)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="default: wgdisco connect PEER")
    options = parser.parse_args(arguments)
    try:
        with Lab() as lab:
            return _show(lab, options)
    except LabUnavailable as error:
        print(f"This machine cannot run the demo: {error}", file=sys.stderr)
        return 2
    except LabError as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1


def _show(lab: Lab, options: argparse.Namespace) -> int:
    begun = time.monotonic()
    stun = lab.stun("server")
    node = stun.host.wgdisco("dht-node", "--port", str(DHT_PORT), "--bind", stun.host.address)
    assert node.stdout is not None
    node.stdout.readline()
    sides = alice, bob = _home(lab, "alice", "10.9.0.1"), _home(lab, "bob", "10.9.0.2")
    for side, other in ((alice, bob), (bob, alice)):
        side.wg.peer(other.wg.public, f"{other.tunnel}/32")
        side.router.cable.delay(options.latency / 2)
        side.host.path("/etc/wgdisco").mkdir()
        text = CONFIGURATION.format(stun=stun.text, dht=f"{stun.host.address}:{DHT_PORT}")
        side.host.path("/etc/wgdisco/wg0.toml").write_text(text)
    print(SCENE.format(alice=alice, bob=bob, server=stun.host.address, latency=options.latency * 1000))
    print(f"(set up in {time.monotonic() - begun:.1f} s)\n")
    command = options.command or ["wgdisco", "connect", "PEER"]
    _type(alice, bob, command)
    time.sleep(options.later)
    _type(bob, alice, command)
    codes = [side.finish(60) for side in sides]
    if any(codes):
        print(f"\nThe command failed: exit codes {codes}.")
        return 1
    ends = max(side.ended for side in sides) - bob.started
    print(f"\nBoth sides are connected, {ends:.1f} s after the second one typed it. Now through the tunnel:\n")
    return _ping(alice, bob)


def _home(lab: Lab, name: str, tunnel: str) -> Side:
    router = lab.router(f"{name}-home", "masq", lan="192.168.1.0/24")
    host = lab.host(name, router, "192.168.1.10/24")
    return Side(router, host, host.wireguard("wg0", f"{tunnel}/24"), tunnel)


def _type(side: Side, other: Side, command: list[str]) -> None:
    side.type([str(other.wg.public) if word == "PEER" else word for word in command])


def _ping(side: Side, other: Side) -> int:
    words = ["ping", "-n", "-c", "3", "-i", "0.3", "-W", "2", other.tunnel]
    side.type(words)
    code = side.finish(20)
    print("\nIt works: two strangers behind NAT, and neither runs a server." if code == 0 else "\nNo answer came back.")
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main())
