"""Nodes to ask something of without entering the network: those that answered before, and those behind names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from wgdisco.bep44.resolve import resolve
from wgdisco.endpoint import Endpoint

__all__ = ["known", "network"]

MANY = 8  # networks among the nodes remembered, so that no name has to be looked up
SECONDS = 1.0  # for all names together


async def known(names: Sequence[str], remembered: Sequence[Endpoint] = ()) -> list[Endpoint]:
    """The nodes remembered and, unless those lie in eight networks, the ones behind `names` (HOST:PORT).

    Takes at most a second; names that cannot be looked up in it are left out. Raises UsageError for one of the wrong
    form.
    """
    found = list(remembered)
    if len({network(endpoint) for endpoint in found}) >= MANY:
        return found
    tasks = [asyncio.ensure_future(resolve(name)) for name in names]
    try:
        done = (await asyncio.wait(tasks, timeout=SECONDS))[0] if tasks else set()
        for task in [each for each in tasks if each in done]:
            if not isinstance(task.exception(), OSError):
                found += task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return list(dict.fromkeys(found))


def network(endpoint: Endpoint) -> bytes:
    """What stands for one operator: an IPv4 /16 (2 bytes), an IPv6 /32 (4 bytes); off the Internet each endpoint."""
    address = endpoint.address
    if not address.is_global:
        return str(endpoint).encode()
    return address.packed[: 2 if address.version == 4 else 4]
