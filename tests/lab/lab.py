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

Tests take the fixture `lab` (tests/conftest.py), which skips with the reason where there can be none; `lab.site("a",
"sym")` is a host in one of the situations SITES names. Nothing of the machine's own network is touched, and labs share
no name, so that any number may run at once.
"""

from __future__ import annotations

import os
from ipaddress import ip_interface
from itertools import count
from typing import Self

from tests.lab import nat
from tests.lab.space import LabError, LabUnavailable, Space
from tests.lab.stations import Host, Internet, Network, Router
from tests.lab.stun import StunServer

__all__ = ["SITES", "Host", "Lab", "LabError", "LabUnavailable", "Router"]

SITES = ("public", *nat.PROFILES, "dbl_masq", "dbl_sym", "fw6")


class Lab:
    """An internet to build on; a context manager.

    `user`: inside a user namespace, without privileges; by default only where the tests do not run as root.
    Raises LabUnavailable with the reason when this machine cannot.
    """

    def __init__(self, *, user: bool | None = None) -> None:
        self.space = Space(os.geteuid() != 0 if user is None else user)
        self._lans = count(1)
        try:
            self.internet = Internet(self.space)
        except BaseException:
            self.close()
            raise

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
