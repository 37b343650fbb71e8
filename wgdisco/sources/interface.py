"""The addresses this host holds that are worth telling a peer.

Left out: loopback, link-local, interfaces that are down, tunnels and VPNs, and what containers and virtual machines
use (bridges without a real port, veth, dummy), unless the host's own way out leads there, as inside a container.
Of IPv6 addresses the one the kernel sends from comes first, be it temporary (RFC 8981): WireGuard sends from it too,
and a firewall opens for nothing else. Stable ones follow; other temporary and deprecated ones are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from wgdisco.device.routes import Route, Routes, is_wireguard
from wgdisco.device.rtnetlink import Held, Link, RouteNetlink
from wgdisco.endpoint import Address, Endpoint
from wgdisco.policy import Sites, inside
from wgdisco.record import Kind
from wgdisco.sources import Found, Where

__all__ = ["InterfaceSource", "worthwhile"]

ABROAD = (ip_address("198.41.0.4"), ip_address("2001:503:ba3e::2:30"))
"""Where the default routes are looked up: a root name server. Nothing is sent there."""
UP, LOOPBACK, RUNNING = 0x1, 0x8, 0x40  # if.h
TEMPORARY, FAILED, DEPRECATED, TENTATIVE = 0x01, 0x08, 0x20, 0x40  # if_addr.h; TEMPORARY means SECONDARY for IPv4
TUNNELS = frozenset({"wireguard", "amneziawg", "tun", "ovpn", "xfrm", "vti", "vti6", "nlmon", "vcan"})
ENCAPSULATIONS = frozenset(
    {"sit", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ipip", "ip6tnl", "vxlan", "geneve"}
)
VIRTUAL = frozenset({"bridge", "veth", "dummy", "ifb", "netkit", "openvswitch"}) | ENCAPSULATIONS


@dataclass
class InterfaceSource:
    """Host candidates with WireGuard's listen port; routes are looked up with its fwmark."""

    listen_port: int
    fwmark: int = 0
    allowed_ips: Iterable[IPv4Network | IPv6Network] | Sites = ()
    name: str = "interface"

    async def find(self, deadline: float) -> Where:  # noqa: ARG002 - the kernel answers at once
        """What the kernel knows now; raises OSError when it does not tell."""
        with RouteNetlink() as netlink:
            links, addresses = netlink.links(), netlink.addresses()
            routes = Routes(netlink)
            ways = [way for way in (routes.lookup(each, self.fwmark) for each in ABROAD) if way is not None]
        found = worthwhile(links, addresses, ways, self.allowed_ips)
        return Where([self._found(address, link, ways) for address, link in found])

    def _found(self, address: Address, link: Link, ways: Collection[Route]) -> Found:
        detail = f"{link.name}, the way out" if address in [way.source for way in ways] else link.name
        return Found(Endpoint(address, self.listen_port), Kind.HOST, self.name, detail)


def worthwhile(
    links: Collection[Link],
    addresses: Iterable[Held],
    ways: Collection[Route],
    allowed_ips: Iterable[IPv4Network | IPv6Network] | Sites = (),
) -> list[tuple[Address, Link]]:
    """Addresses worth publishing with their interfaces, those the kernel sends from first. Sans I/O.

    `ways` are the default routes of both families, `allowed_ips` those of all peers.
    """
    out = {way.interface for way in ways}
    real = {link.number: link for link in links if _is_real(link, links, out)}
    preferred = [way.source for way in ways]
    held = [each for each in addresses if each.number in real and _is_usable(each, preferred)]
    held = [each for each in held if inside(each.address, allowed_ips) is None]
    return [(each.address, real[each.number]) for each in sorted(held, key=lambda each: each.address not in preferred)]


def _is_real(link: Link, links: Collection[Link], out: Collection[str]) -> bool:
    """Whether an interface belongs to the host's own network."""
    if not (link.flags & UP and link.flags & RUNNING) or link.flags & LOOPBACK or _is_tunnel(link):
        return False
    return link.name in out or link.kind not in VIRTUAL or any(_ports(link, links))


def _is_tunnel(link: Link) -> bool:
    return link.kind in TUNNELS or is_wireguard(link)


def _ports(bridge: Link, links: Collection[Link]) -> Iterator[Link]:
    """The ports of a bridge that are neither containers' nor virtual machines'."""
    return (each for each in links if each.master == bridge.number and each.kind not in VIRTUAL | TUNNELS)


def _is_usable(held: Held, preferred: Collection[Address]) -> bool:
    address = held.address
    if held.scope or held.flags & (FAILED | DEPRECATED | TENTATIVE):
        return False
    if address.is_link_local or address.is_loopback or address.is_multicast:
        return False
    return address.version == 4 or not held.flags & TEMPORARY or address in preferred
