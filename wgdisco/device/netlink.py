"""Kernel WireGuard by generic netlink, and which interfaces of that kind there are (rtnetlink(7)).

Every call opens its own socket: it belongs to the network namespace of the thread that calls, and nothing is left over
from a call that failed.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from errno import EACCES, EINTR, EIO, ENODEV, ENOENT, EOPNOTSUPP, EPERM
from typing import Self

from wgdisco.device import genetlink, kernel
from wgdisco.device.genetlink import ACK, DUMP, Message, attribute, attributes, encode_message
from wgdisco.device.restart import restart
from wgdisco.device.types import Change, Interface, Peer
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, InvalidKey, NoDevice
from wgdisco.keys import PublicKey

__all__ = ["KernelDevice", "list_links"]

SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_GENERIC, SO_SNDBUFFORCE = 270, 10, 16, 32  # Python has no names for these
RTM_GETLINK, IFLA_IFNAME, IFLA_LINKINFO, IFLA_EXT_MASK, IFLA_INFO_KIND = 18, 3, 18, 29, 1
SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
TIMEOUT = 10.0  # seconds for one answer
TRIES = 10  # for a dump during which something changed
LARGEST = 1 << 16  # bytes of one datagram; the kernel makes them up to 32 kB


def list_links() -> list[str]:
    """The names of the kernel's WireGuard interfaces in this network namespace, sorted."""
    payload = bytes(16) + attribute(IFLA_EXT_MASK, struct.pack("=I", SKIP_STATISTICS))
    try:
        with _Netlink(socket.NETLINK_ROUTE) as netlink:
            answer = netlink.dump(RTM_GETLINK, payload)
    except OSError as error:
        raise AccessError(f"cannot list network interfaces by netlink: {error.strerror or error}") from error
    links = [dict(attributes(message.payload[16:])) for message in answer]
    return sorted(_text(link[IFLA_IFNAME]) for link in links if _kind(link) == "wireguard")


def _kind(link: dict[int, bytes]) -> str:
    return _text(dict(attributes(link.get(IFLA_LINKINFO, b""))).get(IFLA_INFO_KIND, b""))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


class KernelDevice:
    """An interface of the kernel's own WireGuard."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self) -> Interface:
        """Read everything at once; see Device."""
        try:
            with _Netlink(NETLINK_GENERIC) as netlink:
                answer = netlink.dump(_family(netlink), kernel.encode_get(self.name))
            return kernel.parse_interface(message.payload for message in answer)
        except OSError as error:
            raise self._explain(error) from error
        except (ValueError, KeyError, struct.error, InvalidKey) as error:
            # without `from error`, whose text would quote what may be a key
            raise AccessError(f"{self.name}: the kernel's answer makes no sense ({type(error).__name__})") from None

    def update(self, changes: Sequence[Change]) -> None:
        """Apply all changes in one batch; see Device. More than about 700 peers take several messages."""
        self._set([[request] for request in kernel.encode_changes(self.name, changes)])

    def restart_peer(self, key: PublicKey, endpoint: Endpoint, keepalive: int, *, since: Peer | None = None) -> None:
        """Remove and re-add a peer that has no session; see Device."""
        restart(self, key, endpoint, keepalive, since)

    def replace(self, peer: Peer, *, remove: bool) -> None:
        """Write all of a peer in one sendmsg(2): for `restart` only, which checks before and after."""
        self._set([kernel.encode_peer(self.name, peer, remove=remove)])

    def _set(self, groups: list[list[bytes]]) -> None:
        """Send groups of requests, each group in one system call."""
        try:
            with _Netlink(NETLINK_GENERIC) as netlink:
                family = _family(netlink)
                for group in groups:
                    netlink.request(family, ACK, group)
        except OSError as error:
            raise self._explain(error) from error

    def _explain(self, error: OSError) -> AccessError:
        if error.errno == ENODEV:
            return NoDevice(f"the interface {self.name!r} is gone; `wg show interfaces` lists what exists")
        if error.errno == EOPNOTSUPP:
            return NoDevice(f"{self.name!r} is no WireGuard interface; `wg show interfaces` lists what is")
        if error.errno in (EPERM, EACCES):
            return AccessError(f"{self.name}: permission denied: run as root, or give this program CAP_NET_ADMIN")
        return AccessError(f"{self.name}: the kernel says: {error.strerror or error}")


def _family(netlink: _Netlink) -> int:
    """The number of the family `wireguard`; raises AccessError when the kernel has none."""
    sequence = netlink.next_sequence()
    try:
        (answer,) = netlink.transact([genetlink.encode_family_request("wireguard", sequence)], [sequence])
    except OSError as error:
        if error.errno != ENOENT:
            raise
        raise AccessError("this kernel has no WireGuard: `modprobe wireguard`, or run wireguard-go") from error
    return genetlink.parse_family(answer.payload)


class _Netlink:
    """One netlink socket, from `with` to its end. Raises OSError with the errno that the kernel gave."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self._sequence = 0
        self._socket.settimeout(TIMEOUT)
        # without it an error comes back with the request, keys included
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self._socket.bind((0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def next_sequence(self) -> int:
        """A number for the next request."""
        self._sequence += 1
        return self._sequence

    def dump(self, kind: int, payload: bytes) -> list[Message]:
        """All messages of a dump, taken anew while something changed during it."""
        for _ in range(TRIES):
            answer = self.request(kind, DUMP, [payload])
            if not any(message.flags & genetlink.DUMP_INTERRUPTED for message in answer):
                return answer
        raise OSError(EINTR, f"something changed in each of {TRIES} readings; try again")

    def request(self, kind: int, flags: int, payloads: Sequence[bytes]) -> list[Message]:
        """Send requests in one system call, and return what answers them."""
        sequences = [self.next_sequence() for _ in payloads]
        pairs = zip(sequences, payloads, strict=True)
        return self.transact([encode_message(kind, flags, number, payload) for number, payload in pairs], sequences)

    def transact(self, requests: Sequence[bytes], sequences: Sequence[int]) -> list[Message]:
        """Send whole messages in one system call, and collect until each is acknowledged, refused or done."""
        self._send(b"".join(requests))
        waiting, answer, failure = set(sequences), [], 0
        while waiting:
            for message in self._receive():
                if message.sequence not in waiting:
                    continue
                if not message.ends:
                    answer.append(message)
                    continue
                waiting.discard(message.sequence)
                failure = failure or message.error
                interrupted = message.flags & genetlink.DUMP_INTERRUPTED
                answer += [message] if interrupted else []
        if failure:
            raise OSError(failure, os.strerror(failure))
        return answer

    def _send(self, data: bytes) -> None:
        if len(data) + 32 > self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, len(data) + 32)
        self._socket.sendto(data, (0, 0))

    def _receive(self) -> list[Message]:
        data, _, flags, (sender, _) = self._socket.recvmsg(LARGEST)
        if flags & socket.MSG_TRUNC:
            raise OSError(EIO, f"a netlink message is longer than {LARGEST} bytes")
        return list(genetlink.messages(data)) if sender == 0 else []  # 0 is the kernel
