"""What a NAT does, measured with one server that has two addresses and two ports (RFC 5780).

Filtering is measured before mapping and on a port of its own: the mapping tests send to the server's other address, and
so open what the filtering tests have to find closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from wgdisco.device.port import Port, Refused, UDPPort
from wgdisco.endpoint import Endpoint
from wgdisco.policy import is_plausible
from wgdisco.sources import Behaviour, Nat
from wgdisco.stun import Attribute, Change, Message

__all__ = ["FILTER_WAITS", "discover", "is_translated"]

FILTER_WAITS = (0.5, 0.5, 1.0)
"""Seconds after each transmission of a filtering test: silence is an answer there, and three lost datagrams a lie."""


async def discover(port: Port, server: Endpoint, waits: Sequence[float] = FILTER_WAITS) -> Nat:
    """Mapping behaviour of `port` and filtering behaviour of a fresh port, in RFC 5780's terms (sections 4.3, 4.4).

    Raises TimeoutError or another OSError when the server does not answer, ValueError when it has no second address.
    """
    async with UDPPort(0, fwmark=port.fwmark) as fresh:
        filtering = await _filtering(fresh, server, waits)
    first, other = await _look(port, server)
    questions = [Endpoint(other.address, server.port), other]
    second, third = await asyncio.gather(*(_look(port, question) for question in questions))
    return Nat(_mapping(first, second[0], third[0]), filtering, is_translated(port, first))


def is_translated(port: Port, mapped: Endpoint) -> bool:
    """Whether a NAT stands between us and who saw us at `mapped`: the address is not ours, or the port is another."""
    route = port.routes.lookup(mapped.address)
    return not (route is not None and route.ours and mapped.port == port.port)


def _mapping(first: Endpoint, second: Endpoint, third: Endpoint) -> Behaviour:
    """Where the server's address, its other address, and its other address and port saw us (section 4.3)."""
    if first == second:
        return Behaviour.ENDPOINT_INDEPENDENT
    return Behaviour.ADDRESS_DEPENDENT if second == third else Behaviour.ADDRESS_AND_PORT_DEPENDENT


async def _look(port: Port, server: Endpoint) -> tuple[Endpoint, Endpoint]:
    """Where the server sees us, and its other address and port."""
    answer = await port.transact(Message(), server)
    mapped, other = answer.mapped, answer.other
    if mapped is None or other is None or not is_plausible(other, server):
        raise ValueError(f"{server} has no second address that could be used")
    if other.address == server.address or other.address.version != server.address.version:
        raise ValueError(f"{server} says that {other} is its second address")
    return mapped, other


async def _filtering(port: Port, server: Endpoint, waits: Sequence[float]) -> Behaviour:
    """Who may answer on a mapping that only the server's first address was sent to (section 4.4)."""
    _, other = await _look(port, server)
    near = Endpoint(server.address, other.port)
    changes = ((Change.ADDRESS | Change.PORT, other), (Change.PORT, near))
    anyone, neighbour = await asyncio.gather(*(_passes(port, server, *change, waits) for change in changes))
    if anyone is None or (neighbour is None and not anyone):
        return Behaviour.UNKNOWN
    if anyone:
        return Behaviour.ENDPOINT_INDEPENDENT
    return Behaviour.ADDRESS_DEPENDENT if neighbour else Behaviour.ADDRESS_AND_PORT_DEPENDENT


async def _passes(
    port: Port, server: Endpoint, change: Change, origin: Endpoint, waits: Sequence[float]
) -> bool | None:
    """Whether an answer from `origin` comes through; None when the server does not do what it is asked."""
    request = Message(attributes={Attribute.CHANGE_REQUEST: change})
    try:
        _, arrival = await port.exchange(request, server, origins=(origin, server), waits=waits)
    except TimeoutError:
        return False
    except Refused:
        return None
    return True if arrival.source == origin else None
