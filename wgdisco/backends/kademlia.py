"""Backend kademlia: a swarm of one's own, every member of which holds records for the others (the package kademlia).

It needs one member that the others can reach; nobody outside the swarm is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

from msgspec import Meta

from wgdisco.backend import Backend, Slot
from wgdisco.backends._kademlia_values import KEPT, TRUTH, Value
from wgdisco.bep44.memory import Memory, remembered_in
from wgdisco.bep44.resolve import resolve, split
from wgdisco.endpoint import Endpoint
from wgdisco.errors import ConfigError, StoreError
from wgdisco.hookspecs import hookimpl

if TYPE_CHECKING:
    from wgdisco.backends._kademlia_member import Member

__all__ = ["Kademlia", "wgdisco_backends"]

VALUES = 16  # that a reader takes from a slot (SPEC section 4)
NAMES = 2.0  # seconds for the addresses of bootstrap members
PAUSE = 1.0  # seconds before the swarm is entered again after nobody answered

T = TypeVar("T")


@dataclass
class Kademlia(Backend):
    """A swarm of one's own: no server, but one member that all can reach; records are signed and sealed."""

    name: ClassVar[str] = "kademlia"
    keeps: ClassVar[float] = KEPT
    deadline: ClassVar[float] = 8.0

    bootstrap: list[str] = field(default_factory=list)
    """Members to start from, each HOST:PORT; empty for the first member, which waits for the others."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """UDP port of this member; 0 takes any, which will do for all but the ones that others start from."""
    bind: str = ""
    """Address of this member; empty means every IPv4 address, `::` every IPv6 address."""

    async def open(self) -> None:
        """Open the socket; the swarm is entered at the first use, so that it may come later."""
        from wgdisco.backends._kademlia_member import Member

        for name in self.bootstrap:
            split(name)
        where = f"{self.bind or 'any address'}, UDP port {self.port or 'any'}"
        try:
            self._version = ip_address(self.bind or "0.0.0.0").version  # noqa: S104 - a member is there to be asked
        except ValueError as error:
            raise ConfigError(f"bind {self.bind!r}: expected an address of this host, as 192.0.2.1") from error
        self._entering, self._tried, self._alone = asyncio.Lock(), -PAUSE, not self.bootstrap
        self._member = Member()
        try:
            await self._member.listen(self.port, self.bind or "0.0.0.0")  # noqa: S104 - the same
        except (OSError, OverflowError) as error:
            raise StoreError(f"cannot open a socket on {where}: {error}; choose with -o bind=… -o port=…") from error

    async def close(self) -> None:
        """Remember the members that answered, and close the socket."""
        member: Member | None = getattr(self, "_member", None)
        if member is not None and member.transport is not None:
            if member.neighbours:
                Memory.of(member.neighbours).save(self._file)
            member.stop()
            await asyncio.sleep(0)  # the event loop closes it in its next round

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:  # noqa: ARG002 - members hold for two hours
        """Put the blob, signed for its slot, on the 20 members nearest to it and on this one; raises StoreError.

        One other member that takes it is enough; the first member of a swarm may also be alone.
        """
        value = Value.signed(slot, blob)
        own = self._member.storage.store(value.key, value.encode())
        told = await self._inside(lambda: self._member.spread(value), lambda told: told.total())
        if own == "older" or (told and not told[TRUTH]):
            raise StoreError(_refused(slot, "older" if own == "older" else told.most_common(1)[0][0]))

    async def get(self, slot: Slot) -> list[bytes]:
        """Every value of the slot's key that a member holds, the one with the greatest number first."""
        _, values = await self._inside(lambda: self._member.find(slot.id), lambda found: found[0])
        return [value.blob for value in sorted(values, key=lambda value: -value.seq)][:VALUES]

    async def _inside(self, operation: Callable[[], Awaitable[T]], answers: Callable[[T], int]) -> T:
        """Run an operation in the swarm; when everybody we knew is silent, enter anew and run it again."""
        for _ in range(2):
            await self._enter()
            result = await operation()
            if answers(result) or (self._alone and not self._member.neighbours):
                return result
        raise StoreError(self._silence(0))

    async def _enter(self) -> None:
        """Enter the swarm unless we know members; raises StoreError within 5 s when none answers."""
        loop = asyncio.get_running_loop()
        async with self._entering:
            if self._member.neighbours:
                return
            if loop.time() - self._tried >= PAUSE:
                endpoints = await self._endpoints()
                others, met_itself = await self._member.enter(endpoints) if endpoints else (0, False)
                self._alone = not self.bootstrap or (met_itself and not others)
                self._tried = loop.time() if not others else -PAUSE
                if others:
                    return
            if not self._alone:
                raise StoreError(self._silence(len(self.bootstrap)))

    async def _endpoints(self) -> list[Endpoint]:
        """Where members may be: those named, and those remembered, of the family of our socket."""
        looked_up = [asyncio.ensure_future(resolve(name)) for name in self.bootstrap]
        try:
            done = (await asyncio.wait(looked_up, timeout=NAMES))[0] if looked_up else set()
            named = [each for task in done if task.exception() is None for each in task.result()]
        finally:
            for task in looked_up:
                task.cancel()
            await asyncio.gather(*looked_up, return_exceptions=True)
        places = dict.fromkeys([*named, *Memory.load(self._file).endpoints])
        return [each for each in places if each.address.version == self._version]

    def _silence(self, asked: int) -> str:
        named = f"asked {asked} bootstrap members ({', '.join(self.bootstrap)}), " if asked else ""
        return (
            f"{named}no member of the swarm answered. Give a member that runs with -o bootstrap=HOST:PORT, "
            "let UDP to its port through the firewall, or use another backend"
        )

    @property
    def _file(self) -> Path | None:
        return remembered_in(self.cache, "members", self.bootstrap)


def _refused(slot: Slot, reason: str) -> str:
    """Why no member took a value, and what to do."""
    if reason == "older":
        return (
            f"a value with a greater number than {slot.seq} is already in the slot, or another one with the same: "
            "another host publishes with this key, or the state of this one was lost or its clock set back"
        )
    if reason == "full":
        return "the members hold as many records as they take; a member more, or two hours, make room"
    return f"no member took the value: {reason!r}; do all members run the same version of wgdisco?"


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """Offer the backend."""
    return [Kademlia]
