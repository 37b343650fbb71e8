"""What the commands share: the options that choose interface, backends and audience, and the node made of them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wgdisco.audience import Audience, Scope
    from wgdisco.config import Config
    from wgdisco.device import Device, Interface
    from wgdisco.device.port import Port
    from wgdisco.errors import WgdiscoError
    from wgdisco.keys import PrivateKey, PublicKey
    from wgdisco.node import Node
    from wgdisco.sources import Source, Where

__all__ = [
    "Setting",
    "add_audience",
    "add_backends",
    "add_identity",
    "add_secret",
    "add_whereabouts",
    "audiences",
    "gathering",
    "note",
    "only_interface",
    "open_port",
    "release",
    "scope_of",
    "seconds",
    "setting",
    "sources",
]


def note(text: str) -> None:
    """A remark for people, on stderr, so that stdout stays what was asked for."""
    print(f"wgdisco: {text}", file=sys.stderr)


def seconds(text: str) -> float:
    """A positive number of seconds on the command line."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds from above 0 to 86400")
    return number


def add_identity(parser: argparse.ArgumentParser, *, key_file: bool = True) -> None:
    """Who we are; not `key_file` for a command that works on an interface alone."""
    parser.set_defaults(key_file=key_file)
    group = parser.add_argument_group("who we are")
    group.add_argument("-i", "--interface", metavar="NAME", help="the WireGuard interface (default: the only one)")
    group.add_argument(
        "--private-key-file",
        metavar="FILE",
        help="a private key in a file of mode 0600, for a host without interface" if key_file else argparse.SUPPRESS,
    )
    group.add_argument("--config", metavar="FILE", help="default: /etc/wgdisco/INTERFACE.toml, if it exists")


def add_backends(parser: argparse.ArgumentParser) -> None:
    """Which stores."""
    group = parser.add_argument_group("stores")
    group.add_argument(
        "-b",
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="may be given several times (default: dht, and lan where its library is installed)",
    )
    group.add_argument(
        "-o",
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the backend; NAME.KEY=VALUE when there are several",
    )
    group.add_argument(
        "--deadline",
        type=seconds,
        metavar="SECONDS",
        help="for each call (default: the store's own, mostly 5)",
    )


def add_audience(parser: argparse.ArgumentParser) -> None:
    """Who may read."""
    group = parser.add_argument_group("who may read")
    group.add_argument(
        "--to",
        choices=("peers", "network", "key"),
        help="each peer of the interface (default), whoever has the network secret, or whoever knows our public key",
    )
    add_secret(parser)


def add_secret(parser: argparse.ArgumentParser) -> None:
    """The secret of a network."""
    parser.add_argument("--secret-file", metavar="FILE", help="a network secret as `wgdisco genkey` prints it")


def add_whereabouts(parser: argparse.ArgumentParser) -> None:
    """Where we are."""
    group = parser.add_argument_group("where we are")
    group.add_argument(
        "-e", "--endpoint", action="append", default=[], metavar="ADDRESS:PORT", help="say this instead of finding out"
    )
    group.add_argument(
        "--stun", action="append", default=[], metavar="HOST:PORT", help="STUN servers to ask instead; `none` asks none"
    )
    group.add_argument(
        "--observer",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="DHT nodes to ask where no STUN server answers (default: those of backend dht, if it is used)",
    )
    group.add_argument("--portmap", action="store_true", help="ask the router to forward our port (PCP, NAT-PMP, UPnP)")
    group.add_argument(
        "--expose-hosts", action="store_true", help="with --to key: also the addresses inside our own network"
    )


