"""What is plugged together: the internet, routers, hosts, each a node with addresses and a cable."""

from __future__ import annotations

import socket
import time
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface, ip_network
from itertools import chain, count

from tests.lab import nat
from tests.lab.cable import Cable, Switch
from tests.lab.node import Node
from tests.lab.space import Space, wait_until
from tests.lab.wireguard import WireGuard

__all__ = ["Host", "Interface", "Internet", "Network", "Router", "Station"]

Interface = IPv4Interface | IPv6Interface
CLOSED_PORT = 9  # discard: nothing listens there, so that a knock is refused
KNOCKS = 40  # by one socket, 5 ms apart


BRIDGE = "02:00:00:00:00:01"  # the MAC address of every bridge; no two are on one link


class Network(Switch):
    """A switch with addresses of its own: the gateway of whoever is plugged into it."""

    def gateway(self, address: Interface) -> IPv4Address | IPv6Address:
        """The gateway for a station with this address."""
        raise NotImplementedError

    def free_addresses(self) -> list[Interface]:
        """Addresses for one more station, one a family."""
        raise NotImplementedError

    def route(self, prefix: str, gateway: str) -> None:
        """Send what goes to `prefix` to a station of this network."""
        self.ip(f"route replace {prefix} via {gateway}")


class Internet(Network):
    """One bridge with as many networks as were asked for; its own addresses are the first of each."""

    bridge = "internet"

    def __init__(self, space: Space) -> None:
        super().__init__(space, "internet")
        self._networks: set[str] = set()
        self._numbers = iter(chain(range(10, 250), range(266, 500)))
        # an address of its own: a bridge takes its ports' smallest one, which changes with every port that is added,
        # and whoever has learnt the old one sends into the void
        self.ip(f"link add name {self.bridge} address {BRIDGE} up type bridge")
        self.sysctl("net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1")

    def gateway(self, address: Interface) -> IPv4Address | IPv6Address:
        """The first address of the network of `address`, which is laid when it is new."""
        gateway = address.network[1]
        if str(gateway) not in self._networks:
            self._networks.add(str(gateway))
            self.ip(f"address add {gateway}/{address.network.prefixlen} dev {self.bridge}")
        return gateway

    def free_addresses(self) -> list[Interface]:
        """The next of 203.0.113.10 … 249, then 192.0.2.10 …, and 2001:db8:ffff::10 …"""
        number = next(self._numbers)
        network = "203.0.113" if number < 256 else "192.0.2"
        return [ip_interface(f"{network}.{number % 256}/24"), ip_interface(f"2001:db8:ffff::{number}/64")]


class Station(Node):
    """A node with one cable to a network: `address` is its IPv4 address (or IPv6, without IPv4), `addresses` all."""

    interface = "eth0"

    def __init__(self, space: Space, name: str, network: Network, addresses: list[Interface]) -> None:
        super().__init__(space, name)
        self.network = network
        self.cable = Cable(self, self.interface, network)
        self.addresses: list[Interface] = []
        # a new cable may swallow the first question for a neighbour: do not wait a second before the next one
        self.ip(
            *(f"ntable change name {name} dev {self.interface} retrans 50" for name in ("arp_cache", "ndisc_cache"))
        )
        self._configure(addresses)
        self._settle()

    @property
    def address(self) -> str:
        """The first address, without the prefix length."""
        return str(self.addresses[0].ip)

    def readdress(self, *addresses: str) -> None:
        """Change to these addresses (ADDRESS/LENGTH), or to free ones of the same families."""
        chosen = [ip_interface(address) for address in addresses] or self._free()
        self._configure(chosen)

    def move(self, network: Network, *addresses: str) -> None:
        """Plug the cable into another network and take an address there."""
        self.cable.move(network)
        self.network = network
        self.readdress(*addresses)
        self._settle()

    def _free(self) -> list[Interface]:
        families = {address.version for address in self.addresses}
        return [address for address in self.network.free_addresses() if address.version in families]

    def _settle(self) -> None:
        """Wait until the cable carries packets: the kernel switches it on some time after both of its ends are up."""
        if self.cable.is_dark:
            return
        gateway = self.network.gateway(self.addresses[0])
        wait_until(lambda: self._reaches(gateway), f"{self.name} reaches its gateway {gateway}", 20)

    def _reaches(self, gateway: IPv4Address | IPv6Address) -> bool:
        """Whether the gateway refuses some knocks; a new socket each time, since it keeps the source it began with."""
        with self.socket(family=socket.AF_INET if gateway.version == 4 else socket.AF_INET6) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
            probe.setblocking(False)
            try:
                probe.connect((str(gateway), CLOSED_PORT))
            except OSError:  # no address of that family is ready
                return False
            for _ in range(KNOCKS):
                if _is_refused(probe):
                    return True
                time.sleep(0.005)
        return False

    def _configure(self, addresses: list[Interface]) -> None:
        """Add what is new before removing what is old; the kernel drops the mappings of removed addresses itself."""
        old = [address for address in self.addresses if address not in addresses]
        lines = [f"link set dev {self.interface} up"]
        lines += [
            f"address add {address} dev {self.interface}" for address in addresses if address not in self.addresses
        ]
        lines += [f"address del {address} dev {self.interface}" for address in old]
        gateways = {address.version: self.network.gateway(address) for address in reversed(addresses)}
        lines += [f"route replace default via {gateway} dev {self.interface}" for gateway in gateways.values()]
        self.ip(*lines)
        self.addresses = addresses


