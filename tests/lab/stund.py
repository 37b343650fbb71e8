"""A small STUN server with RFC 5780's tests: two addresses and two ports a family, UDP only.

`stund.py PORT OTHER-PORT ADDRESS [OTHER-ADDRESS] …`, the addresses in pairs of one family; prints "ready" when it
listens. Written apart from wgdisco's codec, so that a mistake there cannot hide here.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import sys

__all__ = ["COOKIE", "main"]

COOKIE = 0x2112A442
REQUEST, RESPONSE = 0x0001, 0x0101
CHANGE_REQUEST, XOR_MAPPED, RESPONSE_ORIGIN, OTHER_ADDRESS = 0x0003, 0x0020, 0x802B, 0x802C
CHANGE_ADDRESS, CHANGE_PORT = 4, 2

Corner = tuple[int, int]  # which of the two addresses, which of the two ports


def _address(kind: int, address: str, port: int, transaction: bytes = b"") -> bytes:
    """An address attribute; with a transaction id it is XORed (RFC 8489 §14.2)."""
    packed = ipaddress.ip_address(address).packed
    if transaction:
        mask = struct.pack("!I", COOKIE) + transaction
        packed = bytes(one ^ other for one, other in zip(packed, mask, strict=False))
        port ^= COOKIE >> 16
    return struct.pack("!HHBBH", kind, 4 + len(packed), 0, 1 if len(packed) == 4 else 2, port) + packed


def _change(attributes: bytes) -> int:
    """The flags of CHANGE-REQUEST (RFC 5780 §7.2); 0 without one."""
    while len(attributes) >= 4:
        kind, length = struct.unpack_from("!HH", attributes)
        if kind == CHANGE_REQUEST and length == 4:
            return int.from_bytes(attributes[4:8])
        attributes = attributes[4 + (length + 3) // 4 * 4 :]
    return 0


class Pair:
    """The four sockets of one family, by corner."""

    def __init__(self, addresses: list[str], ports: list[int]) -> None:
        family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
        self.corners: dict[Corner, socket.socket] = {}
        for i, address in enumerate(addresses):
            for j, port in enumerate(ports):
                opened = self.corners[i, j] = socket.socket(family, socket.SOCK_DGRAM)
                opened.bind((address, port))

    def serve(self, corner: Corner) -> None:
        """Answer one request that came in at this corner, from the corner it asks for."""
        request, source = self.corners[corner].recvfrom(2048)
        if len(request) < 20 or struct.unpack_from("!HHI", request)[::2] != (REQUEST, COOKIE):
            return
        change = _change(request[20:])
        wanted = (corner[0] ^ bool(change & CHANGE_ADDRESS), corner[1] ^ bool(change & CHANGE_PORT))
        if wanted not in self.corners:
            return
        body = _address(XOR_MAPPED, source[0], source[1], request[8:20])
        body += self._name(RESPONSE_ORIGIN, wanted) + self._name(OTHER_ADDRESS, (1 - corner[0], 1 - corner[1]))
        answer = struct.pack("!HHI", RESPONSE, len(body), COOKIE) + request[8:20] + body
        self.corners[wanted].sendto(answer, source)

    def _name(self, kind: int, corner: Corner) -> bytes:
        """The attribute that names a corner; nothing where there is no second address."""
        if corner not in self.corners:
            return b""
        return _address(kind, *self.corners[corner].getsockname()[:2])


def main(arguments: list[str]) -> None:
    """Serve for ever."""
    ports = [int(port) for port in arguments[:2]]
    addresses = arguments[2:]
    families = ([a for a in addresses if ":" not in a], [a for a in addresses if ":" in a])
    pairs = [Pair(family, ports) for family in families if family]
    sockets = {opened: (pair, corner) for pair in pairs for corner, opened in pair.corners.items()}
    print("ready", flush=True)
    while True:
        for opened in select.select(list(sockets), [], [])[0]:
            pair, corner = sockets[opened]
            pair.serve(corner)


if __name__ == "__main__":
    main(sys.argv[1:])
