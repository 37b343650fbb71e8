"""News of the network configuration: links, addresses and routes that came, changed or went (rtnetlink(7))."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Self

from wgdisco.device.genetlink import messages

__all__ = ["Monitor"]

# multicast groups of rtnetlink(7): links, IPv4 and IPv6 addresses and routes
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
LINKS, ADDRESSES, ROUTES = (16, 17), (20, 21), (24, 25)
LARGEST = 1 << 16  # bytes of one datagram
AT_ONCE = 64  # datagrams read before the loop gets a turn


class Monitor:
    """Calls `told` when links, addresses or routes changed, at most once for each turn of the loop; a context manager.

    It belongs to the network namespace where it was entered. When the kernel had more to say than fitted, `told` is
    called too: something changed. Raises OSError when there is no netlink.
    """

    def __init__(self, told: Callable[[], None]) -> None:
        self.told = told

    def __enter__(self) -> Self:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        try:
            self._socket.bind((0, GROUPS))
        except BaseException:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        if any([self._next() for _ in range(AT_ONCE)]):  # noqa: C419 - all of them are to be read
            self.told()

    def _next(self) -> bool:
        """Whether the next datagram has news; none is no news."""
        try:
            data = self._socket.recv(LARGEST)
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno == errno.ENOBUFS
        return any(message.kind in (*LINKS, *ADDRESSES, *ROUTES) for message in messages(data))
