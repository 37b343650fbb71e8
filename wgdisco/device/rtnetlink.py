"""A small rtnetlink: links, addresses and route lookups of this network namespace (rtnetlink(7)).

pyroute2 does all of this too, but importing it takes longer than the whole of `wgdisco endpoints`; we need three
questions, and the kernel answers each of them at once.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple, Self

from wgdisco.device.genetlink import DUMP, DUMP_INTERRUPTED, Message, attributes, encode_message, messages
from wgdisco.endpoint import Address

__all__ = ["Held", "Link", "RouteNetlink"]

LINK = struct.Struct("=BxHiII")
ADDRESS = struct.Struct("=BBBBI")
GET_LINK, GET_ADDRESS = 18, 22
IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 10, 18, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
LARGEST = 1 << 18  # bytes of one datagram
ANSWER_WITHIN = 2.0  # seconds; the kernel answers before sendto() returns, this only guards against a bug of ours


class Link(NamedTuple):
    """A network interface: `kind` as `ip -d link` names it ("" for hardware), `master` its bridge's number or 0."""

    number: int
    name: str
    flags: int
    kind: str
    master: int


class Held(NamedTuple):
    """An address that interface `number` holds, with the flags of if_addr.h and its scope (0: global)."""

    address: Address
    number: int
    flags: int
    scope: int


class RouteNetlink:
    """A netlink socket for questions about routes, links and addresses; raises OSError when the kernel says no."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(ANSWER_WITHIN)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, question: int, body: bytes, flags: int = 0) -> list[bytes]:
        """The bodies of all answers to one question; a dump that was interrupted by a change is asked again."""
        for _ in range(5):
            try:
                return list(self._answers(question, body, flags))
            except InterruptedError:
                continue
        raise BlockingIOError("the network configuration changes faster than it can be read")

    def links(self) -> list[Link]:
        """Every network interface."""
        return [_link(body) for body in self.ask(GET_LINK, LINK.pack(0, 0, 0, 0, 0), DUMP)]

    def link(self, number: int) -> Link:
        """One network interface by its number."""
        return _link(self.ask(GET_LINK, LINK.pack(0, 0, number, 0, 0))[0])

    def addresses(self) -> list[Held]:
        """Every IPv4 and IPv6 address that an interface holds."""
        bodies = self.ask(GET_ADDRESS, ADDRESS.pack(0, 0, 0, 0, 0), DUMP)
        return [_held(body) for body in bodies if body[0] in (socket.AF_INET, socket.AF_INET6)]

    def _answers(self, question: int, body: bytes, flags: int) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(encode_message(question, flags, self._sequence, body))
        interrupted = False
        for message in self._messages():
            interrupted |= bool(message.flags & DUMP_INTERRUPTED)
            if message.error:
                raise OSError(message.error, os.strerror(message.error))
            if message.ends:
                break
            yield message.payload
            if not flags & DUMP:
                break
        if interrupted:
            raise InterruptedError

    def _messages(self) -> Iterator[Message]:
        """What answers the last question; late answers to others are skipped."""
        while True:
            received = messages(self._socket.recv(LARGEST))
            yield from (message for message in received if message.sequence == self._sequence)


def _link(body: bytes) -> Link:
    _, _, number, flags, _ = LINK.unpack_from(body)
    found = dict(attributes(body[LINK.size :]))
    kind = dict(attributes(found.get(IFLA_LINKINFO, b""))).get(IFLA_INFO_KIND, b"")
    (master,) = struct.unpack("=i", found.get(IFLA_MASTER, bytes(4)))
    return Link(number, _text(found[IFLA_IFNAME]), flags, _text(kind), master)


def _held(body: bytes) -> Held:
    _, _, flags, scope, number = ADDRESS.unpack_from(body)
    found = dict(attributes(body[ADDRESS.size :]))
    if IFA_FLAGS in found:
        (flags,) = struct.unpack("=I", found[IFA_FLAGS])
    return Held(ip_address(found.get(IFA_LOCAL) or found[IFA_ADDRESS]), number, flags, scope)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
