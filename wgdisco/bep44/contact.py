"""Node ids, their distance, and contacts in the compact form of BEP 5 and BEP 32. Sans I/O."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from wgdisco.endpoint import Address, Endpoint

__all__ = ["Contact", "compact", "distance", "endpoint_from", "host", "pack", "reachable", "unpack"]

ID = 20  # bytes of a node id (SHA-1)


class Contact(NamedTuple):
    """A node: its id (20 bytes) and where it answers."""

    id: bytes
    endpoint: Endpoint


def distance(a: bytes, b: bytes) -> int:
    """How far two ids are apart: their exclusive or, as a number (BEP 5)."""
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def host(address: Address) -> bytes:
    """What stands for one host in limits and counts: an IPv4 address (4 bytes), an IPv6 /64 prefix (8 bytes)."""
    return address.packed[:8]


def compact(endpoint: Endpoint) -> bytes:
    """Address and port, 6 or 18 bytes (BEP 5, BEP 32)."""
    return endpoint.address.packed + endpoint.port.to_bytes(2, "big")


def endpoint_from(data: bytes) -> Endpoint | None:
    """The endpoint in compact form, or None when there is none in `data`."""
    if len(data) == 6:
        return Endpoint(IPv4Address(data[:4]), int.from_bytes(data[4:], "big"))
    if len(data) == 18:
        return Endpoint(IPv6Address(data[:16]), int.from_bytes(data[16:], "big"))
    return None


def pack(contacts: Iterable[Contact]) -> bytes:
    """Contacts of one address family, 26 or 38 bytes each."""
    return b"".join(contact.id + compact(contact.endpoint) for contact in contacts)


def unpack(data: bytes, version: int, most: int = 16) -> list[Contact]:
    """At most `most` contacts of IP version 4 or 6; an incomplete one at the end is left out."""
    size = 26 if version == 4 else 38
    found: list[Contact] = []
    for start in range(0, min(len(data) - size, size * (most - 1)) + 1, size):
        endpoint = endpoint_from(data[start + ID : start + size])
        assert endpoint is not None  # the sizes are right
        found.append(Contact(data[start : start + ID], endpoint))
    return found


def reachable(endpoint: Endpoint, said_by: Endpoint) -> bool:
    """Whether a packet may be sent to where another node pointed: never from the Internet into our own network."""
    address = endpoint.address
    if not endpoint.port or address.is_multicast or address.is_unspecified or address == IPv4Address("255.255.255.255"):
        return False
    return address.is_global or not said_by.address.is_global
