"""The daemon: a session after the other on one interface, for ever; nothing but a signal ends it.

The outer loop waits for the interface and opens a node for its key; the inner one runs a session for each of its
readings, until key, port, mark or peers change. Tasks of a session are supervised (supervise.py): whatever one of them
raises, a plugin's SystemExit included, is said, and it is started again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from wgdisco import notify, report
from wgdisco.account import Diary, account, blank
from wgdisco.audience import Scope
from wgdisco.device import Device, Interface, open_device
from wgdisco.device.port import Port, WireGuardPort
from wgdisco.device.shared import SharedDevice
from wgdisco.device.timeline import Timeline
from wgdisco.errors import AccessError, NoDevice, UsageError, WgdiscoError
from wgdisco.keys import PublicKey
from wgdisco.look import Lookout
from wgdisco.node import Node
from wgdisco.reporter import Reporter, watchdog
from wgdisco.session import Session
from wgdisco.sources import Source, Where
from wgdisco.supervise import described, end_if_cancelled, supervised, unheard

__all__ = ["Agent", "Means"]

WAIT = 1.0  # seconds between two looks for an interface that is missing
GONE = 3.0  # seconds after which an interface that was taken down counts as gone
GOODBYE = 5.0  # seconds for the last publish


@dataclass(frozen=True)
class Means:
    """What the configuration says; made anew at every start and at SIGHUP.

    `node(interface, broken)` opens the node, telling `broken` of each backend that cannot be built; `sources` gives
    what says where we are, and `gather` makes of them what asks them all; `scope` is who may read.
    """

    node: Callable[[Interface, Callable[[WgdiscoError], None]], AbstractAsyncContextManager[Node]]
    sources: Callable[[Interface, Port | None], Sequence[Source]]
    gather: Callable[[Sequence[Source]], Callable[[bool], Awaitable[Where]]]
    scope: Scope
    expose_hosts: bool = False


class Agent:
    """`run` for ever, or `once`; `reload` reads the configuration again. `say` and `echo` hear what is done."""

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
        self.name, self.prepare, self.echo, self.leave = name, prepare, echo, leave
        self._reporter = Reporter(report.where(name, folder), say)
        self.diary = Diary()
        self.session: Session | None = None
        self.trouble = "it has just started"
        self._say = say
        self._lookout: Lookout | None = None
        self._timeline = Timeline()
        self._means: Means | None = None
        self._reload = asyncio.Event()

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
        self.prepare(open_device(self.name).read())

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[Session, None]:
        """One session at work, for whoever ends it himself."""
        device, interface = self._open()
        means = self.prepare(interface)
        async with (
            means.node(interface, self._broken) as node,
            self._open_session(node, device, interface, means) as session,
        ):
            tasks = self._tasks(session)
            try:
                yield session
            finally:
                await self._cancel(*tasks)
                if self.leave:
                    await self._good_bye(session)

    def reload(self) -> None:
        """Read the configuration again, as soon as possible; no tunnel is touched by that."""
        notify.reloading()
        self._reload.set()

    async def _live(self) -> None:
        """A node for as long as the interface keeps its key and its mark, and the configuration stays."""
        device, interface = self._open()
        self._configure(interface)
        assert self._means is not None  # _configure raises where there is none
        fwmark = interface.fwmark
        async with self._means.node(interface, self._broken) as node:
            for problem in node.state.problems:
                self._say(problem)
            while not self._reload.is_set():
                async with self._open_session(node, device, interface, self._means) as session:
                    await self._run(session, device)
                device, interface = self._open()
                if interface.public != (node.private.public if node.private is not None else None):
                    return
                if interface.fwmark != fwmark:  # connections of the stores without it may lead into the tunnel now
                    return

    def _open(self) -> tuple[Device, Interface]:
        """The interface; raises AccessError that says what is missing, NoDevice included."""
        device = SharedDevice(open_device(self.name), self._timeline)
        interface = device.read()
        if interface.private is None:
            raise AccessError(f"{self.name} has no private key; set one with `wg set`, or `wg-quick up`")
        if not interface.listen_port:
            raise AccessError(f"{self.name} has no listen port; is it up? (ip link set up dev {self.name})")
        return device, interface

    def _configure(self, interface: Interface) -> None:
        """Read the configuration; what cannot be used is said, and the last good one stays."""
        self._reload.clear()
        try:
            self._means = self.prepare(interface)
        except (UsageError, AccessError) as error:
            if self._means is None:
                raise
            self._say(f"{error}; the configuration before that stays in use")
        notify.ready()

    @asynccontextmanager
    async def _open_session(
        self, node: Node, device: Device, interface: Interface, means: Means
    ) -> AsyncGenerator[Session, None]:
        async with AsyncExitStack() as stack:
            port: Port | None = None
            try:
                port = await stack.enter_async_context(WireGuardPort(interface.listen_port, fwmark=interface.fwmark))
            except AccessError as error:
                self._say(str(error))
            sources = means.sources(interface, port)
            for source in sources:
                if (close := getattr(source, "close", None)) is not None:
                    stack.push_async_callback(close)
            session = Session(
                node,
                device,
                interface,
                port,
                means.gather(sources),
                node.readers(means.scope, list(interface.peers)),
                self._heard,
                self.echo,
                expose_hosts=means.expose_hosts,
            )
            stack.callback(session.close)
            self.session, self.trouble = session, ""
            peers = "1 peer" if len(interface.peers) == 1 else f"{len(interface.peers)} peers"
            self._say(f"{self.name}: {session.node.signer.public.short}, port {interface.listen_port}, {peers}")
            try:
                yield session
            finally:
                self.session = self._lookout = None
                self.diary.close(session)

    async def _run(self, session: Session, device: Device) -> None:
        """Return when another session is needed; a good-bye is said when the interface has gone, or we are to leave."""
        tasks = self._tasks(session)
        looking = asyncio.ensure_future(self._look(session, device))
        reloading = asyncio.ensure_future(self._reload.wait())
        try:
            await asyncio.wait({looking, reloading}, return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                self._say(f"{self.name}: {looking.result()} changed")
        except NoDevice:
            await self._cancel(*tasks)
            if not await self._comes_back():
                await self._good_bye(session)
            raise
        except asyncio.CancelledError:
            await self._cancel(*tasks)
            if self.leave:
                await self._good_bye(session)
            raise
        finally:
            await self._cancel(*tasks, looking, reloading)

    def _tasks(self, session: Session) -> list[asyncio.Task[None]]:
        works: dict[str, Callable[[], Awaitable[object]]] = {
            "announce": session.announcer.run,
            "maintain": session.announcer.maintain,
            "seek": session.seeker.run,
            **{f"peer {peer.short}": tender.keep for peer, tender in session.tenders.items()},
        }
        if session.fleet is not None:
            works["fleet"] = session.fleet.run
        return [
            asyncio.ensure_future(supervised(name, work, self._say, session.count_restart))
            for name, work in works.items()
        ]

    async def _look(self, session: Session, device: Device) -> str:
        def woke(why: str) -> None:
            self._say(f"{why}; looking at everything anew")
            session.woke()

        self._lookout = Lookout(device, session.addresses, session.moved, session.announcer.hurry, woke)
        return await self._lookout.run()

    async def _comes_back(self) -> bool:
        """Whether the interface is there again soon, as after `wg-quick down` and `up`."""
        end = time.monotonic() + GONE
        while time.monotonic() < end:
            with suppress(WgdiscoError):
                open_device(self.name)
                return True
            await asyncio.sleep(0.2)
        return False

    async def _good_bye(self, session: Session) -> None:
        """Replace our record by one without endpoints, so that nobody goes on trying them."""
        with suppress(TimeoutError, WgdiscoError):
            async with asyncio.timeout(GOODBYE):
                said = await session.announcer.leave()
                self._say(f"good-bye said to {', '.join(said.stored) or 'no backend'}")

    @staticmethod
    async def _cancel(*tasks: asyncio.Task[object]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- what it says

    def _broken(self, error: WgdiscoError) -> None:
        self._say(f"{error}; going on without it")

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
        session, lookout = self.session, self._lookout
        if session is not None and lookout is not None:
            return account(session, lookout.interface, self.diary, report.MANY)
        return blank(self.name, self.diary, "waiting", self.trouble)
