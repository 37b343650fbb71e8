"""Watch what a session stands on: the interface, the host's addresses and routes, and the passing of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from wgdisco.device import Device, Interface, Network
from wgdisco.device.events import Monitor
from wgdisco.device.timeline import Timeline, boottime
from wgdisco.keys import PublicKey
from wgdisco.sources import Where

__all__ = ["Identity", "Lookout", "identity"]

LOOK = 1.0  # seconds between two looks at the clocks, and at the interface
SHARE = 100  # times as long as a look at the interface takes until the next one, where there are thousands of peers
SETTLE = 0.03  # seconds in which several changes count as one: an address goes before the next one comes
LATE = 4.0  # seconds; whose timer is so late has slept
CALM = 5.0  # seconds between two looks around when events show nothing new


class Identity(NamedTuple):
    """What makes another session necessary when it changes."""

    public: PublicKey | None
    port: int
    fwmark: int
    number: int
    peers: Mapping[PublicKey, frozenset[Network]]


def identity(interface: Interface) -> Identity:
    """The identity of a reading."""
    peers = {key: frozenset(peer.allowed_ips) for key, peer in interface.peers.items()}
    return Identity(interface.public, interface.listen_port, interface.fwmark, interface.index, peers)


def difference(before: Identity, now: Identity) -> str:
    """What changed, in words."""
    changed = {
        "its key": before.public != now.public,
        "its listen port": before.port != now.port,
        "its firewall mark": before.fwmark != now.fwmark,
        "the interface itself": before.number != now.number,
        "its peers": before.peers != now.peers,
    }
    return " and ".join(name for name, differs in changed.items() if differs)


class Lookout:
    """Calls `moved` when our addresses or ways out changed, `stirred` when they may have changed.

    And `woke`, with what happened in words, after a sleep and when the wall clock was set. `addresses` says where we
    are by the host's own knowledge, at once. `interface` is the latest reading.
    """

    def __init__(
        self,
        device: Device,
        addresses: Callable[[], Awaitable[Where]],
        moved: Callable[[], None],
        stirred: Callable[[], None],
        woke: Callable[[str], None],
        clock: Callable[[], float] = boottime,
        wall: Callable[[], float] | None = None,
    ) -> None:
        """`clock` is the host's uptime in seconds, `wall` the time in seconds since 1970."""
        self.device, self.addresses, self.clock = device, addresses, clock
        self._timeline = Timeline(wall, clock)
        self.moved, self.stirred, self.woke = moved, stirred, woke
        self.interface = device.read()
        self._identity = identity(self.interface)
        self._event = asyncio.Event()
        self._calm_until = 0.0

    async def run(self) -> str:
        """Return what changed at the interface, when something did; raises NoDevice when it is gone."""
        with Monitor(self._event.set):
            known, rested = await self._here(), 0.0
            while True:
                due = self.clock() + LOOK
                happened = await self._wait(LOOK)
                self._watch(due)
                if not happened and time.monotonic() < rested:
                    continue
                start = time.monotonic()
                self.interface = self.device.read()
                if changed := difference(self._identity, identity(self.interface)):
                    return changed
                end = time.monotonic()
                rested = end + SHARE * (end - start) - LOOK / 2  # at the look that is nearest
                if happened:
                    known = await self._compare(known)

    def _watch(self, due: float) -> None:
        """Whether time has passed as it should: a timer that was `due` may be late, and the wall clock elsewhere."""
        step = self._timeline.look()
        if step:
            self.woke(f"the clock was set {'forward' if step > 0 else 'back'} by {abs(step):.0f} s")
        elif self.clock() > due + LATE:
            self.woke("this host slept, or its clock was held")

    async def _compare(self, known: object) -> object:
        here = await self._here()
        if here != known:
            self.moved()
        elif time.monotonic() >= self._calm_until:
            # the same address may now belong to another network
            self._calm_until = time.monotonic() + CALM
            self.stirred()
        return here

    async def _here(self) -> object:
        return [(found.endpoint, found.detail) for found in (await self.addresses()).found]

    async def _wait(self, seconds: float) -> bool:
        """Whether something happened to links, addresses or routes within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(SETTLE)
        self._event.clear()
        return True
