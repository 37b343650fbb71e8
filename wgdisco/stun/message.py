"""STUN messages: bytes to Message and back, integrity and fingerprint (RFC 8489). Sans I/O."""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any
from zlib import crc32

from wgdisco.endpoint import Endpoint
from wgdisco.stun.attributes import CODECS, COOKIE, Attribute, StunError

__all__ = ["Integrity", "Message", "Type", "decode", "encode"]

HEADER = struct.Struct("!HHI12s")
FINGERPRINT_XOR = 0x5354554E
_CODES = {Attribute.MESSAGE_INTEGRITY, Attribute.MESSAGE_INTEGRITY_SHA256, Attribute.FINGERPRINT}


class Type(IntEnum):
    """The binding method in its four classes (RFC 8489 section 5)."""

    REQUEST = 0x0001
    INDICATION = 0x0011
    SUCCESS = 0x0101
    ERROR = 0x0111


class Integrity(IntEnum):
    """How a message is authenticated with a shared key (RFC 8489 sections 14.5 and 14.6)."""

    SHA1 = Attribute.MESSAGE_INTEGRITY
    SHA256 = Attribute.MESSAGE_INTEGRITY_SHA256

    @property
    def size(self) -> int:
        """Bytes of the whole code; a truncated one is never accepted."""
        return 20 if self is Integrity.SHA1 else 32


@dataclass(frozen=True, slots=True)
class Message:
    """One STUN message.

    `transaction` is 12 random bytes. `attributes` holds Endpoint for addresses, str for USERNAME and SOFTWARE, (code,
    reason) for ERROR-CODE, a tuple of numbers for UNKNOWN-ATTRIBUTES, Change for CHANGE-REQUEST. `unknown` lists the
    attributes that we would have to understand. `raw` is what was received; integrity is checked over exactly that.
    """

    type: Type = Type.REQUEST
    attributes: Mapping[Attribute, Any] = field(default_factory=dict)
    transaction: bytes = field(default_factory=lambda: os.urandom(12))
    unknown: tuple[int, ...] = ()
    raw: bytes = field(default=b"", compare=False, repr=False)
    codes: Mapping[int, int] = field(default_factory=dict, compare=False, repr=False)  # where each code starts in raw

    @property
    def mapped(self) -> Endpoint | None:
        """Where the sender of the request was seen; None when the answer does not say."""
        return self.attributes.get(Attribute.XOR_MAPPED_ADDRESS) or self.attributes.get(Attribute.MAPPED_ADDRESS)

    @property
    def other(self) -> Endpoint | None:
        """The server's second address and port, when it can help to discover the behaviour of a NAT."""
        return self.attributes.get(Attribute.OTHER_ADDRESS) or self.attributes.get(Attribute.CHANGED_ADDRESS)

    def signed_by(self, key: bytes, by: Integrity = Integrity.SHA256) -> bool:
        """Whether this received message carries a valid integrity code under `key`, of exactly the kind `by`."""
        start = self.codes.get(by)
        if start is None:
            return False
        code = self.raw[start + 4 : start + 4 + self.raw[start + 3]]
        return hmac.compare_digest(code, _code(self.raw[:start], key, by))

    def answer(self, type: Type, attributes: Mapping[Attribute, Any]) -> Message:  # noqa: A002 - the field's name
        """A response to this request."""
        return Message(type, attributes, self.transaction)


def encode(message: Message, key: bytes | None = None, by: Integrity = Integrity.SHA256) -> bytes:
    """The message in bytes, with an integrity code under `key` if there is one, and with a fingerprint."""
    body = b"".join(
        _attribute(kind, CODECS[kind].pack(value, message.transaction)) for kind, value in message.attributes.items()
    )
    data = HEADER.pack(message.type, len(body), COOKIE, message.transaction) + body
    if key is not None:
        data = _extended(data, by.size) + _attribute(by, _code(data, key, by))
    return _extended(data, 4) + _attribute(Attribute.FINGERPRINT, _fingerprint(data))


def decode(data: bytes) -> Message:
    """Read a whole datagram; raises StunError and nothing else. A fingerprint, when there is one, has to be right."""
    if len(data) < HEADER.size:
        raise StunError(f"{len(data)} bytes are too few for a STUN header")
    number, length, cookie, transaction = HEADER.unpack_from(data)
    if cookie != COOKIE or length != len(data) - HEADER.size or length % 4:
        raise StunError(f"no STUN message: cookie {cookie:#010x}, length {length} in {len(data)} bytes")
    try:
        kind = Type(number)
    except ValueError as error:
        raise StunError(f"message type {number:#06x} is not of the binding method") from error
    attributes: dict[Attribute, Any] = {}
    unknown: list[int] = []
    codes: dict[int, int] = {}
    for start, name, value in _walk(data):
        if Attribute.FINGERPRINT in codes:
            raise StunError(f"attribute {name:#06x} follows the fingerprint")
        if name in _CODES:
            _check_code(name, value, data[:start])
            codes.setdefault(name, start)
        elif codes:
            continue  # what follows an integrity code is not covered by it (RFC 8489 section 14.5)
        elif name in CODECS:
            known = Attribute(name)
            attributes.setdefault(known, CODECS[known].unpack(value, transaction))
        elif name < 0x8000:
            unknown.append(name)
    return Message(kind, attributes, transaction, tuple(unknown), data, codes)


def _walk(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Offset, number and value of each attribute, in order."""
    position = HEADER.size
    while position < len(data):
        name, size = struct.unpack_from("!HH", data, position)
        if position + 4 + size > len(data):
            raise StunError(f"attribute {name:#06x} of {size} bytes reaches beyond the message")
        yield position, name, data[position + 4 : position + 4 + size]
        position += 4 + size + -size % 4


def _check_code(name: int, value: bytes, before: bytes) -> None:
    if name == Attribute.FINGERPRINT and value != _fingerprint(before):
        raise StunError("the fingerprint is wrong: damaged on the way, or no STUN at all")
    if name == Attribute.MESSAGE_INTEGRITY and len(value) != 20:
        raise StunError(f"MESSAGE-INTEGRITY of {len(value)} bytes, expected 20")
    if name == Attribute.MESSAGE_INTEGRITY_SHA256 and not (16 <= len(value) <= 32 and len(value) % 4 == 0):
        raise StunError(f"MESSAGE-INTEGRITY-SHA256 of {len(value)} bytes, expected 16 to 32 in steps of 4")


def _attribute(name: int, value: bytes) -> bytes:
    return struct.pack("!HH", name, len(value)) + value + bytes(-len(value) % 4)


def _extended(data: bytes, size: int) -> bytes:
    """The message as if an attribute of `size` bytes ended it: every code covers the length including itself."""
    return data[:2] + struct.pack("!H", len(data) - HEADER.size + 4 + size) + data[4:]


def _code(before: bytes, key: bytes, by: Integrity) -> bytes:
    return hmac.digest(key, _extended(before, by.size), by.name.lower())


def _fingerprint(before: bytes) -> bytes:
    return struct.pack("!I", crc32(_extended(before, 4)) ^ FINGERPRINT_XOR)
