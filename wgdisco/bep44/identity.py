"""Node ids that are tied to an address (BEP 42). Sans I/O."""

from __future__ import annotations

import os

from wgdisco.endpoint import Address

__all__ = ["matches", "node_id"]

MASK_V4 = bytes.fromhex("030f3fff")
MASK_V6 = bytes.fromhex("0103070f1f3f7fff")
CASTAGNOLI = 0x82F63B78  # the polynomial of CRC32C, reflected


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (CASTAGNOLI if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _prefix(address: Address, last: int) -> bytes:
    """Three bytes, of which an id must share the first 21 bits; `last` is the id's last byte."""
    mask = MASK_V4 if address.version == 4 else MASK_V6
    masked = bytearray(a & b for a, b in zip(address.packed, mask, strict=False))
    masked[0] |= (last & 7) << 5
    return (_crc32c(bytes(masked)) >> 8).to_bytes(3, "big")


def node_id(address: Address | None = None) -> bytes:
    """A random id of 20 bytes, one that `address` may have where it is given."""
    random = os.urandom(20)
    if address is None:
        return random
    prefix = _prefix(address, random[19])
    return prefix[:2] + bytes([prefix[2] & 0xF8 | random[2] & 7]) + random[3:]


def matches(node: bytes, address: Address) -> bool:
    """Whether a node at `address` may have this id; addresses that are not global may have any."""
    if not address.is_global:
        return True
    prefix = _prefix(address, node[19])
    return node[:2] == prefix[:2] and node[2] & 0xF8 == prefix[2] & 0xF8
