"""WireGuard's own messages in generic netlink (linux/uapi/linux/wireguard.h, family `wireguard`, version 1). Sans I/O.

Payloads here begin behind the netlink header. The kernel splits what it tells over several messages, a peer with many
allowed-ips too; what it is told is split here, because an attribute holds less than 64 kB.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from wgdisco.device.genetlink import attribute, attributes, encode_command, nest
from wgdisco.device.types import Change, Interface, Network, Peer
from wgdisco.endpoint import Address, Endpoint
from wgdisco.errors import InvalidKey
from wgdisco.keys import PrivateKey, PublicKey

__all__ = ["encode_changes", "encode_get", "encode_peer", "parse_interface"]

GET_DEVICE, SET_DEVICE = 0, 1
INDEX, NAME, PRIVATE_KEY, PUBLIC_KEY, LISTEN_PORT, FWMARK, PEERS = 1, 2, 3, 4, 6, 7, 8  # WGDEVICE_A_*
KEY, PRESHARED, FLAGS, ENDPOINT, KEEPALIVE, HANDSHAKE, RX, TX, ALLOWED_IPS = range(1, 10)  # WGPEER_A_*
FAMILY, ADDRESS, PREFIX = 1, 2, 3  # WGALLOWEDIP_A_*
REMOVE_ME, REPLACE_ALLOWED_IPS, UPDATE_ONLY = 1, 2, 4  # WGPEER_F_*

ROOM = 60_000  # bytes of peers in one message: an attribute's length is 16 bits
ALLOWED_AT_ONCE = 1500  # of at most 40 bytes each
_U16, _U32, _U64, _TIME = struct.Struct("=H"), struct.Struct("=I"), struct.Struct("=Q"), struct.Struct("=qq")
_V4, _V6 = struct.Struct("=H2s4s8x"), struct.Struct("=H2s4x16sI")  # sockaddr_in, sockaddr_in6


def encode_get(name: str) -> bytes:
    """Ask for everything about an interface (a dump)."""
    return encode_command(GET_DEVICE, _name(name))


def encode_changes(name: str, changes: Sequence[Change]) -> list[bytes]:
    """Requests that apply `changes` in order and create no peer: as many as it takes."""
    return [_set(name, batch) for batch in _batches(_change(change) for change in changes)]


def encode_peer(name: str, peer: Peer, *, remove: bool) -> list[bytes]:
    """Requests that write all of a peer, creating it, and remove it first when asked to.

    More than one only for over 1,500 allowed-ips: sent in one system call, they are still worked off one by one, and
    whoever reads in between sees some missing. The keepalive comes last, for it may send a packet.
    """
    chunks = [peer.allowed_ips[n : n + ALLOWED_AT_ONCE] for n in range(0, len(peer.allowed_ips), ALLOWED_AT_ONCE)]
    first, *more = chunks or [()]
    key, keepalive = attribute(KEY, peer.key.raw), _values(None, peer.keepalive)
    parts = [
        key
        + attribute(PRESHARED, peer.preshared or bytes(32))
        + _flags(REPLACE_ALLOWED_IPS)
        + _values(peer.endpoint, None)
        + _allowed_ips(first),
        *(key + _flags(UPDATE_ONLY) + _allowed_ips(chunk) for chunk in more),
    ]
    parts[-1] += keepalive
    removal = [nest(0, key, _flags(REMOVE_ME))] if remove else []
    return [_set(name, [*(removal if n == 0 else []), nest(0, part)]) for n, part in enumerate(parts)]


def _set(name: str, peers: Iterable[bytes]) -> bytes:
    return encode_command(SET_DEVICE, _name(name), nest(PEERS, *peers))


def _name(name: str) -> bytes:
    return attribute(NAME, name.encode() + b"\0")


def _batches(peers: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Peers, in order, in lists that fit one message each."""
    batch: list[bytes] = []
    size = 0
    for peer in peers:
        if size + len(peer) > ROOM:
            yield batch
            batch, size = [], 0
        batch.append(peer)
        size += len(peer)
    if batch:
        yield batch


def _change(change: Change) -> bytes:
    values = _values(change.endpoint, change.keepalive)
    return nest(0, attribute(KEY, change.key.raw), _flags(UPDATE_ONLY), values)


def _flags(flags: int) -> bytes:
    return attribute(FLAGS, _U32.pack(flags))


def _values(endpoint: Endpoint | None, keepalive: int | None) -> bytes:
    first = attribute(ENDPOINT, _socket_address(endpoint)) if endpoint is not None else b""
    return first + (attribute(KEEPALIVE, _U16.pack(keepalive)) if keepalive is not None else b"")


