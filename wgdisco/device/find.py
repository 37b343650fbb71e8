"""Which WireGuard interfaces there are, and by which way each is reached: as wg(8) chooses."""

from __future__ import annotations

from pathlib import Path

from wgdisco.device import netlink
from wgdisco.device.types import Device
from wgdisco.device.uapi import SOCKETS, UserspaceDevice
from wgdisco.errors import AccessError, NoDevice

__all__ = ["list_devices", "open_device"]


def open_device(name: str, *, sockets: Path = SOCKETS) -> Device:
    """The interface `name`: by its program's socket when one listens there, else by the kernel.

    Raises NoDevice, naming those that exist, and AccessError when the socket may not be opened.
    """
    refused: AccessError | None = None
    if _is_name(name):
        userspace = UserspaceDevice(name, sockets)
        try:
            if userspace.answers():
                return userspace
        except AccessError as error:
            refused = error
        if name in netlink.list_links():
            return netlink.KernelDevice(name)
    raise refused or NoDevice(_missing(name, list_devices(sockets=sockets)))


def list_devices(*, sockets: Path = SOCKETS) -> list[str]:
    """The names of all WireGuard interfaces of this network namespace, sorted; those we may not open included."""
    return sorted({*_programs(sockets), *netlink.list_links()})


def _programs(sockets: Path) -> list[str]:
    """Names of interfaces with a socket on which a program listens."""
    return [path.stem for path in sockets.glob("*.sock") if _listens(UserspaceDevice(path.stem, sockets))]


def _listens(device: UserspaceDevice) -> bool:
    try:
        return device.answers()
    except AccessError:
        return True  # it exists, and `open_device` says why it cannot be used


def _is_name(name: str) -> bool:
    """Whether Linux would take it as an interface's name (dev_valid_name): it becomes part of a path."""
    return 0 < len(name.encode()) < 16 and name not in {".", ".."} and not any(c in "/:" or c.isspace() for c in name)


def _missing(name: str, existing: list[str]) -> str:
    if existing:
        there = ", ".join(existing)
        return f"there is no WireGuard interface {name!r}, but `wg show interfaces` has {there}: choose with -i"
    return f"there is no WireGuard interface {name!r}, and no other: create it, for instance with `wg-quick up {name}`"
