"""A UDP port for STUN: WireGuard's own, shared by raw sockets, or a plain one with the same interface.

```
async with WireGuardPort(51820, fwmark=0) as port:
    answer = await port.transact(Message(), server)     # a binding request, retransmitted (RFC 8489 section 6.2.1)
    port.send(payload, endpoint, ttl=3)
    seen = await port.ask(ping, node, read)             # a node of the DHT, whose datagrams are bencoded dictionaries
```
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Self, TypeVar

from wgdisco.device.family import FAMILIES, Family, mark
from wgdisco.device.raw import DICTIONARY, admit, open_raw, udp_frame, unframe
from wgdisco.device.routes import Routes
from wgdisco.device.transactions import WAITS, Arrival, Expected, Questions, Refused, Transactions
from wgdisco.endpoint import Address, Endpoint
from wgdisco.errors import AccessError
from wgdisco.stun import Message, StunError, Type, decode, encode

__all__ = ["WAITS", "Arrival", "Port", "Refused", "UDPPort", "WireGuardPort"]

LONGEST = 2048  # bytes of a datagram that are read; STUN messages are far shorter
AT_ONCE = 64  # datagrams read before the loop gets a turn
PAUSE = 0.01  # seconds of rest after that many: a flood costs at most 6,400 messages a second

T = TypeVar("T")


class Port:
    """What both ports have in common: transactions, dispatch, sending. Use it as an asynchronous context manager.

    `on_request(message, arrival)` gets every binding request and indication; nothing about it is authenticated yet, it
    may have come through a tunnel, and it may be one of very many. `ignored` counts messages nobody waited for.
    """

    def __init__(self, port: int, *, fwmark: int = 0) -> None:
        self.port = port
        self.fwmark = fwmark
        self.on_request: Callable[[Message, Arrival], None] | None = None
        self.ignored = 0
        self.routes: Routes
        self._sockets: dict[int, socket.socket] = {}
        self._transactions = Transactions()
        self._questions = Questions(self._admit)
        self._rests: dict[int, asyncio.TimerHandle] = {}

    @property
    def families(self) -> frozenset[int]:
        """The IP versions there are sockets for: 4, 6 or both."""
        return frozenset(self._sockets)

    async def __aenter__(self) -> Self:
        """Open the sockets of every family this host has; raises AccessError saying what is missing."""
        try:
            self.routes = Routes()
            self._open_all()
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    def send(
        self, payload: bytes, endpoint: Endpoint, ttl: int | None = None, *, source: Address | None = None
    ) -> None:
        """Send one datagram from this port, with a TTL or hop limit of its own and from one of our addresses if given.

        Raises OSError when there is no route, no socket of the family or a firewall forbids it. A full queue loses the
        datagram, as the network may.
        """
        family = FAMILIES[endpoint.address.version == 6]
        if family.version not in self._sockets:
            raise OSError(errno.EAFNOSUPPORT, f"this host has no IPv{family.version} to reach {endpoint}")
        data, address = self._outgoing(payload, endpoint, source)
        with suppress(BlockingIOError):
            self._sockets[family.version].sendmsg([data], family.controls(ttl, source), 0, address)

    async def transact(
        self, request: Message, server: Endpoint, *, key: bytes | None = None, waits: Sequence[float] = WAITS
    ) -> Message:
        """Send a request until its answer comes: of the same transaction, and from the server itself.

        `waits` are the seconds after each transmission. With a `key` both sides have to sign (RFC 8489 section 9.1,
        SHA-256); an answer that is not signed does not count. Raises Refused for an error response, TimeoutError when
        nothing came, or another OSError when it could not be sent.
        """
        return (await self.exchange(request, server, key=key, waits=waits))[0]

    async def exchange(
        self,
        request: Message,
        server: Endpoint,
        *,
        key: bytes | None = None,
        origins: Collection[Endpoint] = (),
        waits: Sequence[float] = WAITS,
    ) -> tuple[Message, Arrival]:
        """`transact`, with where the answer came from and arrived; `origins` are all places it may come from."""
        payload = encode(request, key)
        expected = Expected(request.transaction, origins or (server,), key)
        return await self._transactions.run(server, expected, lambda: self.send(payload, server), waits)

    async def ask(
        self, payload: bytes, node: Endpoint, read: Callable[[bytes], T | None], *, waits: Sequence[float] = WAITS
    ) -> T:
        """Send a bencoded dictionary to a node until `read` makes something of one that comes from there.

        WireGuard drops such datagrams, and we see them only while somebody asks. `read` gets at most 2048 bytes that
        anybody may have sent in the node's name; it returns None for what is no answer. Raises TimeoutError when
        nothing came, or another OSError when it could not be sent.
        """
        return await self._questions.run(node, read, lambda: self.send(payload, node), waits)

    def _admit(self, dictionaries: bool) -> None:
        """Whether bencoded dictionaries are to be received; a port of our own receives everything anyway."""

    def _open(self, family: Family) -> socket.socket:
        raise NotImplementedError

    def _outgoing(self, payload: bytes, to: Endpoint, source: Address | None) -> tuple[bytes, tuple[str, int]]:
        raise NotImplementedError

    def _incoming(self, family: Family, data: bytes, port: int) -> tuple[int, bytes]:
        raise NotImplementedError

    def _open_all(self) -> None:
        for family in FAMILIES:
            self._add(family)
        if not self._sockets:
            raise AccessError(f"cannot use UDP port {self.port}: this system has neither IPv4 nor IPv6")

    def _add(self, family: Family) -> None:
        try:
            opened = self._open(family)
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL):
                return  # a system without this family
            raise
        self._sockets[family.version] = opened
        opened.setsockopt(family.level, family.receive_info, 1)
        self._listen(family)

    def _listen(self, family: Family) -> None:
        self._rests.pop(family.version, None)
        asyncio.get_running_loop().add_reader(self._sockets[family.version], self._read, family)

    def _read(self, family: Family) -> None:
        received = 0
        for data, arrival in self._waiting(family, self._sockets[family.version]):
            received += 1
            self._dispatch(data, arrival)
        if received == AT_ONCE and family.version in self._sockets:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._sockets[family.version])
            self._rests[family.version] = loop.call_later(PAUSE, self._listen, family)

    def _waiting(self, family: Family, opened: socket.socket) -> Iterator[tuple[bytes, Arrival]]:
        for _ in range(AT_ONCE):
            try:
                data, ancillary, _, address = opened.recvmsg(LONGEST, 128)
                port, payload = self._incoming(family, data, address[1])
            except OSError:  # nothing more, an error that belongs to no datagram of ours, or closed meanwhile
                return
            except ValueError:
                port, payload = 0, b""
            source = Endpoint(ip_address(address[0].partition("%")[0]), port)
            yield payload, Arrival(source, family.local(ancillary))

    def _dispatch(self, data: bytes, arrival: Arrival) -> None:
        if data.startswith(DICTIONARY):
            self.ignored += not self._questions.hear(data, arrival.source)
            return
        try:
            message = decode(data)
        except StunError:
            self.ignored += 1
            return
        if message.type in (Type.REQUEST, Type.INDICATION):
            if self.on_request is not None:
                self.on_request(message, arrival)
        elif not self._transactions.hear(message, arrival):
            self.ignored += 1

    def _close(self) -> None:
        for rest in self._rests.values():
            rest.cancel()
        for opened in self._sockets.values():
            asyncio.get_running_loop().remove_reader(opened)
            opened.close()
        self._sockets.clear()
        self._transactions.abort()
        self._questions.abort()
        if hasattr(self, "routes"):
            self.routes.close()


class WireGuardPort(Port):
    """WireGuard's own listen port, by raw sockets beside it; needs CAP_NET_RAW and nothing else.

    Fwmark and port are those of the interface now: when they change, open another one.
    """

    def _open(self, family: Family) -> socket.socket:
        return open_raw(family, self.port, self.fwmark)

    def _admit(self, dictionaries: bool) -> None:
        for family in FAMILIES:
            if family.version in self._sockets:
                admit(self._sockets[family.version], family, self.port, dictionaries=dictionaries)

    def _outgoing(self, payload: bytes, to: Endpoint, source: Address | None) -> tuple[bytes, tuple[str, int]]:
        if to.address.version == 4 and source is None:
            source = self.routes.source(to.address, self.fwmark)
            if source is None:
                raise OSError(errno.ENETUNREACH, f"no route to {to}")
        return udp_frame(self.port, to, payload, source), (str(to.address), 0)

    def _incoming(self, family: Family, data: bytes, port: int) -> tuple[int, bytes]:  # noqa: ARG002 - the plain port's
        return unframe(family.version, data)


class UDPPort(Port):
    """A port of our own, 0 for any: for hosts without a WireGuard interface, for second opinions, and for tests."""

    def _open(self, family: Family) -> socket.socket:
        opened = socket.socket(family.number, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            mark(opened, self.fwmark)
            if family.version == 6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.bind(("", self.port))
        except BaseException as error:
            opened.close()
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise AccessError(f"UDP port {self.port} is in use; choose another one, or 0 for any") from error
            raise
        self.port = opened.getsockname()[1]
        return opened

    def _outgoing(self, payload: bytes, to: Endpoint, source: Address | None) -> tuple[bytes, tuple[str, int]]:  # noqa: ARG002 - the raw port's
        return payload, (str(to.address), to.port)

    def _incoming(self, family: Family, data: bytes, port: int) -> tuple[int, bytes]:  # noqa: ARG002 - the raw port's
        return port, data
