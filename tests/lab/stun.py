"""A STUN server in the lab, and RFC 5780's tests by a plain UDP socket: what a NAT maps and what it lets in."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.lab.node import Node
from tests.lab.space import HERE, LabError
from tests.lab.stund import CHANGE_ADDRESS, CHANGE_PORT, CHANGE_REQUEST, COOKIE, OTHER_ADDRESS, REQUEST, XOR_MAPPED

if TYPE_CHECKING:
    from tests.lab.stations import Host

__all__ = ["Answer", "Behaviour", "StunServer", "ask", "behaviour"]

Place = tuple[str, int]
PORT, OTHER_PORT = 3478, 3479
INDEPENDENT, ADDRESS, BOTH = "endpoint-independent", "address-dependent", "address-and-port-dependent"


class Answer(NamedTuple):
    """Our address as the server sees it, and the server's other address and port."""

    mapped: Place
    other: Place | None


class Behaviour(NamedTuple):
    """What a NAT does, in RFC 4787's words."""

    mapping: str
    filtering: str


class StunServer:
    """A server at `place` (IPv4) and `place6`, both (address, port); `text` is ADDRESS:PORT."""

    def __init__(self, host: Host) -> None:
        self.host = host
        addresses = [str(address.ip) for address in host.addresses]
        self.process = host.popen(sys.executable, "-IS", HERE / "stund.py", str(PORT), str(OTHER_PORT), *addresses)
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise LabError(f"the STUN server on {addresses} did not start")
        self.place: Place = (next(address for address in addresses if ":" not in address), PORT)
        self.place6: Place = (next(address for address in addresses if ":" in address), PORT)

    @property
    def text(self) -> str:
        """The IPv4 address and port, as options take them."""
        return f"{self.place[0]}:{self.place[1]}"


def ask(probe: socket.socket, server: Place, change: int = 0, tries: int = 2, timeout: float = 0.3) -> Answer | None:
    """One binding transaction over a UDP socket; None when `tries` requests, `timeout` s each, had no answer."""
    transaction = os.urandom(12)
    body = struct.pack("!HHI", CHANGE_REQUEST, 4, change) if change else b""
    probe.settimeout(timeout)
    for _ in range(tries):
        probe.sendto(struct.pack("!HHI", REQUEST, len(body), COOKIE) + transaction + body, server)
        try:
            while (answer := probe.recv(2048))[8:20] != transaction:
                pass
        except TimeoutError:
            continue
        return _parse(answer)
    return None


def behaviour(node: Node, server: Place) -> Behaviour:
    """RFC 5780 §4.3 and §4.4 from a node; raises LabError if the server cannot be reached."""
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    with node.socket(family=family) as first, node.socket(family=family) as second:
        # filtering first and from another port: the mapping tests open the filter
        return Behaviour(filtering=_filtering(first, server), mapping=_mapping(second, server))


def _filtering(probe: socket.socket, server: Place) -> str:
    _reach(probe, server)
    if ask(probe, server, CHANGE_ADDRESS | CHANGE_PORT):
        return INDEPENDENT
    return ADDRESS if ask(probe, server, CHANGE_PORT) else BOTH


def _mapping(probe: socket.socket, server: Place) -> str:
    first = _reach(probe, server)
    assert first.other is not None
    second = _reach(probe, (first.other[0], server[1]))
    if second.mapped == first.mapped:
        return INDEPENDENT
    return ADDRESS if _reach(probe, first.other).mapped == second.mapped else BOTH


def _reach(probe: socket.socket, server: Place) -> Answer:
    answer = ask(probe, server)
    if answer is None:
        raise LabError(f"no answer from the STUN server {server}")
    return answer


def _parse(message: bytes) -> Answer:
    attributes, rest = {}, message[20:]
    while len(rest) >= 4:
        kind, length = struct.unpack_from("!HH", rest)
        attributes[kind] = rest[4 : 4 + length]
        rest = rest[4 + (length + 3) // 4 * 4 :]
    other = attributes.get(OTHER_ADDRESS)
    mapped = _place(attributes[XOR_MAPPED], message[4:20])
    return Answer(mapped, _place(other, bytes(16)) if other else None)


def _place(value: bytes, mask: bytes) -> Place:
    """An address attribute's value, un-XORed with the cookie and transaction id, or with zeros."""
    port = int.from_bytes(value[2:4]) ^ int.from_bytes(mask[:2])
    address = bytes(one ^ other for one, other in zip(value[4:], mask, strict=False))
    return str(ipaddress.ip_address(address)), port
