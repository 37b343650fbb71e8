"""What differs between IPv4 and IPv6 for UDP sockets: option numbers and control data (ip(7), ipv6(7), RFC 3542)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from wgdisco.endpoint import Address
from wgdisco.errors import AccessError

__all__ = ["FAMILIES", "Control", "Family", "mark"]

SO_MARK = 36
IP_PKTINFO = 8  # socket.IP_PKTINFO came with a later Python
INFO_V4, INFO_V6 = struct.Struct("=I4s4s"), struct.Struct("=16sI")

Control = tuple[int, int, bytes]


class Family(NamedTuple):
    """An IP version and the socket options that belong to it."""

    version: int
    number: socket.AddressFamily
    level: int
    receive_info: int
    info: int
    hops: int

    def controls(self, ttl: int | None, source: Address | None) -> list[Control]:
        """Control data that give one datagram its own TTL or hop limit, and the address it is sent from."""
        controls: list[Control] = []
        if ttl is not None:
            controls.append((self.level, self.hops, struct.pack("=i", ttl)))
        if source is not None:
            packed = source.packed
            info = INFO_V4.pack(0, packed, bytes(4)) if self.version == 4 else INFO_V6.pack(packed, 0)
            controls.append((self.level, self.info, info))
        return controls

    def local(self, controls: Iterable[Control]) -> Address:
        """The address of ours to which a datagram was sent, which is where its answer should come from."""
        for level, kind, data in controls:
            if (level, kind) == (self.level, self.info):
                return ip_address(INFO_V4.unpack(data)[1] if self.version == 4 else INFO_V6.unpack(data)[0])
        return ip_address(bytes(4 if self.version == 4 else 16))


FAMILIES = (
    Family(4, socket.AF_INET, socket.IPPROTO_IP, IP_PKTINFO, IP_PKTINFO, socket.IP_TTL),
    Family(6, socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, socket.IPV6_PKTINFO, socket.IPV6_HOPLIMIT),
)


def mark(sock: socket.socket, fwmark: int) -> None:
    """Send with WireGuard's own mark, so that the answer does not describe the far end of a full tunnel."""
    if not fwmark:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, fwmark)
    except PermissionError as error:
        raise AccessError(
            f"cannot send with the interface's fwmark {fwmark:#x}: that needs CAP_NET_RAW since Linux 5.17, "
            "CAP_NET_ADMIN before; run as root, or add them to AmbientCapabilities= in the systemd unit"
        ) from error