@dataclass
class Setting:
    """What a command works with: who we are, from which configuration, with which options."""

    options: argparse.Namespace
    config: Config
    device: Device | None
    interface: Interface | None
    private: PrivateKey | None

    @property
    def peers(self) -> list[PublicKey]:
        """The peers of the interface."""
        return list(self.interface.peers) if self.interface is not None else []

    def given(self) -> list[str]:
        """The endpoints the user gave, by option or configuration."""
        return self.options.endpoint or list(self.config.endpoints)

    @property
    def expose_hosts(self) -> bool:
        """Whether the audience `key` learns addresses inside our network."""
        return bool(self.options.expose_hosts or self.config.expose_hosts)

    @property
    def wireguard(self) -> tuple[Device, Interface, PrivateKey]:
        """Device, its reading and its key; raises AccessError when there is no usable interface."""
        from wgdisco.errors import AccessError

        if self.device is None or self.interface is None:
            raise AccessError("this needs a WireGuard interface: use -i INTERFACE instead of --private-key-file")
        if self.private is None:
            raise AccessError(f"{self.interface.name} has no private key; set one with `wg set`, or `wg-quick up`")
        return self.device, self.interface, self.private

    def _outside(self) -> AbstractContextManager[None]:
        from wgdisco.device.mark import outside

        if self.interface is None or self.config.stores_through_tunnel:
            return nullcontext()
        return outside(self.interface.name, self.interface.fwmark, note)

    def networks(self) -> list[bytes]:
        """The secrets of the networks we are in, the one to publish with first."""
        from wgdisco.config import read_network_secret

        if self.options.secret_file:
            return [read_network_secret(Path(self.options.secret_file), note)]
        return self.config.secrets()

    @asynccontextmanager
    async def node(self, broken: Callable[[WgdiscoError], None] | None = None) -> AsyncGenerator[Node, None]:
        """The node, opened; everything is closed afterwards. `broken` is told of backends that cannot be built.

        Meanwhile this process sends with the interface's fwmark: its stores are beside the tunnel.
        """
        from wgdisco.config import combine
        from wgdisco.node import open_node

        chosen = combine(self.config, self.options.backend, self.options.option)
        if chosen.defaulted:
            names = ", ".join(chosen.backends)
            note(
                f"no backend was chosen, so: {names} (no account, no server; records are sealed). See: wgdisco backends"
            )
        opening = open_node(
            chosen.backends,
            self.private,
            self.networks(),
            lifetime=self.config.lifetime,
            deadline=self.options.deadline,
            broken=broken,
        )
        with self._outside():
            async with opening as node:
                for problem in node.state.problems:
                    note(problem)
                yield node


def setting(options: argparse.Namespace, *, needed: bool = True) -> Setting:
    """Read who we are; raises AccessError or UsageError that name the next step unless not `needed`."""
    from wgdisco.config import for_interface, load, read_private_key
    from wgdisco.errors import UsageError

    if options.private_key_file:
        if options.interface:
            raise UsageError("-i and --private-key-file are two ways to say who we are; use one of them")
        config = load(Path(options.config)) if options.config else for_interface(None)
        return Setting(options, config, None, None, read_private_key(Path(options.private_key_file)))
    device, interface = _device(options, needed=needed)
    config = load(Path(options.config)) if options.config else for_interface(interface.name if interface else None)
    return Setting(options, config, device, interface, interface.private if interface else None)


def _device(options: argparse.Namespace, *, needed: bool) -> tuple[Device, Interface] | tuple[None, None]:
    from wgdisco.device import open_device
    from wgdisco.errors import AccessError, UsageError

    try:
        device = open_device(options.interface or only_interface(key_file=options.key_file))
        interface = device.read()
    except (AccessError, UsageError):
        if needed or options.interface:
            raise
        return None, None
    for refused in interface.refused:
        note(refused)
    return device, interface


def only_interface(*, key_file: bool) -> str:
    """The name of the only WireGuard interface; raises NoDevice or UsageError, which lists them.

    `key_file`: whether a key in a file would do as well.
    """
    from wgdisco.device import list_devices
    from wgdisco.errors import NoDevice, UsageError

    names = list_devices()
    if len(names) > 1:
        choice = " or ".join(f"-i {each}" for each in names)
        raise UsageError(f"there are {len(names)} WireGuard interfaces, choose one: {choice}")
    if not names:
        otherwise = ", or use --private-key-file FILE" if key_file else ""
        raise NoDevice(f"there is no WireGuard interface; bring one up (wg-quick up wg0){otherwise}")
    return names[0]


def scope_of(here: Setting) -> Scope:
    """The kind of audience that was chosen; raises UsageError where it has to be said."""
    from wgdisco.audience import Scope
    from wgdisco.errors import UsageError

    scope = Scope[(here.options.to or here.config.to or "peers").upper()]
    if scope is Scope.PEERS and here.interface is None:
        raise UsageError("without an interface there are no peers to speak to; choose --to network or --to key")
    return scope


def audiences(here: Setting, node: Node) -> list[Audience]:
    """Who may read what is published; raises UsageError when nobody could."""
    from wgdisco.errors import UsageError

    chosen = node.readers(scope_of(here), here.peers)
    if not chosen:
        raise UsageError("the interface has no peers, so nobody could read the record; choose --to network or --to key")
    return chosen


