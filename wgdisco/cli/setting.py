"""What a command works with: interface, key and configuration as the options say, and the node made of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wgdisco.audience import Audience, Scope
    from wgdisco.config import Config
    from wgdisco.device import Device, Interface
    from wgdisco.errors import WgdiscoError
    from wgdisco.keys import PrivateKey, PublicKey
    from wgdisco.node import Node

__all__ = ["Setting", "audiences", "note", "only_interface", "scope_of", "setting"]


def note(text: str) -> None:
    """A remark for people, on stderr, so that stdout stays what was asked for."""
    print(f"wgdisco: {text}", file=sys.stderr)


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
        from wgdisco.keyfiles import read_network_secret

        if self.options.secret_file:
            return [read_network_secret(Path(self.options.secret_file), note)]
        return self.config.secrets(note)

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
            places=chosen.places,
            broken=broken,
        )
        with self._outside():
            async with opening as node:
                for problem in node.state.problems:
                    note(problem)
                yield node


def setting(options: argparse.Namespace, *, needed: bool = True) -> Setting:
    """Read who we are; raises AccessError or UsageError that name the next step unless not `needed`."""
    from wgdisco.config import for_interface, load
    from wgdisco.errors import UsageError
    from wgdisco.keyfiles import read_private_key

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
