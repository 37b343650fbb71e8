"""WireGuard's mark on every socket of this process: in a full tunnel the stores are reached beside the tunnel.

Libraries open their sockets each in its own way, so an audit hook (PEP 578) marks a socket just before it connects or
sends, whoever opened it and when. A subclass in the place of socket.socket costs less, since it marks a socket once,
but misses those of whoever imported the class before, and keeps the mark of the day the socket was opened. Measured
(2 processors, Python 3.11): 0.15 µs for any audit event (6,000 of them while all backends' libraries are imported:
1 ms), 2 µs for a datagram that takes 4 without; nothing where there is no fwmark, as the hook is not installed then.

Not marked: what a library in C sends by itself (the system's resolver, miniupnpc), what other programs send (backend
exec), and listening sockets, whose answers have to go back the way the questions came.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from ipaddress import ip_address
from typing import Any

from wgdisco.device.family import SO_MARK
from wgdisco.device.routes import Route, Routes, is_strict

__all__ = ["outside"]

SENDING = frozenset(("socket.connect", "socket.sendto", "socket.sendmsg"))
INTERNET = (socket.AF_INET, socket.AF_INET6)
MOST = 64  # destinations whose route is looked at


@contextmanager
def outside(interface: str, fwmark: int, say: Callable[[str], None]) -> Iterator[None]:
    """Meanwhile everything this process sends carries the `fwmark` of a WireGuard interface; 0 leaves all as it is.

    Of several at a time the one entered last counts. `say` hears, once each and maybe in another thread, that marking
    is not permitted, of servers whose route leads into `interface` even so, and of answers that this host will drop.
    Nothing is raised: a store that cannot be marked is used as it is.
    """
    if not fwmark:
        yield
        return
    way, marker = Way(interface, fwmark, say), _installed()
    marker.ways.append(way)
    try:
        yield
    finally:
        marker.ways.remove(way)


class Way:
    """The way beside one interface: marks a socket, and says what stands in the way."""

    def __init__(self, interface: str, fwmark: int, say: Callable[[str], None]) -> None:
        self.interface, self.fwmark = interface, fwmark
        self._say = say
        self._met: set[str] = set()
        self._told: set[str] = set()
        self._refused = False

    def mark(self, event: str, sock: socket.socket, address: Any) -> None:
        """Mark a socket that is about to send; one to this host itself as well, where it changes nothing."""
        if sock.family not in INTERNET:
            return
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self.fwmark)
        except PermissionError:
            self._refuse()
        except OSError:  # it was closed meanwhile, as the call itself will say
            return
        if event == "socket.connect" and sock.type == socket.SOCK_STREAM:
            self._look(str(address[0]))

    def _refuse(self) -> None:
        self._refused = True
        self._tell(
            f"stores are reached through whatever tunnel there is: sending with the fwmark {self.fwmark:#x} of "
            f"{self.interface} needs CAP_NET_RAW since Linux 5.17, CAP_NET_ADMIN before"
        )

    def _look(self, host: str) -> None:
        """Say what is wrong with the way to a server, which is looked up once."""
        if host in self._met or len(self._met) >= MOST:
            return
        self._met.add(host)
        # no address: a name, which the system looks up after this; or no netlink here
        with suppress(ValueError, OSError), closing(Routes()) as routes:
            address = ip_address(host)
            way = routes.lookup(address, 0 if self._refused else self.fwmark)
            if way is None:
                return
            if way.interface == self.interface:
                self._tell(f"{host} is reached through {self.interface}: a store there cannot help while that is down")
            elif address.version == 4 and is_strict(way.interface) and self._is_inside(routes.lookup(address)):
                self._tell(
                    f"answers over TCP are dropped at {way.interface}, unless a rule of yours marks them: rp_filter is "
                    f"1 there, and in a full tunnel it has to be 2: sysctl net.ipv4.conf.{way.interface}.rp_filter=2"
                )

    def _is_inside(self, way: Route | None) -> bool:
        return way is not None and way.interface == self.interface

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            with suppress(OSError, ValueError):  # a closed standard error is no reason not to connect
                self._say(text)


class Marker:
    """The hook itself; `ways` are those in use."""

    def __init__(self) -> None:
        self.ways: list[Way] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Called by Python for everything that is audited."""
        if event in SENDING and (ways := self.ways[-1:]):
            ways[0].mark(event, *arguments)


@cache
def _installed() -> Marker:
    """The one of this process: a hook cannot be taken away again, so there is never a second one."""
    marker = Marker()
    sys.addaudithook(marker.hear)
    return marker
