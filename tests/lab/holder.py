"""Process 1 of a lab: makes the namespaces, opens sockets in them, and takes everything along when it ends.

It runs below `unshare --pid --fork --kill-child --mount --mount-proc` with one end of a SOCK_SEQPACKET pair as standard
input; a request and its answer are one JSON message each. When the other end closes, for whatever reason (SIGKILL of
the tests included), this process ends, and with process 1 the kernel kills every process of its PID namespace; the
network namespaces, mounts and interfaces go with them. It imports nothing but the standard library, for the start takes
most of the time a lab takes.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["entered", "main"]

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
SYSCTLS = {
    # without these, IPv6 is dead for two seconds after every change of address
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
    # the host's defaults are copied into new namespaces, and they differ between distributions
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/promote_secondaries": "1",
    "net/ipv4/conf/default/promote_secondaries": "1",
    # refusals are how a new cable is tried, and a burst of them must not be held back
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv6/icmp/ratelimit": "0",
    # else bridged frames pass the routers' forward chain a second time
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
    "net/bridge/bridge-nf-call-arptables": "0",
}
LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(kind: str, target: str, options: str = "") -> None:
    result = LIBC.mount(kind.encode(), target.encode(), kind.encode(), 0, options.encode())
    _checked(result, f"mount of {kind} on {target}")


@contextmanager
def entered(network: int) -> Iterator[None]:
    """Move this thread into a network namespace, given as an open file descriptor, and back again; raises OSError."""
    with Path("/proc/thread-self/ns/net").open("rb") as home:
        _checked(LIBC.setns(network, CLONE_NEWNET), "setns")
        try:
            yield
        finally:
            # going on in the wrong namespace would make every later result a lie
            if LIBC.setns(home.fileno(), CLONE_NEWNET) < 0:
                os._exit(70)


def _furnish() -> None:
    """A network of its own with `lo` up, and a /run, /var/lib and /etc that nobody else sees."""
    _checked(LIBC.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare")
    for folder in ("/run", "/var/lib"):
        _mount("tmpfs", folder, "mode=755")
    for folder in ("/run/wireguard", "/run/home", "/run/etc", "/run/etc/upper", "/run/etc/work"):
        Path(folder).mkdir()
    _mount("overlay", "/etc", "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work,userxattr")
    for name, value in SYSCTLS.items():
        with suppress(FileNotFoundError):
            Path("/proc/sys", name).write_text(value)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def _make(channel: socket.socket) -> None:
    """Start the process that a node's namespaces belong to; it answers itself, so that its credentials give its pid."""
    if os.fork():
        return
    try:
        _furnish()
        channel.send(json.dumps({"inner": os.getpid()}).encode())
    except OSError as error:
        channel.send(json.dumps({"error": str(error)}).encode())
        os._exit(1)
    channel.close()
    while True:
        signal.pause()


def _open(channel: socket.socket, inner: int, family: int, kind: int, protocol: int) -> None:
    """Answer with a socket that lives in the network of the node `inner`."""
    try:
        with Path(f"/proc/{inner}/ns/net").open("rb") as network, entered(network.fileno()):
            opened = socket.socket(family, kind, protocol)
    except OSError as error:
        channel.send(json.dumps({"error": str(error)}).encode())
        return
    with opened:
        socket.send_fds(channel, [b"{}"], [opened.fileno()])


def main() -> None:
    """Serve requests until the other end is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # process 1 inherits orphans: let the kernel reap them
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests decide when the lab ends, not Ctrl-C in their terminal
    channel = socket.socket(fileno=0)
    channel.send(b"{}")
    while request := channel.recv(4096):
        arguments = json.loads(request)
        if arguments:
            _open(channel, *arguments)
        else:
            _make(channel)


if __name__ == "__main__":
    main()