async def open_port(here: Setting, stack: AsyncExitStack) -> Port | None:
    """The raw socket on WireGuard's own port; None with a remark when it cannot be had."""
    from wgdisco.device.port import WireGuardPort
    from wgdisco.errors import AccessError

    _, interface, _ = here.wireguard
    if not interface.listen_port:
        raise AccessError(f"{interface.name} has no listen port; is it up? (ip link set up dev {interface.name})")
    try:
        return await stack.enter_async_context(WireGuardPort(interface.listen_port, fwmark=interface.fwmark))
    except AccessError as error:
        note(str(error))
        return None


def sources(here: Setting, port: Port | None, *, resident: bool = False, outlive: bool = False) -> list[Source]:
    """The sources of whereabouts; given endpoints alone when there are some.

    `resident`: for the agent, which may ask the router as configured. `outlive`: what is asked of the router stays when
    the source is closed, for as long as the record that names it.
    """
    from wgdisco.endpoint import Endpoint
    from wgdisco.sources.interface import InterfaceSource
    from wgdisco.sources.static import StaticSource

    if given := here.given():
        return [StaticSource([Endpoint.parse(text) for text in given])]
    _, interface, _ = here.wireguard
    allowed = [network for peer in interface.peers.values() for network in peer.allowed_ips]
    found: list[Source] = [InterfaceSource(interface.listen_port, interface.fwmark, allowed)]
    if port is not None:
        found += _outside(here, port)
    if here.options.portmap or (resident and here.config.portmap):
        found.append(_portmap(here, resident=resident, outlive=outlive))
    return found


def _portmap(here: Setting, *, resident: bool, outlive: bool) -> Source:
    """The router; the agent does not wait for a slow one, and has its answer next time."""
    from wgdisco.sources.portmap import PortmapSource

    _, interface, private = here.wireguard
    return PortmapSource(
        interface.listen_port,
        lifetime=here.config.lifetime,
        fwmark=interface.fwmark,
        secret=private.agree(private.public),
        patience=0.3 if resident and not outlive else None,
        outlive=outlive,
    )


async def release(listed: Sequence[Source]) -> None:
    """Take back what sources asked of others, as a forwarded port."""
    for source in listed:
        if (close := getattr(source, "close", None)) is not None:
            await close()


def _outside(here: Setting, port: Port) -> list[Source]:
    """Who sees us from outside: STUN servers, and DHT nodes where none of those answers."""
    from wgdisco.sources.otherwise import Otherwise
    from wgdisco.sources.stun import DEFAULT_STUN_SERVERS, StunSource

    servers = here.options.stun or here.config.stun
    if servers is None:
        servers = DEFAULT_STUN_SERVERS
    stun = StunSource(port, servers) if servers and servers != ["none"] else None
    observed = _observed(here, port)
    if stun is None or observed is None:
        return [each for each in (stun, observed) if each is not None]
    return [Otherwise(stun, observed)]


def _observed(here: Setting, port: Port) -> Source | None:
    """The DHT nodes that were named, or those of the backend dht; None where neither is used."""
    from wgdisco.config import combine
    from wgdisco.plugins import build
    from wgdisco.state import folder_for

    options = here.options
    names = options.observer or here.config.observers
    if names is not None:
        return _named(names, port) if names else None
    tables = combine(here.config, getattr(options, "backend", ()), getattr(options, "option", ())).backends
    if "dht" not in tables:
        return None
    from wgdisco.backends.dht import DHT
    from wgdisco.sources.observed import ObservedSource

    dht = build("dht", tables["dht"], folder_for(os.environ, os.getuid()) / "cache" / "dht")
    return ObservedSource(port, dht.known) if isinstance(dht, DHT) else None


def _named(names: Sequence[str], port: Port) -> Source:
    from wgdisco.bep44.known import known
    from wgdisco.bep44.resolve import split
    from wgdisco.sources.observed import ObservedSource

    for name in names:
        split(name)
    return ObservedSource(port, lambda: known(names))


def gathering(quick: Sequence[Source]) -> Callable[[bool], Awaitable[Where]]:
    """What asks these sources: quickly, or thoroughly with the NAT tests that take seconds."""
    from wgdisco.cli.endpoints import THOROUGH, thorough
    from wgdisco.sources import gather

    slow = [thorough(source) for source in quick]

    def look(slowly: bool) -> Awaitable[Where]:
        return gather(slow, THOROUGH) if slowly else gather(quick)

    return look
