"""STUN's attributes: a table of numbers and pairs of functions (RFC 8489 section 14, RFC 5780 section 7). Sans I/O."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum, IntFlag
from ipaddress import ip_address
from typing import Any, NamedTuple

from wgdisco.endpoint import Endpoint

__all__ = ["CODECS", "COOKIE", "Attribute", "Change", "StunError"]

COOKIE = 0x2112A442


class StunError(ValueError):
    """Bytes that are no well-formed STUN binding message; the only error `decode` raises."""


class Attribute(IntEnum):
    """The attributes we understand (RFC 8489 section 14, RFC 5780 section 7; CHANGED-ADDRESS is RFC 3489's)."""

    MAPPED_ADDRESS = 0x0001
    CHANGE_REQUEST = 0x0003
    CHANGED_ADDRESS = 0x0005
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    XOR_MAPPED_ADDRESS = 0x0020
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028
    RESPONSE_ORIGIN = 0x802B
    OTHER_ADDRESS = 0x802C


class Change(IntFlag):
    """From where a server is asked to answer (CHANGE-REQUEST, RFC 5780 section 7.2)."""

    PORT = 2
    ADDRESS = 4


def _pack_address(value: Endpoint, _: bytes) -> bytes:
    return struct.pack("!xBH", 1 if value.address.version == 4 else 2, value.port) + value.address.packed


def _unpack_address(data: bytes, _: bytes) -> Endpoint:
    if len(data) < 2 or (data[1], len(data)) not in ((1, 8), (2, 20)):
        raise StunError(f"an address of {len(data)} bytes, expected 8 for family 1 or 20 for family 2")
    return Endpoint(ip_address(data[4:]), int.from_bytes(data[2:4], "big"))


def _xor(data: bytes, transaction: bytes) -> bytes:
    """Mask port and address with cookie and transaction (RFC 8489 section 14.2)."""
    cookie = COOKIE.to_bytes(4, "big")
    mask = (bytes(2) + cookie[:2] + cookie + transaction)[: len(data)]
    return bytes(a ^ b for a, b in zip(data, mask, strict=True))


def _pack_xor_address(value: Endpoint, transaction: bytes) -> bytes:
    return _xor(_pack_address(value, transaction), transaction)


def _unpack_xor_address(data: bytes, transaction: bytes) -> Endpoint:
    return _unpack_address(_xor(data[:20], transaction) + data[20:], transaction)


def _pack_text(value: str, _: bytes) -> bytes:
    return value.encode()


def _unpack_text(data: bytes, _: bytes) -> str:
    return data.decode(errors="replace")


def _pack_error(value: tuple[int, str], _: bytes) -> bytes:
    return struct.pack("!xxBB", value[0] // 100, value[0] % 100) + value[1].encode()


def _unpack_error(data: bytes, _: bytes) -> tuple[int, str]:
    if len(data) < 4 or not (3 <= data[2] & 7 <= 6 and data[3] < 100):
        raise StunError(f"ERROR-CODE {data[:4].hex()!r}, expected a code from 300 to 699")
    return (data[2] & 7) * 100 + data[3], data[4:].decode(errors="replace")


def _pack_numbers(value: tuple[int, ...], _: bytes) -> bytes:
    return struct.pack(f"!{len(value)}H", *value)


def _unpack_numbers(data: bytes, _: bytes) -> tuple[int, ...]:
    if len(data) % 2:
        raise StunError(f"UNKNOWN-ATTRIBUTES of {len(data)} bytes, expected an even number")
    return struct.unpack(f"!{len(data) // 2}H", data)


def _pack_change(value: Change, _: bytes) -> bytes:
    return struct.pack("!I", value)


def _unpack_change(data: bytes, _: bytes) -> Change:
    if len(data) != 4:
        raise StunError(f"CHANGE-REQUEST of {len(data)} bytes, expected 4")
    return Change(data[3] & (Change.ADDRESS | Change.PORT))


class _Codec(NamedTuple):
    pack: Callable[[Any, bytes], bytes]
    unpack: Callable[[bytes, bytes], Any]


_ADDRESS, _TEXT = _Codec(_pack_address, _unpack_address), _Codec(_pack_text, _unpack_text)
CODECS: Mapping[int, _Codec] = {
    Attribute.MAPPED_ADDRESS: _ADDRESS,
    Attribute.CHANGE_REQUEST: _Codec(_pack_change, _unpack_change),
    Attribute.CHANGED_ADDRESS: _ADDRESS,
    Attribute.USERNAME: _TEXT,
    Attribute.ERROR_CODE: _Codec(_pack_error, _unpack_error),
    Attribute.UNKNOWN_ATTRIBUTES: _Codec(_pack_numbers, _unpack_numbers),
    Attribute.XOR_MAPPED_ADDRESS: _Codec(_pack_xor_address, _unpack_xor_address),
    Attribute.SOFTWARE: _TEXT,
    Attribute.RESPONSE_ORIGIN: _ADDRESS,
    Attribute.OTHER_ADDRESS: _ADDRESS,
}
