"""Keep publishing and keep peers reachable, until stopped. Stopping it touches no tunnel; SIGHUP reloads."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from wgdisco.cli.setting import Setting, note, scope_of, setting
from wgdisco.cli.whereabouts import gathering, sources
from wgdisco.cli.words import add_audience, add_backends, add_identity, add_whereabouts, seconds

if TYPE_CHECKING:
    from wgdisco.agent import Agent
    from wgdisco.device import Interface
    from wgdisco.errors import WgdiscoError
    from wgdisco.footing import Means
    from wgdisco.node import Node

__all__ = ["configure", "run"]

ONCE = 20.0  # seconds for `--once`


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_identity(parser, key_file=False)
    add_backends(parser)
    add_audience(parser)
    add_whereabouts(parser)
    group = parser.add_argument_group("how long")
    group.add_argument("--once", action="store_true", help="publish, connect every peer, and end: for cron")
    group.add_argument(
        "--timeout", type=seconds, default=ONCE, metavar="SECONDS", help="with --once (default: %(default).0f)"
    )
    group.add_argument("--leave", action="store_true", help="publish a good-bye at the end: a record without endpoints")


def run(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 0 then. With --once: 0 when every peer is connected, else why not."""
    from wgdisco.cli.running import run as run_async

    try:
        return run_async(_run(options))
    except KeyboardInterrupt:
        return 0


async def _run(options: argparse.Namespace) -> int:
    from wgdisco.agent import Agent
    from wgdisco.alone import alone, at_work
    from wgdisco.cli import show
    from wgdisco.once import once

    name = _name(options)
    agent = Agent(name, lambda _: _means(options, name), note, show.echo, leave=options.leave)
    if options.once:
        if (other := at_work(name)) is not None:
            note(f"{name}: {other} does all that already, so nothing was done; see: wgdisco status -i {name}")
            return 0
        return await once(agent, options.timeout)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, agent.reload)
    _first_look(agent)
    async with alone(name, note):
        await agent.run()
    return 0


def _name(options: argparse.Namespace) -> str:
    """The interface's name; it need not exist yet, when it is named."""
    from wgdisco.cli.setting import only_interface
    from wgdisco.errors import UsageError

    if options.private_key_file:
        raise UsageError("the agent works on a WireGuard interface: use -i INTERFACE instead of --private-key-file")
    return str(options.interface or only_interface(key_file=False))


def _means(options: argparse.Namespace, name: str) -> Means:
    """What the options and the configuration file say now."""
    from wgdisco.footing import Means

    options.interface = name
    here = setting(options)
    return Means(
        node=lambda interface, broken: _node(_with(here, interface), broken),
        sources=lambda interface, port: sources(_with(here, interface), port, resident=True, outlive=options.once),
        gather=gathering,
        scope=scope_of(here),
        expose_hosts=here.expose_hosts,
    )


@asynccontextmanager
async def _node(here: Setting, broken: Callable[[WgdiscoError], None]) -> AsyncGenerator[Node, None]:
    """The node; what names cost in a full tunnel is said first."""
    from wgdisco.device.resolver import inside

    _, interface, _ = here.wireguard
    if remark := inside(interface.name):
        note(remark)
    async with here.node(broken) as node:
        yield node


def _with(here: Setting, interface: Interface) -> Setting:
    """The same setting for a newer reading of the interface."""
    return Setting(here.options, here.config, here.device, interface, interface.private)


def _first_look(agent: Agent) -> None:
    """What cannot become right by waiting ends the agent before it begins; raises UsageError or AccessError."""
    from wgdisco.errors import NoDevice

    try:
        agent.check()
    except NoDevice as error:
        note(f"{error}; waiting for it")
