"""The local network as a store: this process answers for its own records by multicast DNS, nobody else keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar

from wgdisco.backend import Backend, Slot
from wgdisco.backends._lan_air import TYPE, Air, to_strings
from wgdisco.errors import ConfigError
from wgdisco.hookspecs import hookimpl

__all__ = ["Lan", "wgdisco_backends"]

FRESH = 1.0  # seconds: a responder does not repeat itself any sooner (RFC 6762 section 6)
GRACE = 0.05  # seconds after the first answer, so that whoever answers first does not hide the others
QUESTIONS = ((0.0, True), (0.1, False), (0.5, True))
"""Seconds after the first, and whether to answer to us alone: that is quicker, but another program may get it."""


@dataclass
class Lan(Backend):
    """Multicast DNS: peers on one network find each other without any server, while both programs run."""

    name: ClassVar[str] = "lan"
    lasting: ClassVar[bool] = False

    interfaces: list[str] = field(default_factory=list)
    """Names of the interfaces to use; empty for all that can multicast, without loopback and tunnels."""
    patience: float = 1.5
    """Seconds without an answer after which a slot counts as empty."""

    async def open(self) -> None:
        """Open the sockets; raises ConnectionError when no interface can multicast."""
        import zeroconf  # noqa: F401 - so that a missing library is told first

        if self.patience <= 0:
            raise ConfigError(f"patience {self.patience:g}: expected seconds above 0, as 1.5")
        self._air = Air(self.interfaces)
        await self._air.tune()

    async def close(self) -> None:
        """Say good-bye for everything that was put, and close the sockets."""
        air: Air | None = getattr(self, "_air", None)
        if air is not None:
            await air.close()

    async def put(self, slot: Slot, blob: bytes, lifetime: int) -> None:
        """Announce the blob and answer for it from now on, until `close` or the end of `lifetime`."""
        await self._air.say(_name(slot), to_strings(blob), lifetime)

    async def get(self, slot: Slot) -> list[bytes]:
        """What anybody on the network answers; an empty list takes `patience` seconds."""
        async with aclosing(self.fetch([slot])) as answers:
            return [value async for _, values in answers for value in values]

    async def remove(self, slot: Slot) -> None:
        """Say good-bye."""
        await self._air.unsay(_name(slot))

    async def watch(self, slot: Slot) -> AsyncGenerator[list[bytes], None]:
        """The slot now, and at every announcement that changes it."""
        async with aclosing(self.follow([slot])) as changes:
            async for _, values in changes:
                yield values

    async def fetch(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Ask for all in one question, three times at most; those that answer first come first."""
        waiting = {_name(slot): slot for slot in slots}
        loop = asyncio.get_running_loop()
        start = loop.time()
        ends = [*(at for at, _ in QUESTIONS[1:] if at < self.patience), self.patience]
        with self._air.listening() as news:
            for (_, unicast), end in zip(QUESTIONS, ends, strict=False):
                if waiting:
                    await self._air.ask(waiting, unicast=unicast)
                    news.set()  # something may have been heard just before
                while waiting and loop.time() < start + end:
                    await _heard(news, start + end)
                    recent = FRESH + loop.time() - start
                    for name in [name for name in waiting if self._air.heard(name, recent)]:
                        yield waiting.pop(name), self._air.heard(name)
        for slot in waiting.values():
            yield slot, []

    async def follow(self, slots: Sequence[Slot]) -> AsyncGenerator[tuple[Slot, list[bytes]], None]:
        """Each slot now, then whatever is announced; every `poll` seconds all is asked anew, for what got lost."""
        names = {_name(slot): slot for slot in slots}
        before: dict[str, list[bytes]] = {}
        with self._air.listening() as news:
            async with aclosing(self.fetch(slots)) as answers:
                async for slot, values in answers:
                    before[_name(slot)] = sorted(values)
                    yield slot, values
            while True:
                for name, slot in names.items():
                    values = self._air.heard(name)
                    if sorted(values) != before[name]:
                        before[name] = sorted(values)
                        yield slot, values
                if not await _within(news, self.poll):
                    await self._air.ask(names, unicast=False)


async def _within(news: asyncio.Event, seconds: float) -> bool:
    """Wait for the event and clear it; whether it came within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    news.clear()
    return True


async def _heard(news: asyncio.Event, end: float) -> None:
    """Wait until something was heard, and then for what others have to say; at most until `end` of the loop's clock."""
    if await _within(news, end - asyncio.get_running_loop().time()):
        await asyncio.sleep(GRACE)


def _name(slot: Slot) -> str:
    return f"{slot.text}.{TYPE}"


@hookimpl
def wgdisco_backends() -> list[type[Backend]]:
    """The backend of this module."""
    return [Lan]