def _socket_address(endpoint: Endpoint) -> bytes:
    address, port = endpoint.address, endpoint.port.to_bytes(2, "big")
    if isinstance(address, IPv4Address):
        return _V4.pack(socket.AF_INET, port, address.packed)
    return _V6.pack(socket.AF_INET6, port, address.packed, _scope(address))


def _scope(address: IPv6Address) -> int:
    """The interface number of a link-local address: its text form has the number or the interface's name."""
    scope = address.scope_id or "0"
    return int(scope) if scope.isdigit() else socket.if_nametoindex(scope)


def _allowed_ips(networks: Sequence[Network]) -> bytes:
    return nest(ALLOWED_IPS, *map(_allowed_ip, networks)) if networks else b""


def _allowed_ip(network: Network) -> bytes:
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    return nest(
        0,
        attribute(FAMILY, _U16.pack(family)),
        attribute(ADDRESS, network.network_address.packed),
        attribute(PREFIX, bytes([network.prefixlen])),
    )


def parse_interface(payloads: Iterable[bytes]) -> Interface:
    """The interface that the messages of one dump describe; a peer that is split over several is put together.

    Raises ValueError, KeyError, struct.error or InvalidKey (of our own key) when they make no sense.
    """
    values: dict[int, bytes] = {}
    found: dict[bytes, tuple[dict[int, bytes], list[Network]]] = {}
    for payload in payloads:
        for kind, value in attributes(payload[4:]):
            if kind != PEERS:
                values[kind] = value
                continue
            for _, peer in attributes(value):
                fields = dict(attributes(peer))
                known, allowed = found.setdefault(fields[KEY], (fields, []))
                known |= fields
                allowed += [_network(network) for _, network in attributes(fields.get(ALLOWED_IPS, b""))]
    return _interface(values, found)


def _interface(values: dict[int, bytes], found: dict[bytes, tuple[dict[int, bytes], list[Network]]]) -> Interface:
    private = PrivateKey(values[PRIVATE_KEY]) if any(values.get(PRIVATE_KEY, b"")) else None
    peers: dict[PublicKey, Peer] = {}
    refused = []
    for raw, (fields, allowed) in found.items():
        try:
            key = PublicKey(raw)
        except InvalidKey as error:
            refused.append(str(error))
        else:
            peers[key] = _peer(key, fields, tuple(allowed))
    return Interface(
        name=values[NAME].rstrip(b"\0").decode(),
        private=private,
        public=private.public if private else None,
        listen_port=_unsigned(_U16, values.get(LISTEN_PORT)),
        fwmark=_unsigned(_U32, values.get(FWMARK)),
        peers=peers,
        index=_unsigned(_U32, values.get(INDEX)),
        refused=tuple(refused),
    )


def _peer(key: PublicKey, fields: dict[int, bytes], allowed: tuple[Network, ...]) -> Peer:
    seconds, nanoseconds = _TIME.unpack(fields[HANDSHAKE]) if HANDSHAKE in fields else (0, 0)
    preshared = fields.get(PRESHARED, b"")
    return Peer(
        key=key,
        endpoint=_endpoint(fields[ENDPOINT]) if ENDPOINT in fields else None,
        keepalive=_unsigned(_U16, fields.get(KEEPALIVE)),
        allowed_ips=allowed,
        handshake=seconds + nanoseconds / 1e9,
        rx=_unsigned(_U64, fields.get(RX)),
        tx=_unsigned(_U64, fields.get(TX)),
        preshared=preshared if any(preshared) else None,
    )


def _unsigned(form: struct.Struct, value: bytes | None) -> int:
    return int(form.unpack(value)[0]) if value is not None else 0


@lru_cache(maxsize=65536)
def _endpoint(raw: bytes) -> Endpoint | None:
    """The endpoint, or None for one that nobody can send to: a peer may have roamed to port 0."""
    address: Address
    if len(raw) == _V4.size:
        _, port, packed = _V4.unpack(raw)
        address = IPv4Address(packed)
    else:
        _, port, packed, scope = _V6.unpack(raw)
        address = IPv6Address(f"{IPv6Address(packed)}%{scope}" if scope else packed)
    return Endpoint(address, int.from_bytes(port, "big")) if any(port) else None


@lru_cache(maxsize=65536)
def _network(nested: bytes) -> Network:
    fields = dict(attributes(nested))
    network = IPv4Network if _unsigned(_U16, fields[FAMILY]) == socket.AF_INET else IPv6Network
    return network((fields[ADDRESS], fields[PREFIX][0]), strict=False)
