"""The lab: an internet of network namespaces with routers, hosts and real WireGuard, gone when its process is.

    with Lab() as lab:
        stun = lab.stun()                                  # 203.0.113.x:3478, RFC 5780
        home = lab.router("home", "masq", lan="192.168.1.0/24")
        cafe = lab.router("cafe", "sym", lan="192.168.1.0/24")          # the same prefix is fine
        alice, bob = lab.host("alice", home), lab.host("bob", cafe)     # both 192.168.1.10
        wg = alice.wireguard("wg0", "10.9.0.1/24", port=51820)
        alice.run("ip", "-brief", "address").stdout        # a program in a host, as root of that network
        agent = alice.wgdisco("run", "-i", "wg0")          # a child process; its /run, /var/lib and /etc are alice's own
        alice.call(function, argument)                     # a function of some module, in a process of its own there
        sock = bob.socket()                                # a UDP socket of bob's network, in this process
        home.cable.delay(0.05)                             # one way; also lose(30), blackout()
        home.readdress()                                   # a new outer address; home.reboot() forgets the mappings
        alice.move(cafe)                                   # alice roams to the other network

Nothing of the machine's own network is touched. Labs share no name, so any number may run at once.
"""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface, ip_network
from itertools import chain, count
from typing import Self

from tests.lab import nat
from tests.lab.cable import Cable, Switch
from tests.lab.node import Node
from tests.lab.space import LabError, LabUnavailable, Space
from tests.lab.stun import StunServer
from tests.lab.wireguard import WireGuard

__all__ = ["SITES", "Host", "Internet", "Lab", "LabError", "LabUnavailable", "Router", "Station"]

Interface = IPv4Interface | IPv6Interface
SITES = ("public", *nat.PROFILES, "dbl_masq", "dbl_sym", "fw6")


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
        self.ip(f"link add name {self.bridge} up type bridge")
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
        self._configure(addresses)

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

    def _free(self) -> list[Interface]:
        families = {address.version for address in self.addresses}
        return [address for address in self.network.free_addresses() if address.version in families]

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
        self.ip("link add lan up type bridge", *lines)
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


class Lab:
    """An internet to build on; a context manager.

    `user`: inside a user namespace, without privileges; by default only where the tests do not run as root.
    Raises LabUnavailable with the reason when this machine cannot.
    """

    def __init__(self, *, user: bool | None = None) -> None:
        self.space = Space(os.geteuid() != 0 if user is None else user)
        self.internet = Internet(self.space)
        self._lans = count(1)

    def public(self, name: str, *addresses: str) -> Host:
        """A host on the internet with these addresses (ADDRESS/LENGTH), or with a free one of each family."""
        chosen = [ip_interface(address) for address in addresses] or self.internet.free_addresses()
        return Host(self.space, name, self.internet, chosen)

    def router(
        self,
        name: str,
        profile: str = "masq",
        *,
        lan: str = "",
        uplink: Network | None = None,
        address: str = "",
        ipv4: bool = True,
        ipv6: bool = False,
    ) -> Router:
        """A router at `uplink` (default: the internet), with the outer `address` (ADDRESS/LENGTH) or a free one.

        `lan` is its IPv4 prefix: by default 192.168.N.0/24, or a public one where nothing is translated. With `ipv6`
        it also has a global IPv6 prefix behind the firewall.
        """
        uplink = uplink or self.internet
        number = next(self._lans)
        wanted = {version for version, on in ((4, ipv4 and not address), (6, ipv6)) if on}
        outer = [ip_interface(address)] if address else []
        outer += [one for one in uplink.free_addresses() if one.version in wanted]
        lans = [lan or (f"198.18.{number}.0/24" if profile == "fw" else f"192.168.{number}.0/24")] if ipv4 else []
        lans += [f"2001:db8:{number:x}::/64"] if ipv6 else []
        return Router(self.space, name, uplink, outer, profile, lans)

    def host(self, name: str, router: Router, *addresses: str) -> Host:
        """A host in a router's LAN with these addresses (ADDRESS/LENGTH), or with free ones."""
        chosen = [ip_interface(address) for address in addresses] or router.free_addresses()
        return Host(self.space, name, router, chosen)

    def site(self, name: str, kind: str) -> Host:
        """A host in one of the situations SITES names, with the routers it takes."""
        if kind == "public":
            return self.public(name)
        if kind == "fw6":
            return self.host(name, self.router(f"{name}-r", "fw", ipv4=False, ipv6=True))
        if kind.startswith("dbl_"):
            carrier = self.router(f"{name}-cgn", kind.removeprefix("dbl_"), lan="100.64.0.0/16")
            return self.host(name, self.router(f"{name}-r", "masq", uplink=carrier))
        return self.host(name, self.router(f"{name}-r", kind))

    def stun(self, name: str = "stun") -> StunServer:
        """A STUN server on the internet, with second addresses for RFC 5780's tests."""
        addresses = self.internet.free_addresses()
        number = int(addresses[0].ip) % 256
        others = [ip_interface(f"198.51.100.{number}/24"), ip_interface(f"2001:db8:fffe::{number}/64")]
        return StunServer(Host(self.space, name, self.internet, addresses + others))

    def close(self) -> None:
        """End every program in the lab; the kernel removes the rest."""
        self.space.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
