"""A real STUN server for tests: RFC 8489 on one address, RFC 5780 on two, and a liar when told so.

In a network namespace: `python stunserver.py ADDRESS [SECOND]`, prints `ready` and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from ipaddress import ip_address

from wgdisco.endpoint import Endpoint
from wgdisco.stun import Attribute, Change, Message, StunError, Type, decode, encode

Lie = Callable[[Message, Endpoint], bytes | None]


class StunServer(asyncio.DatagramProtocol):
    """Two addresses (the second may be missing) with two ports each; `requests` counts what came.

    The first `lose` requests stay unanswered. `lie(request, source)` gives the bytes of a false answer, sent from the
    second port with `lie_elsewhere`; `answer_true` sends the right answer after it. `see(source, where, number)` is
    where the server says it saw a client, as if behind a NAT; `blocked` are the changes whose answers such a NAT stops.
    """

    def __init__(
        self,
        first="127.0.0.1",
        second=None,
        *,
        lose=0,
        lie=None,
        lie_elsewhere=False,
        answer_true=True,
        see=None,
        blocked=(),
        ignores_change=False,
        ports=(0, 0),
    ):
        self.addresses = [first, second] if second else [first]
        self.ports = list(ports)
        self.see = see or (lambda source, where, number: source)
        self.blocked, self.ignores_change = blocked, ignores_change
        self.lose, self.lie, self.lie_elsewhere, self.answer_true = lose, lie, lie_elsewhere, answer_true
        self.requests = 0
        self.sockets: dict[tuple[int, int], asyncio.DatagramTransport] = {}

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        for number, _ in enumerate(self.ports):
            for where, address in enumerate(self.addresses):
                bind = (address, self.ports[number])
                transport, _ = await loop.create_datagram_endpoint(lambda w=where, n=number: _Socket(self, w, n), bind)
                self.sockets[where, number] = transport
                self.ports[number] = transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_):
        for transport in self.sockets.values():
            transport.close()

    def endpoint(self, where=0, number=0) -> Endpoint:
        return Endpoint(ip_address(self.addresses[where]), self.ports[number])

    def received(self, data: bytes, source: Endpoint, where: int, number: int) -> None:
        try:
            request = decode(data)
        except StunError:
            return
        self.requests += 1
        if self.requests <= self.lose:
            return
        to = (str(source.address), source.port)
        if self.lie and (false := self.lie(request, source)) is not None:
            self.sockets[where, 1 if self.lie_elsewhere else number].sendto(false, to)
        if self.answer_true:
            sender, answer = self._answer(request, source, where, number)
            if sender is not None:
                self.sockets[sender].sendto(encode(answer), to)

    def _answer(self, request, source, where, number):
        if request.unknown:
            error = {Attribute.ERROR_CODE: (420, "Unknown Attribute"), Attribute.UNKNOWN_ATTRIBUTES: request.unknown}
            return (where, number), request.answer(Type.ERROR, error)
        change = request.attributes.get(Attribute.CHANGE_REQUEST, Change(0))
        if change and len(self.addresses) == 1:
            error = {Attribute.ERROR_CODE: (420, "Unknown Attribute"), Attribute.UNKNOWN_ATTRIBUTES: (3,)}
            return (where, number), request.answer(Type.ERROR, error)
        if change and change in self.blocked:
            return None, None
        if self.ignores_change:
            change = Change(0)
        sender = (where ^ bool(change & Change.ADDRESS), number ^ bool(change & Change.PORT))
        attributes = {
            Attribute.XOR_MAPPED_ADDRESS: self.see(source, where, number),
            Attribute.RESPONSE_ORIGIN: self.endpoint(*sender),
        }
        if len(self.addresses) == 2:
            attributes[Attribute.OTHER_ADDRESS] = self.endpoint(where ^ 1, number ^ 1)
        return sender, request.answer(Type.SUCCESS, attributes)


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, server: StunServer, where: int, number: int) -> None:
        self.server, self.where, self.number = server, where, number

    def datagram_received(self, data, address):
        self.server.received(data, Endpoint(ip_address(address[0]), address[1]), self.where, self.number)


async def main(addresses: list[str]) -> None:
    async with StunServer(*addresses, ports=(3478, 3479)):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
