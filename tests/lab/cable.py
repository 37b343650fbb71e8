"""A cable: a veth pair from a node to a port of a switch, with latency, jitter, loss and blackouts."""

from __future__ import annotations

import subprocess
import sys

from tests.lab.node import Node, Process
from tests.lab.space import HERE, LabError

__all__ = ["Cable", "Switch"]


class Switch(Node):
    """A node with a bridge that cables are plugged into."""

    bridge = "lan"


class Cable:
    """The cable of `node`'s `interface`; the port at its far end is named after the node."""

    def __init__(self, node: Node, interface: str, switch: Switch) -> None:
        self.node = node
        self.interface = interface
        self.switch = switch
        self._relay: Process | None = None
        self._percent = 0
        self._plug_new(node, interface)

    @property
    def is_dark(self) -> bool:
        """Whether nothing passes."""
        return self._percent >= 100

    def move(self, switch: Switch) -> None:
        """Plug the far end into another switch; the near interface stays and sees its carrier go and come."""
        self.switch.ip(f"link set dev {self.node.name} netns {switch.inner}")
        switch.ip(f"link set dev {self.node.name} master {switch.bridge} up")
        self.switch = switch
        self.lose(self._percent)

    def delay(self, seconds: float, jitter: float = 0) -> None:
        """Let every frame take `seconds`, give or take `jitter` seconds, in each direction from now on."""
        if self._relay is None:
            self._relay = self._insert_relay()
            self.lose(self._percent)
        assert self._relay.stdin is not None
        assert self._relay.stdout is not None
        self._relay.stdin.write(f"{seconds} {jitter}\n")
        self._relay.stdin.flush()
        if self._relay.stdout.readline() != "ready\n":
            raise LabError(f"the relay on the cable of {self.node.name} has ended")

    def lose(self, percent: int) -> None:
        """Lose so many percent of the IP packets in each direction from now on; neighbour discovery always passes."""
        if percent or self._percent:
            self.node.nft(_loss(self.interface, percent))
            self.switch.nft(_loss(self.node.name, percent))
        self._percent = percent

    def blackout(self) -> None:
        """Lose everything, with the carrier up, until the next `lose`."""
        self.lose(100)

    def _plug_new(self, node: Node, interface: str) -> None:
        """Lay a new veth pair from `interface` of `node` to the switch."""
        port, bridge = self.node.name, self.switch.bridge
        self.switch.ip(f"link add name {port} up master {bridge} type veth peer name {interface} netns {node.inner}")

    def _insert_relay(self) -> Process:
        """Cut the cable: its end goes to a namespace where the relay runs, and a new pair leads from there on."""
        relay = Node(self.node.space, "relay")
        relay.sysctl("net/ipv6/conf/default/disable_ipv6=1")
        self.switch.ip(f"link set dev {self.node.name} netns {relay.inner} name near")
        self._plug_new(relay, "far")
        relay.ip("link set near up", "link set far up")
        return relay.popen(sys.executable, "-IS", HERE / "relay.py", "near", "far", stdin=subprocess.PIPE)


def _loss(interface: str, percent: int) -> str:
    """Rules that replace what was lost at this interface; a table of its own, since interfaces share a namespace."""
    table = f"table netdev loss_{interface.replace('-', '_')}"
    chance = "drop" if percent >= 100 else f"numgen random mod 100 < {percent} drop"
    chain = f"""chain lost {{
        type filter hook ingress device "{interface}" priority 0;
        meta protocol ip {chance};
        meta protocol ip6 meta l4proto != ipv6-icmp {chance};
    }}"""
    return f"{table} {{}}\ndelete {table}\n" + (f"{table} {{\n{chain}\n}}\n" if percent else "")