def _is_refused(probe: socket.socket) -> bool:
    """Knock once more; whether an earlier knock at a closed port was answered."""
    try:
        probe.send(b"")
        probe.recv(1)
    except BlockingIOError:
        return False
    except ConnectionRefusedError:
        return True
    return False


class Host(Station):
    """A host; it may have WireGuard interfaces."""

    def wireguard(
        self, name: str = "wg0", *addresses: str, port: int = 51820, private: bytes | None = None
    ) -> WireGuard:
        """Start wireguard-go with a new interface that listens on `port` (0: any) and is up."""
        return WireGuard(self, name, addresses, port, private)


class Router(Station, Network):
    """A router between its `wan` cable and the bridge `lan`; `profile` says what it translates (tests/lab/nat.py)."""

    interface = "wan"
    bridge = "lan"

    def __init__(
        self, space: Space, name: str, network: Network, addresses: list[Interface], profile: str, lans: list[str]
    ) -> None:
        super().__init__(space, name, network, addresses)
        self.profile = profile
        self.lans = [ip_network(lan) for lan in lans]
        self._numbers = count(10)
        lines = [f"address add {lan[1]}/{lan.prefixlen} dev lan" for lan in self.lans]
        self.ip(f"link add lan address {BRIDGE} up type bridge", *lines)
        self.sysctl("net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1")
        self._apply()

    def gateway(self, address: Interface) -> IPv4Address | IPv6Address:
        """Our own address in the LAN of that family."""
        return next(lan[1] for lan in self.lans if lan.version == address.version)

    def free_addresses(self) -> list[Interface]:
        """The tenth address of each LAN, then the next ones."""
        number = next(self._numbers)
        return [ip_interface(f"{lan[number]}/{lan.prefixlen}") for lan in self.lans]

    def readdress(self, *addresses: str) -> None:
        """Change the outer address: to these, or to free ones."""
        super().readdress(*addresses)
        self._apply()

    def reboot(self) -> None:
        """Forget every mapping; the addresses stay."""
        self._apply()
        nat.forget(self)

    def remember(self, unanswered: int = 30, answered: int = 120) -> None:
        """How many seconds an idle UDP mapping lives, before and after it was answered for 2 s."""
        folder = "net/netfilter/nf_conntrack_udp_timeout"
        self.sysctl(f"{folder}={unanswered}", f"{folder}_stream={answered}")

    def _apply(self) -> None:
        outer = [address for address in self.addresses if address.version == 4]
        self.nft(nat.rules(self.profile, str(outer[0].ip) if outer else ""))
        for lan in self.lans:
            if lan.version == 6 or self.profile == "fw":
                gateway = next(address.ip for address in self.addresses if address.version == lan.version)
                self.network.route(str(lan), str(gateway))
