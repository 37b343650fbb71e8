"""The daemon: a session after the other on one interface, for ever; nothing but a signal ends it.

The outer loop waits for the interface and opens the configuration for its key (footing.py); the inner one has a session
work for each of its readings (duty.py), until key, port, mark or peers change, or there is another configuration.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from wgdisco import notify, report
from wgdisco.account import Diary, account, blank
from wgdisco.device import Device, Interface, open_device
from wgdisco.device.shared import SharedDevice
from wgdisco.device.timeline import Timeline
from wgdisco.duty import Duty
from wgdisco.errors import AccessError, NoDevice, WgdiscoError
from wgdisco.footing import Configuration, Footing, Means
from wgdisco.keys import PublicKey
from wgdisco.reporter import Reporter, watchdog
from wgdisco.session import Session
from wgdisco.supervise import described, end_if_cancelled, supervised, unheard

__all__ = ["Agent"]

WAIT = 1.0  # seconds between two looks for an interface that is missing
GONE = 3.0  # seconds after which an interface that was taken down counts as gone


class Agent:
    """`run` for ever, or `working` once; `reload` reads the configuration again. `say` and `echo` hear what is done."""

    def __init__(
        self,
        name: str,
        prepare: Callable[[Interface], Means],
        say: Callable[[str], None],
        echo: Callable[[str], None],
        folder: Path = report.FOLDER,
        *,
        leave: bool = False,
    ) -> None:
        """`prepare` reads the configuration for an interface; `folder` is where reports are written.

        With `leave` a good-bye is published at the end; it always is when the interface has gone.
        """
        say, echo = unheard(say), unheard(echo)
        self.name, self.echo, self.leave = name, echo, leave
        self._reporter = Reporter(report.where(name, folder), say)
        self.diary = Diary()
        self.trouble = "it has just started"
        self._say = say
        self._timeline = Timeline()
        self._configuration = Configuration(prepare, say)
        self._duty: Duty | None = None
        self._reload = asyncio.Event()

    @property
    def session(self) -> Session | None:
        """The session that is at work."""
        return self._duty.session if self._duty is not None else None

    # ---- for ever

    async def run(self) -> None:
        """Go on until cancelled."""
        tasks = [
            asyncio.ensure_future(supervised("report", lambda: self._reporter.run(self._account), self._say)),
            asyncio.ensure_future(supervised("watchdog", watchdog, self._say)),
        ]
        notify.ready()
        try:
            while True:
                try:
                    await self._live()
                except (KeyboardInterrupt, GeneratorExit):
                    raise
                except BaseException as error:  # noqa: BLE001 - nothing but a signal ends the agent
                    end_if_cancelled(error)  # whatever the clean-up raised
                    await self._wait_for(described(error))
        finally:
            notify.stopping()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._reporter.write(blank(self.name, self.diary, "stopped"))

    def check(self) -> None:
        """Raise what no waiting would mend: UsageError of a configuration, AccessError; and NoDevice."""
        self._configuration.prepare(open_device(self.name).read())

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[Session, None]:
        """One session at work, for whoever ends it himself."""
        device, interface = self._open()
        footing = await self._configuration.read(interface)
        try:
            async with self._working(footing, device, interface) as duty:
                try:
                    yield duty.session
                finally:
                    await duty.end()
                    if self.leave:
                        await duty.good_bye()
        finally:
            await footing.close()

    def reload(self) -> None:
        """Read the configuration again, as soon as possible; no tunnel is touched by that."""
        notify.reloading()
        self._reload.set()

    async def _live(self) -> None:
        """A session after the other for as long as the interface is there and keeps its key."""
        device, interface = self._open()
        self._reload.clear()
        footing = await self._configuration.begin(interface)
        notify.ready()
        try:
            while footing.fits(interface):
                await footing.stand(interface)
                following = await self._serve(footing, device, interface)
                if following is not None:
                    footing, old = following, footing
                    await old.close()
                device, interface = self._open()
        finally:
            await footing.close()

    def _open(self) -> tuple[Device, Interface]:
        """The interface; raises AccessError that says what is missing, NoDevice included."""
        device = SharedDevice(open_device(self.name), self._timeline)
        interface = device.read()
        if interface.private is None:
            raise AccessError(f"{self.name} has no private key; set one with `wg set`, or `wg-quick up`")
        if not interface.listen_port:
            raise AccessError(f"{self.name} has no listen port; is it up? (ip link set up dev {self.name})")
        return device, interface

    # ---- a session

    @asynccontextmanager
    async def _working(self, footing: Footing, device: Device, interface: Interface) -> AsyncGenerator[Duty, None]:
        session = Session(
            footing.node,
            device,
            interface,
            footing.port,
            footing.means.gather(footing.sources),
            footing.readers(interface),
            self._heard,
            self.echo,
            expose_hosts=footing.means.expose_hosts,
            users=self.diary.users_of(interface),
        )
        self._duty, self.trouble = Duty(session, device, self._say), ""
        peers = "1 peer" if len(interface.peers) == 1 else f"{len(interface.peers)} peers"
        self._say(f"{self.name}: {session.node.signer.public.short}, port {interface.listen_port}, {peers}")
        try:
            self._duty.begin()
            yield self._duty
        finally:
            await self._duty.end()
            self._duty = None
            self.diary.close(session)
            session.close()

    async def _serve(self, footing: Footing, device: Device, interface: Interface) -> Footing | None:
        """Return when another session is needed, with what it shall stand on if that is another configuration.

        A good-bye is said when the interface has gone, or we are to leave.
        """
        async with self._working(footing, device, interface) as duty:
            looking = asyncio.ensure_future(duty.changed())
            try:
                return await self._until_changed(looking, interface)
            except NoDevice:
                await duty.end()
                if not await self._comes_back():
                    await duty.good_bye()
                raise
            except asyncio.CancelledError:
                await duty.end()
                if self.leave:
                    await duty.good_bye()
                raise
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    async def _until_changed(self, looking: asyncio.Future[str], interface: Interface) -> Footing | None:
        while True:
            reloading = asyncio.ensure_future(self._reload.wait())
            try:
                both: set[asyncio.Future[Any]] = {looking, reloading}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                reloading.cancel()
            if looking.done():
                self._say(f"{self.name}: {looking.result()} changed")
                return None
            self._reload.clear()
            following = await self._configuration.reread(interface)
            notify.ready()
            if following is not None:
                return following

    async def _comes_back(self) -> bool:
        """Whether the interface is there again soon, as after `wg-quick down` and `up`."""
        end = time.monotonic() + GONE
        while time.monotonic() < end:
            with suppress(WgdiscoError):
                open_device(self.name)
                return True
            await asyncio.sleep(0.2)
        return False

    # ---- what it says

    async def _wait_for(self, trouble: str) -> None:
        if trouble != self.trouble:
            self._say(f"{trouble}; waiting")
        self.trouble = trouble
        if self._reload.is_set():  # the configuration is read anyway when the interface is there
            self._reload.clear()
            notify.ready()
        await asyncio.sleep(WAIT)

    def _heard(self, text: str, peer: PublicKey | None) -> None:
        if peer is not None:
            self.diary.last[str(peer)] = text
        self._say(text if peer is None else f"{peer.short}: {text}")

    def _account(self) -> report.Report:
        duty = self._duty
        if duty is not None and duty.lookout is not None:
            return account(duty.session, duty.lookout.interface, self.diary, report.MANY)
        return blank(self.name, self.diary, "waiting", self.trouble)
