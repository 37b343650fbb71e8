"""A session at work: its parts as supervised tasks, the interface watched meanwhile, the good-bye at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from wgdisco.device import Device
from wgdisco.errors import WgdiscoError
from wgdisco.look import Lookout
from wgdisco.session import Session
from wgdisco.supervise import supervised

__all__ = ["Duty"]

GOODBYE = 5.0  # seconds for the last publish
AGAIN = 1.0  # seconds after which a part that goes on is told again to end


class Duty:
    """A session whose parts work from `begin` to `end`; what one of them raises is said, and it is started again."""

    def __init__(self, session: Session, device: Device, say: Callable[[str], None]) -> None:
        self.session, self.device, self._say = session, device, say
        self.lookout: Lookout | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Start every part."""
        self._tasks = [
            asyncio.ensure_future(supervised(name, work, self._say, self.session.count_restart))
            for name, work in self._works().items()
        ]

    async def changed(self) -> str:
        """Return what changed at the interface so that another session is needed; raises NoDevice when it is gone."""
        session = self.session
        self.lookout = Lookout(self.device, session.addresses, session.moved, session.announcer.hurry, self._woke)
        return await self.lookout.run()

    async def end(self) -> None:
        """Stop every part; one that swallows its cancellation, as libraries may make it do, is told again."""
        left = set(self._tasks)
        while left:
            for task in left:
                task.cancel()
            left = (await asyncio.wait(left, timeout=AGAIN))[1]

    async def good_bye(self) -> None:
        """Replace our record by one without endpoints, so that nobody goes on trying them."""
        with suppress(TimeoutError, WgdiscoError):
            async with asyncio.timeout(GOODBYE):
                said = await self.session.announcer.leave()
                self._say(f"good-bye said to {', '.join(said.stored) or 'no backend'}")

    def _works(self) -> dict[str, Callable[[], Awaitable[object]]]:
        session = self.session
        works: dict[str, Callable[[], Awaitable[object]]] = {
            "announce": session.announcer.run,
            "maintain": session.announcer.maintain,
            "seek": session.seeker.run,
            **{f"peer {peer.short}": tender.keep for peer, tender in session.tenders.items()},
        }
        if session.fleet is not None:
            works["fleet"] = session.fleet.run
        return works

    def _woke(self, why: str) -> None:
        self._say(f"{why}; looking at everything anew")
        self.session.woke()
