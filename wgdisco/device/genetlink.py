"""Netlink and generic netlink on the wire: messages and attributes (netlink(7), RFC 3549, linux/genetlink.h). Sans I/O.

Integers are in the machine's byte order, messages and attributes are padded to four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = [
    "ACK",
    "DUMP",
    "DUMP_INTERRUPTED",
    "Message",
    "attribute",
    "attributes",
    "encode_family_request",
    "encode_message",
    "messages",
    "nest",
    "parse_family",
]

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300  # nlmsg_flags
DUMP_INTERRUPTED = 0x10
ERROR, DONE = 2, 3  # nlmsg_type
NESTED, KIND = 0x8000, 0x3FFF  # nla_type: the flag, and the bits that are the type
CONTROLLER, GET_FAMILY, FAMILY_ID, FAMILY_NAME = 0x10, 3, 1, 2

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # length without padding, type
_COMMAND = struct.Struct("=BBH")  # command, version, reserved


class Message(NamedTuple):
    """One netlink message received: `sequence` of the request it answers, `payload` behind the 16-byte header."""

    kind: int
    flags: int
    sequence: int
    payload: bytes

    @property
    def ends(self) -> bool:
        """Whether nothing follows for its request: an acknowledgement, an error, or the end of a dump."""
        return self.kind in (ERROR, DONE)

    @property
    def error(self) -> int:
        """The errno it carries, 0 for none."""
        return -int.from_bytes(self.payload[:4], "little" if _LITTLE else "big", signed=True) if self.ends else 0


_LITTLE = struct.pack("=H", 1) == b"\1\0"


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding; `value` is at most 65531 bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nest(kind: int, *inner: bytes) -> bytes:
    """An attribute made of attributes, 65531 bytes of them at most."""
    return attribute(kind | NESTED, b"".join(inner))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each attribute, flags removed; raises ValueError when a length makes no sense."""
    offset, end = 0, len(data)
    while end - offset >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not 4 <= length <= end - offset:
            raise ValueError(f"attribute {kind & KIND} claims {length} bytes of {end - offset}")
        yield kind & KIND, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram; raises ValueError when a length makes no sense."""
    offset, end = 0, len(data)
    while end - offset >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if not _HEADER.size <= length <= end - offset:
            raise ValueError(f"a netlink message claims {length} bytes of {end - offset}")
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def encode_message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """A request to the kernel; `payload` is already padded, as attributes are."""
    return _HEADER.pack(_HEADER.size + len(payload), kind, REQUEST | flags, sequence, 0) + payload


def encode_command(command: int, *inner: bytes) -> bytes:
    """The payload of a generic netlink request of version 1."""
    return _COMMAND.pack(command, 1, 0) + b"".join(inner)


def encode_family_request(name: str, sequence: int) -> bytes:
    """Ask for the number of the generic netlink family `name`."""
    payload = encode_command(GET_FAMILY, attribute(FAMILY_NAME, name.encode() + b"\0"))
    return encode_message(CONTROLLER, ACK, sequence, payload)


def parse_family(payload: bytes) -> int:
    """The family's number in the answer; raises KeyError when it is missing."""
    found = dict(attributes(payload[_COMMAND.size :]))
    return int(struct.unpack("=H", found[FAMILY_ID])[0])
