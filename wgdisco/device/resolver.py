"""Whom the system's resolver asks, and whether the way there leads into a tunnel: its sockets cannot be marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path

from wgdisco.device.routes import Routes
from wgdisco.endpoint import Address

__all__ = ["inside", "nameservers"]

FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))  # the second: whom systemd-resolved asks
MOST = 8  # name servers; resolv.conf(5) knows three


def nameservers(files: Iterable[Path] = FILES) -> list[Address]:
    """The addresses of the first file that names a server other than this host itself."""
    for path in files:
        with suppress(OSError):
            if found := [each for each in _named(path.read_text(errors="replace")) if not each.is_loopback]:
                return found[:MOST]
    return []


def inside(interface: str, servers: Iterable[Address] | None = None) -> str:
    """A remark on name servers that are reached through a WireGuard interface; "" when none is, or it is not known."""
    with suppress(OSError), closing(Routes()) as routes:
        asked = nameservers() if servers is None else servers
        ways = [(each, routes.lookup(each)) for each in asked]
        if caught := ", ".join(str(each) for each, way in ways if way is not None and way.interface == interface):
            return (
                f"names are looked up at {caught}, through {interface}: while that is down no name is found, so give "
                "stores and STUN servers by address, or a name server beside the tunnel"
            )
    return ""


def _named(text: str) -> Iterator[Address]:
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                with suppress(ValueError):
                    yield ip_address(server)
