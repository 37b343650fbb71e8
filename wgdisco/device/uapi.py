"""Userspace WireGuard by its socket: the cross-platform UAPI (wireguard.com/xplatform), as wireguard-go speaks it.

A request is lines of `name=value` and an empty line; so is the answer, which ends with `errno=N`. Keys are in
lower-case hex. Answers contain the private key and preshared keys, so no error quotes a value.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from errno import EACCES, EAGAIN, EPERM
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path

from wgdisco.device.restart import restart
from wgdisco.device.types import Change, Interface, Network, Peer
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, InvalidKey, NoDevice, UsageError
from wgdisco.keys import PrivateKey, PublicKey

__all__ = ["SOCKETS", "UserspaceDevice", "encode_changes", "encode_peer", "parse_interface"]

SOCKETS = Path("/var/run/wireguard")
GET = b"get=1\n\n"
SO_SNDBUFFORCE = 32  # asm-generic/socket.h; Python has no name for it
TIMEOUT = 5.0  # seconds for one answer; 10,000 peers take 0.1. Whoever waits holds up the whole agent


def encode_changes(changes: Sequence[Change]) -> bytes:
    """The request that applies `changes` in order, and creates no peer."""
    return ("set=1\n" + "".join(_change(change) for change in changes) + "\n").encode("ascii")


def encode_peer(peer: Peer, *, remove: bool) -> bytes:
    """The request that writes all of a peer, creating it, and removes it first when asked to."""
    head = f"public_key={peer.key.raw.hex()}\n"
    lines = [
        "set=1\n",
        f"{head}remove=true\n" if remove else "",
        head,
        f"preshared_key={(peer.preshared or bytes(32)).hex()}\n",
        "replace_allowed_ips=true\n",
        *(f"allowed_ip={network}\n" for network in peer.allowed_ips),
        _values(peer.endpoint, peer.keepalive),
        "\n",
    ]
    return "".join(lines).encode("ascii")


def _change(change: Change) -> str:
    return f"public_key={change.key.raw.hex()}\nupdate_only=true\n{_values(change.endpoint, change.keepalive)}"


def _values(endpoint: Endpoint | None, keepalive: int | None) -> str:
    """Endpoint before keepalive: turning keepalive on sends a packet, which has to go to the new endpoint."""
    first = f"endpoint={endpoint}\n" if endpoint is not None else ""
    return first + (f"persistent_keepalive_interval={keepalive}\n" if keepalive is not None else "")


def parse_interface(name: str, answer: str, index: int = 0, known: dict[str, Peer] | None = None) -> Interface:
    """The interface that an answer to `get=1` describes.

    `known` has the peers of the answer before by their lines, and is brought up to date: most of thousands stay as
    they are from one reading to the next.
    Raises AccessError when the answer is an error, is incomplete or makes no sense.
    """
    _check_status(name, answer)
    head, *blocks = f"\n{answer}".rpartition("\nerrno=")[0].split("\npublic_key=")
    try:
        return _interface(name, index, head, blocks, {} if known is None else known)
    except (ValueError, UsageError) as error:
        # without `from error`, whose text would quote what may be a key
        raise AccessError(f"{name}: the answer of its program makes no sense ({type(error).__name__})") from None


def _interface(name: str, index: int, head: str, blocks: list[str], known: dict[str, Peer]) -> Interface:
    values = dict(_lines(head))
    private = PrivateKey(bytes.fromhex(values["private_key"])) if "private_key" in values else None
    peers: dict[str, Peer] = {}
    refused = []
    for block in blocks:
        try:
            peers[block] = known.get(block) or _peer(block)
        except InvalidKey as error:
            refused.append(str(error))
    known.clear()
    known.update(peers)
    return Interface(
        name=name,
        private=private,
        public=private.public if private else None,
        listen_port=int(values.get("listen_port", 0)),
        fwmark=int(values.get("fwmark", 0)),
        peers={peer.key: peer for peer in peers.values()},
        index=index,
        refused=tuple(refused),
    )


def _peer(block: str) -> Peer:
    """One peer from its lines, the first of which is only the value of public_key."""
    first, _, rest = block.partition("\n")
    key = PublicKey(bytes.fromhex(first))
    values: dict[str, str] = {}
    allowed = []
    for name, value in _lines(rest):
        if name == "allowed_ip":
            allowed.append(_network(value))
        else:
            values[name] = value
    preshared = bytes.fromhex(values.get("preshared_key", ""))
    return Peer(
        key=key,
        endpoint=_endpoint(values.get("endpoint", "")),
        keepalive=int(values.get("persistent_keepalive_interval", 0)),
        allowed_ips=tuple(allowed),
        handshake=int(values.get("last_handshake_time_sec", 0)) + int(values.get("last_handshake_time_nsec", 0)) / 1e9,
        rx=int(values.get("rx_bytes", 0)),
        tx=int(values.get("tx_bytes", 0)),
        preshared=preshared if any(preshared) else None,
    )


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n"):
        name, _, value = line.partition("=")
        yield name, value


@lru_cache(maxsize=65536)
def _endpoint(text: str) -> Endpoint | None:
    """The endpoint, or None for one that nobody can send to: a peer may have roamed to port 0."""
    with suppress(UsageError):
        return Endpoint.parse(text)
    return None


@lru_cache(maxsize=65536)
def _network(text: str) -> Network:
    return ip_network(text, strict=False)


def _check_status(name: str, text: str) -> None:
    """Raise AccessError unless an answer is complete and ends with `errno=0`."""
    if not text.endswith("\n\n"):
        raise AccessError(f"{name}: its program closed the socket in the middle of an answer; is it still running?")
    number = text[:-2].rpartition("errno=")[2].removeprefix("-")
    if not number.isdigit():
        raise AccessError(f"{name}: the answer of its program does not end with an errno")
    if int(number):
        raise AccessError(f"{name}: its program refused the request: {os.strerror(int(number))} (errno {number})")


class UserspaceDevice:
    """An interface that a program runs, by the socket `sockets`/NAME.sock. Every call opens its own connection."""

    def __init__(self, name: str, sockets: Path = SOCKETS) -> None:
        self.name = name
        self._path = sockets / f"{name}.sock"
        self._known: dict[str, Peer] = {}

    def answers(self) -> bool:
        """Whether a program listens on the socket; raises AccessError when we may not know."""
        try:
            self._connect().close()
        except NoDevice:
            return False
        return True

    def read(self) -> Interface:
        """Read everything at once; see Device."""
        return parse_interface(self.name, self._exchange(GET), _index(self.name), self._known)

    def update(self, changes: Sequence[Change]) -> None:
        """Apply all changes in one batch; see Device."""
        if changes:
            _check_status(self.name, self._exchange(encode_changes(changes)))

    def restart_peer(self, key: PublicKey, endpoint: Endpoint, keepalive: int, *, since: Peer | None = None) -> None:
        """Remove and re-add a peer that has no session; see Device."""
        restart(self, key, endpoint, keepalive, since)

    def replace(self, peer: Peer, *, remove: bool) -> None:
        """Write all of a peer in one send(2): for `restart` only, which checks before and after."""
        _check_status(self.name, self._exchange(encode_peer(peer, remove=remove), whole=True))

    def _exchange(self, request: bytes, *, whole: bool = False) -> str:
        """Send a request, `whole` in one send(2), and return the answer."""
        with self._connect() as connection:
            if whole:
                self._make_room(connection, len(request))
            try:
                with suppress(BrokenPipeError, ConnectionResetError):
                    # a program that refuses one line stops reading; its answer says why
                    connection.sendall(request)
                return _receive(connection).decode("ascii", "replace")
            except OSError as error:
                raise self._silent(error) from error

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(TIMEOUT)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise self._no_connection(error) from error
        return connection

    def _silent(self, error: OSError) -> AccessError:
        return AccessError(f"{self.name}: its program at {self._path} does not answer: {error}")

    def _no_connection(self, error: OSError) -> AccessError:
        if error.errno in (EACCES, EPERM):
            return AccessError(
                f"{self.name}: may not open {self._path}: run as root, or give the socket to this user with `chown` "
                "(CAP_NET_ADMIN does not help with userspace WireGuard)"
            )
        if error.errno == EAGAIN or isinstance(error, TimeoutError):  # its queue is full: it stands still
            return self._silent(error)
        return NoDevice(f"{self.name}: nothing listens on {self._path}; `wg show interfaces` lists what exists")

    def _make_room(self, connection: socket.socket, size: int) -> None:
        """Have the socket's buffer take `size` bytes at once: the kernel counts up to twice as many."""
        room = 2 * size + 4096
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= room:
            return
        try:
            connection.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, room)
        except PermissionError:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < room:
            raise AccessError(
                f"{self.name}: the peer's allowed-ips ({size} bytes) do not fit one system call, nothing was done: "
                f"run as root, or raise net.core.wmem_max to {room}"
            )


def _receive(connection: socket.socket) -> bytes:
    """Everything up to the empty line, or what there was when the other side closed."""
    answer = bytearray()
    while not answer.endswith(b"\n\n") and (chunk := connection.recv(1 << 20)):
        answer += chunk
    return bytes(answer)


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0  # the program runs in another network namespace
