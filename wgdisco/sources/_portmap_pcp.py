"""PCP (RFC 6887) and NAT-PMP (RFC 6886) messages: ask a router to forward one of our UDP ports. Sans I/O.

```
request = pcp_map(client, nonce, 51820, 3600)           # 60 bytes to UDP port 5351 of the router
reply = read_pcp(answer, nonce, 51820)                  # None when it is no answer to that
```
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from wgdisco.endpoint import Address, Endpoint

__all__ = [
    "LONGEST_LIFETIME",
    "NONCE",
    "PORT",
    "SUCCESS",
    "TEMPORARY",
    "UNSUPPORTED",
    "Epoch",
    "Reply",
    "natpmp_address",
    "natpmp_map",
    "pcp_announce",
    "pcp_map",
    "read_natpmp",
    "read_pcp",
]

PORT = 5351
"""UDP port of the router, of both protocols (RFC 6887 section 19.1)."""
NONCE = 12
"""Bytes of a mapping nonce."""
LONGEST_LIFETIME = 86400  # seconds that we believe (RFC 6887 section 15 advises against more)
UDP = 17
ANNOUNCE, MAP, RESPONSE = 0, 1, 0x80
HEADER = struct.Struct("!BBHI16s")  # version, opcode, reserved, lifetime, our address (section 7.1)
ANSWER = struct.Struct("!BBBBII12x")  # version, opcode, reserved, result, lifetime, epoch (section 7.2)
MAPPING = struct.Struct("!12sB3xHH16s")  # nonce, protocol, inner port, outer port, outer address (section 11.1)
PMP_MAP = struct.Struct("!BBHHHI")  # RFC 6886 section 3.3
PMP_ANSWER = struct.Struct("!BBHI")  # version, opcode, result, epoch
V4_MAPPED = bytes(10) + b"\xff\xff"  # before an IPv4 address in 16 bytes (RFC 6887 section 5)

SUCCESS, UNSUPPORTED = "SUCCESS", "UNSUPP_VERSION"
PCP_RESULTS = (
    SUCCESS,
    UNSUPPORTED,
    "NOT_AUTHORIZED",
    "MALFORMED_REQUEST",
    "UNSUPP_OPCODE",
    "UNSUPP_OPTION",
    "MALFORMED_OPTION",
    "NETWORK_FAILURE",
    "NO_RESOURCES",
    "UNSUPP_PROTOCOL",
    "USER_EX_QUOTA",
    "CANNOT_PROVIDE_EXTERNAL",
    "ADDRESS_MISMATCH",
    "EXCESSIVE_REMOTE_PEERS",
)
PMP_RESULTS = (
    SUCCESS,
    UNSUPPORTED,
    "Not Authorized/Refused",
    "Network Failure",
    "Out of resources",
    "Unsupported opcode",
)
TEMPORARY = frozenset({"NETWORK_FAILURE", "NO_RESOURCES", "Network Failure", "Out of resources"})
"""Results that may be others in a minute: the router has no connection yet, or is full."""


class Epoch(NamedTuple):
    """How long a router says that it has kept its mappings, and our own clock at that time; both in seconds."""

    theirs: int
    ours: float

    def continues(self, earlier: Epoch) -> bool:
        """Whether the router has lost nothing since `earlier` (RFC 6887 section 8.5)."""
        if self.theirs + 1 < earlier.theirs:
            return False
        theirs, ours = self.theirs - earlier.theirs, self.ours - earlier.ours
        return not (ours + 2 < theirs - theirs / 16 or theirs + 2 < ours - ours / 16)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a router answered: the result's name in its RFC, its epoch and the lifetime of what it granted in seconds.

    `address` and `port` are where it receives for us; None and 0 where the question was another one or was refused.
    """

    result: str
    epoch: int = 0
    lifetime: int = 0
    address: Address | None = None
    port: int = 0


def pcp_map(client: Address, nonce: bytes, port: int, lifetime: int, suggested: Endpoint | None = None) -> bytes:
    """60 bytes: forward UDP `port` to `client`, our address towards the router, for so many seconds; 0 ends it."""
    nothing = IPv4Address(0) if client.version == 4 else IPv6Address(0)
    outer = suggested or Endpoint(nothing, 0 if lifetime == 0 else port)
    body = MAPPING.pack(nonce, UDP, port, outer.port, _sixteen(outer.address))
    return HEADER.pack(2, MAP, 0, lifetime, _sixteen(client)) + body


def pcp_announce(client: Address) -> bytes:
    """24 bytes: only ask for the epoch (RFC 6887 section 14.1)."""
    return HEADER.pack(2, ANNOUNCE, 0, 0, _sixteen(client))


def read_pcp(data: bytes, nonce: bytes = b"", port: int = 0) -> Reply | None:
    """The answer to `pcp_map` with this nonce and port, or without a nonce to `pcp_announce`; None for anything else.

    A router of another version says so in its own words (RFC 6887 section 9, RFC 6886 section 3.5).
    """
    if len(data) >= 4 and data[0] != 2 and data[1] & RESPONSE:
        said = data[2:4] if data[0] == 0 else data[3:4]
        return Reply(UNSUPPORTED) if int.from_bytes(said) == 1 else None
    if len(data) < ANSWER.size or data[:2] != bytes([2, RESPONSE | (MAP if nonce else ANNOUNCE)]):
        return None
    _, _, _, code, lifetime, epoch = ANSWER.unpack_from(data)
    result = _name(PCP_RESULTS, code)
    if not nonce:
        return Reply(result, epoch)
    if len(data) < ANSWER.size + MAPPING.size:  # as it may be when the router could make nothing of the request
        return None if result == SUCCESS else Reply(result, epoch)
    theirs, protocol, inner, outer, address = MAPPING.unpack_from(data, ANSWER.size)
    if (theirs, protocol, inner) != (nonce, UDP, port):
        return None
    if result != SUCCESS:
        return Reply(result, epoch)
    return Reply(result, epoch, min(lifetime, LONGEST_LIFETIME), _address(address), outer)


def natpmp_address() -> bytes:
    """2 bytes: ask for the router's outer address and its epoch (RFC 6886 section 3.2)."""
    return bytes(2)


def natpmp_map(port: int, outer: int, lifetime: int) -> bytes:
    """12 bytes: forward UDP `port` from the outer port, another one if that is taken; lifetime 0 s ends it."""
    return PMP_MAP.pack(0, 1, 0, port, outer, lifetime)


def read_natpmp(data: bytes, port: int = 0) -> Reply | None:
    """The answer to `natpmp_map` for this port, or without one to `natpmp_address`; None for anything else."""
    if len(data) < PMP_ANSWER.size or data[1] != RESPONSE | bool(port):
        return None
    version, _, code, epoch = PMP_ANSWER.unpack_from(data)
    result = UNSUPPORTED if version else _name(PMP_RESULTS, code)
    if result != SUCCESS:
        return Reply(result, epoch)
    if not port:
        return Reply(result, epoch, address=IPv4Address(data[8:12])) if len(data) >= 12 else None
    if len(data) < 16:
        return None
    inner, outer, lifetime = struct.unpack_from("!HHI", data, 8)
    return Reply(result, epoch, min(lifetime, LONGEST_LIFETIME), None, outer) if inner == port else None


def _name(names: tuple[str, ...], code: int) -> str:
    return names[code] if code < len(names) else f"result {code}"


def _sixteen(address: Address) -> bytes:
    return address.packed if address.version == 6 else V4_MAPPED + address.packed


def _address(sixteen: bytes) -> Address:
    return ip_address(sixteen[12:] if sixteen.startswith(V4_MAPPED) else sixteen)
