"""Sharing a UDP port that is in use: raw sockets that see only what is not WireGuard's (socket(7), raw(7), RFC 768).

The kernel gives a raw socket a copy of every inbound UDP datagram, and lets it send any; the owner of the port
notices nothing. A classic BPF program lets through only STUN binding messages, and while an answer from the DHT is
awaited bencoded dictionaries, so WireGuard's data costs us nothing.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address
from typing import NamedTuple

from wgdisco.device.family import Family, mark
from wgdisco.endpoint import Address, Endpoint
from wgdisco.errors import AccessError
from wgdisco.stun import COOKIE

__all__ = ["DICTIONARY", "Instruction", "admit", "open_raw", "port_filter", "udp_frame", "unframe"]

SO_ATTACH_FILTER = 26
IPV6_CHECKSUM, CHECKSUM_OFFSET = 7, 6
UDP = struct.Struct("!HHHH")
BINDING = 0xFEEF  # all bits of a message type but the two of its class
DICTIONARY = b"d"
"""What a bencoded dictionary begins with; neither STUN (0 … 3) nor WireGuard (1 … 4) does."""
LOAD_HEADER_LENGTH, LOAD_BYTE, LOAD_HALF, LOAD_WORD = 0xB1, 0x50, 0x48, 0x40  # X = 4 * (P[k] & 15); A = P[X + k]
AND, JUMP_EQUAL, RETURN = 0x54, 0x15, 0x06
WHOLE = 0xFFFF
MOST_QUEUED = 10_000  # more datagrams than a receive queue holds


class Instruction(NamedTuple):
    """One instruction of classic BPF (`struct sock_filter`)."""

    code: int
    jump_true: int
    jump_false: int
    k: int


def port_filter(port: int, version: int, *, dictionaries: bool = False) -> list[Instruction]:
    """Let pass STUN binding messages to `port`, and bencoded dictionaries if wanted.

    An IPv4 socket sees the IP header first, an IPv6 one does not.
    """
    stun = [(LOAD_HALF, 8, BINDING, 1), (LOAD_WORD, 12, None, COOKIE)]
    # the header's length is a multiple of 4 in the first byte of an IPv4 packet; for IPv6, X stays 0
    program = [Instruction(LOAD_HEADER_LENGTH, 0, 0, 0)] if version == 4 else []
    left = sum(3 if bits else 2 for _, _, bits, _ in stun)
    shortcut = 2 if dictionaries else 0
    program += [Instruction(LOAD_HALF, 0, 0, 2), Instruction(JUMP_EQUAL, 0, shortcut + left + 1, port)]
    if dictionaries:
        program += [Instruction(LOAD_BYTE, 0, 0, 8), Instruction(JUMP_EQUAL, left, 0, DICTIONARY[0])]
    for load, offset, bits, wanted in stun:
        program.append(Instruction(load, 0, 0, offset))
        if bits:
            program.append(Instruction(AND, 0, 0, bits))
        left -= 3 if bits else 2
        program.append(Instruction(JUMP_EQUAL, 0, left + 1, wanted))
    return [*program, Instruction(RETURN, 0, 0, WHOLE), Instruction(RETURN, 0, 0, 0)]


def admit(raw: socket.socket, family: Family, port: int, *, dictionaries: bool) -> None:
    """Change in one step what a raw socket receives: STUN messages for `port`, with or without dictionaries."""
    _attach(raw, port_filter(port, family.version, dictionaries=dictionaries))


def open_raw(family: Family, port: int, fwmark: int) -> socket.socket:
    """A raw socket that receives the STUN messages for UDP `port`; raises AccessError when that is not allowed."""
    try:
        raw = socket.socket(family.number, socket.SOCK_RAW, socket.IPPROTO_UDP)
    except PermissionError as error:
        raise AccessError(
            f"cannot share WireGuard's port {port} for STUN: the capability CAP_NET_RAW is missing; run as root, or "
            "set AmbientCapabilities=CAP_NET_RAW in the systemd unit (setcap on a Python program has no effect), "
            "or say where this node is: --endpoint ADDRESS:PORT"
        ) from error
    try:
        raw.setblocking(False)
        mark(raw, fwmark)
        admit(raw, family, port, dictionaries=False)
        if family.version == 6:
            raw.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, CHECKSUM_OFFSET)
        with suppress(BlockingIOError):  # what came between socket() and the filter is anything but STUN
            for _ in range(MOST_QUEUED):
                raw.recv(1)
    except BaseException:
        raw.close()
        raise
    return raw


def udp_frame(port: int, to: Endpoint, payload: bytes, source: Address | None) -> bytes:
    """A UDP datagram from `port`; with an IPv4 `source` its checksum is right, for IPv6 the kernel fills it in."""
    header = UDP.pack(port, to.port, UDP.size + len(payload), 0)
    if isinstance(source, IPv4Address):
        pseudo = source.packed + to.address.packed + struct.pack("!xBH", socket.IPPROTO_UDP, len(header + payload))
        header = header[:6] + struct.pack("!H", _checksum(pseudo + header + payload))
    return header + payload


def unframe(version: int, data: bytes) -> tuple[int, bytes]:
    """Source port and payload of what a raw socket received; raises ValueError when it is cut off."""
    start = 4 * (data[0] & 15) if version == 4 and data else 0
    if len(data) < start + UDP.size:
        raise ValueError(f"{len(data)} bytes hold no UDP header")
    source, _, length, _ = UDP.unpack_from(data, start)
    return source, data[start + UDP.size : start + length]


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 is sent as 0xffff, since 0 means that there is none."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF


def _attach(sock: socket.socket, program: list[Instruction]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))
