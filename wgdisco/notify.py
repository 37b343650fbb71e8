"""What a service tells systemd: ready, alive, reloading, stopping, a line of status (sd_notify(3)).

Each call sends one datagram to $NOTIFY_SOCKET and never waits; without that variable it does nothing, so the agent
calls these everywhere. A service manager that does not listen is no reason to stop: such errors are not raised.
"""

from __future__ import annotations

import os
import socket
import time

__all__ = ["alive", "interval", "ready", "reloading", "status", "stopping", "tell"]

LONGEST = 1024  # characters of a status; beyond, a datagram of many bytes might not be taken whole


def ready() -> None:
    """The service has started, or has finished reloading."""
    tell(READY=1)


def alive() -> None:
    """The service works; to be called once per `interval()`."""
    tell(WATCHDOG=1)


def reloading() -> None:
    """The service reads its configuration again; `ready` ends that. With the time Type=notify-reload asks for."""
    tell(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


def stopping() -> None:
    """The service ends."""
    tell(STOPPING=1)


def status(text: str) -> None:
    """One line for `systemctl status`; line breaks become blanks, and 1024 characters are shown at most."""
    tell(STATUS=" ".join(text.split())[:LONGEST])


def interval() -> float | None:
    """Seconds between two calls of `alive`: half the watchdog's time; None when this process has no watchdog.

    Meant are WATCHDOG_USEC (microseconds) and WATCHDOG_PID (sd_watchdog_enabled(3)); nonsense in them counts as none.
    """
    try:
        period = int(os.environ["WATCHDOG_USEC"])
        meant = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return period / 2_000_000 if period > 0 and meant == os.getpid() else None


def tell(**fields: str | int) -> None:
    """Send assignments, NAME=VALUE each, in one datagram; does nothing where nobody listens.

    Raises ValueError for a value with a line break, which would be read as another assignment.
    """
    lines = [f"{name}={value}" for name, value in fields.items()]
    if any("\n" in line for line in lines):
        raise ValueError(f"{lines!r}: expected values of one line; replace the line breaks")
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@") or len(address) == 1:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            # "@" stands for the zero byte that begins an abstract name (unix(7))
            sender.connect(f"\0{address[1:]}" if address[0] == "@" else address)
            sender.send("\n".join(lines).encode())
    except OSError:
        return
