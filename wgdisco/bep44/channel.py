"""One UDP socket that speaks KRPC: queries with their answers, and the queries of others."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from wgdisco.bep44.contact import host
from wgdisco.bep44.krpc import LARGEST, Failure, KrpcError, Query, Reply, read
from wgdisco.bep44.limits import Limiter
from wgdisco.endpoint import Endpoint

__all__ = ["Answer", "Channel", "Patience", "first_reply"]

LONGEST = 2.0  # seconds after which nobody waits for an answer any more
PENDING = 1024  # queries under way
AT_ONCE = 16  # datagrams read before others have their turn

Answer = Reply | Failure | None
"""What a query brings: a reply, an error, or nothing in time."""


class Patience:
    """How long an answer usually takes: RFC 6298's estimate over all nodes; starts at 0.4 s, stays in 0.15 … 1 s."""

    def __init__(self) -> None:
        self._smooth = 0.0
        self._spread = 0.0

    @property
    def seconds(self) -> float:
        """After this many seconds without an answer the next node should be asked."""
        return min(1.0, max(0.15, self._smooth + 4 * self._spread)) if self._smooth else 0.4

    def took(self, seconds: float) -> None:
        """Note the round trip of an answer."""
        if not self._smooth:
            self._smooth, self._spread = seconds, seconds / 2
        self._spread += (abs(self._smooth - seconds) - self._spread) / 4
        self._smooth += (seconds - self._smooth) / 8


@dataclass(slots=True)
class _Pending:
    endpoint: Endpoint
    answer: asyncio.Future[Answer]
    sent: float
    timer: asyncio.TimerHandle


class Channel:
    """A socket. `asked(query, source)` gives the bytes to answer with; `heard(endpoint, answer)` sees each outcome.

    A datagram counts as an answer only with the transaction of a query under way (4 random bytes) and from the
    endpoint that was asked; anything else is held against its host's limit before it is even decoded.
    """

    def __init__(
        self,
        asked: Callable[[Query, Endpoint], bytes],
        heard: Callable[[Endpoint, Answer], None],
        limiter: Limiter,
        patience: Patience,
    ) -> None:
        self._asked, self._heard, self._limiter, self._patience = asked, heard, limiter, patience
        self._pending: dict[bytes, _Pending] = {}
        self._expected: dict[Endpoint, int] = {}
        self._socket: socket.socket | None = None
        self._loop = asyncio.get_running_loop()

    def bind(self, address: str, port: int) -> Endpoint:
        """Open the socket on an IPv4 or IPv6 address (port 0: any) and say where it is; raises OSError."""
        family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind((address, port))
        except OSError:
            sock.close()
            raise
        self._socket = sock
        self._loop.add_reader(sock, self._readable)
        bound = sock.getsockname()
        return Endpoint(ip_address(bound[0]), bound[1])

    def query(
        self, endpoint: Endpoint, method: bytes, arguments: Mapping[bytes, Any], *, read_only: bool
    ) -> asyncio.Future[Answer]:
        """Send a query; the future never fails, and gives None when nothing came within 2 s."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        transaction = os.urandom(4)
        if len(self._pending) >= PENDING or transaction in self._pending or self._socket is None:
            answer.set_result(None)
            return answer
        timer = self._loop.call_later(LONGEST, self._give_up, transaction)
        self._pending[transaction] = _Pending(endpoint, answer, self._loop.time(), timer)
        self._expected[endpoint] = self._expected.get(endpoint, 0) + 1
        self._send(Query(transaction, method, arguments, read_only).encode(), endpoint)
        return answer

    def close(self) -> None:
        """Close the socket; queries under way end without an answer."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for transaction in list(self._pending):
            self._take(transaction).set_result(None)

    def _readable(self) -> None:
        """Read what is there, a few datagrams at a time so that a flood leaves room for everything else."""
        for _ in range(AT_ONCE):
            if self._socket is None:
                return
            try:
                data, address = self._socket.recvfrom(LARGEST + 1)
            except OSError:  # nothing left, or what the network says about a packet we sent: its query runs out of time
                return
            self._received(data, address)

    def _received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if len(data) > LARGEST or not addr[1]:
            return
        source = Endpoint(ip_address(addr[0]), addr[1])
        now = self._loop.time()
        if source not in self._expected and not self._limiter.take(host(source.address), len(data), now):
            return
        try:
            message = read(data)
        except KrpcError:
            return
        if isinstance(message, Query):
            self._reply(self._asked(message, source), source, now)
        else:
            self._settle(message, source, now)

    def _reply(self, data: bytes, source: Endpoint, now: float) -> None:
        if self._limiter.take(host(source.address), len(data), now):
            self._send(data, source)

    def _settle(self, message: Reply | Failure, source: Endpoint, now: float) -> None:
        pending = self._pending.get(message.transaction)
        if pending is None or pending.endpoint != source:
            return
        self._patience.took(now - pending.sent)
        self._take(message.transaction).set_result(message)
        self._heard(source, message)

    def _give_up(self, transaction: bytes) -> None:
        endpoint = self._pending[transaction].endpoint
        self._take(transaction).set_result(None)
        self._heard(endpoint, None)

    def _take(self, transaction: bytes) -> asyncio.Future[Answer]:
        """End a query: its future, or a spare one when its owner has cancelled it."""
        pending = self._pending.pop(transaction)
        pending.timer.cancel()
        left = self._expected[pending.endpoint] - 1
        if left:
            self._expected[pending.endpoint] = left
        else:
            del self._expected[pending.endpoint]
        return self._loop.create_future() if pending.answer.done() else pending.answer

    def _send(self, data: bytes, endpoint: Endpoint) -> None:
        """Send once; what does not go out now is lost like any other datagram, so that nothing piles up."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto(data, (str(endpoint.address), endpoint.port))


async def first_reply(waiting: set[asyncio.Future[Answer]], end: float) -> Reply | None:
    """The first reply that comes before `end` (the loop's time); futures without one are taken out of `waiting`."""
    while waiting and (left := end - asyncio.get_running_loop().time()) > 0:
        done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        waiting -= done
        for answer in done:
            if isinstance(reply := answer.result(), Reply):
                return reply
    return None
