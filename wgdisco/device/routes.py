"""By which interface, and from which address, this host would send to an address: the kernel's own answer."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from wgdisco.device.genetlink import attribute, attributes
from wgdisco.device.rtnetlink import Link, RouteNetlink
from wgdisco.endpoint import Address

__all__ = ["Route", "Routes", "is_strict", "is_wireguard"]

ROUTE = struct.Struct("=BBBBBBBBI")
GET_ROUTE = 26
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PREFSRC, RTA_MARK, RTA_VIA = 1, 4, 5, 7, 16, 18
UNICAST, LOCAL, BROADCAST, ANYCAST, MULTICAST = 1, 2, 3, 4, 5
USABLE = (UNICAST, LOCAL, BROADCAST, ANYCAST, MULTICAST)
CONF = Path("/proc/sys/net/ipv4/conf")
UAPI_FOLDER = Path("/var/run/wireguard")  # where userspace WireGuard puts its sockets, as wg(8) expects them


class Route(NamedTuple):
    """How a datagram would leave: by which interface, from which of our addresses, on link or by a gateway.

    `ours` says that the destination is an address of this host, `one` that it is a single host (no broadcast, multicast
    or anycast), `wireguard` that the interface is a WireGuard tunnel, `gateway` is the router's address.
    """

    interface: str
    source: Address
    on_link: bool = True
    ours: bool = False
    one: bool = True
    wireguard: bool = False
    gateway: Address | None = None


def is_wireguard(link: Link) -> bool:
    """Whether an interface is WireGuard's: by its kind, or by the control socket of a userspace implementation."""
    if link.kind in ("wireguard", "amneziawg"):
        return True
    try:
        return (UAPI_FOLDER / f"{link.name}.sock").exists()
    except PermissionError:  # only root may look, so a tun interface gets no benefit of the doubt
        return link.kind == "tun"


def is_strict(interface: str) -> bool:
    """Whether IPv4 packets are dropped that came in where an answer would not go out (rp_filter 1, RFC 3704)."""
    try:
        values = [int((CONF / each / "rp_filter").read_text()) for each in ("all", interface)]
    except (OSError, ValueError):
        return False
    return max(values) == 1  # the kernel's rule: the larger of the two counts


class Routes:
    """Route lookups over one netlink socket, which stays in the network namespace where it was opened."""

    def __init__(self, netlink: RouteNetlink | None = None) -> None:
        self._netlink = netlink or RouteNetlink()

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def lookup(self, address: Address, mark: int = 0) -> Route | None:
        """The route to `address` for packets with the firewall mark `mark`; None when there is none.

        With the mark of a WireGuard interface this is the way WireGuard's own packets take, also in a full tunnel.
        """
        try:
            return self._route(self._ask(address, mark))
        except OSError:  # unreachable, prohibited, blackhole, or the interface vanished between two questions
            return None

    def source(self, address: Address, mark: int = 0) -> Address | None:
        """Only the address from which a packet to `address` would be sent: half the questions of `lookup`."""
        try:
            found = dict(attributes(self._ask(address, mark)[ROUTE.size :]))
        except OSError:
            return None
        return ip_address(found[RTA_PREFSRC]) if RTA_PREFSRC in found else None

    def _ask(self, address: Address, mark: int) -> bytes:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        bits = 8 * len(address.packed)
        question = ROUTE.pack(family, bits, 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_DST, address.packed)
        if mark:
            question += attribute(RTA_MARK, struct.pack("=I", mark))
        return self._netlink.ask(GET_ROUTE, question)[0]

    def _route(self, answer: bytes) -> Route | None:
        kind = ROUTE.unpack_from(answer)[7]
        found = dict(attributes(answer[ROUTE.size :]))
        if kind not in USABLE or RTA_OIF not in found or RTA_PREFSRC not in found:
            return None
        link = self._netlink.link(*struct.unpack("=i", found[RTA_OIF]))
        return Route(
            interface=link.name,
            source=ip_address(found[RTA_PREFSRC]),
            on_link=RTA_GATEWAY not in found and RTA_VIA not in found,
            ours=kind == LOCAL,
            one=kind in (UNICAST, LOCAL),
            wireguard=is_wireguard(link),
            gateway=ip_address(found[RTA_GATEWAY]) if RTA_GATEWAY in found else None,
        )
