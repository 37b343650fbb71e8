"""A real WireGuard interface in a host: wireguard-go, programmed through its socket (wireguard.com/xplatform).

This is a second implementation of the protocol on purpose: the lab judges what wgdisco's own one did.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.lab.space import LabError, wait_until
from wgdisco.keys import PrivateKey, PublicKey

if TYPE_CHECKING:
    from tests.lab.stations import Host

__all__ = ["Peer", "WireGuard"]


class Peer(dict[str, str]):
    """What the interface knows of a peer: the protocol's own keys, `allowed_ip` joined by spaces."""

    @property
    def endpoint(self) -> str:
        """Where packets go, as ADDRESS:PORT, or nothing."""
        return self.get("endpoint", "")

    @property
    def handshake(self) -> float:
        """Unix time of the last handshake in seconds, to the nanosecond; 0 before the first."""
        return int(self.get("last_handshake_time_sec", 0)) + int(self.get("last_handshake_time_nsec", 0)) / 1e9

    @property
    def received(self) -> int:
        """Bytes received, keepalives included."""
        return int(self.get("rx_bytes", 0))


class WireGuard:
    """An interface of a host. `private` (32 bytes) is a new key by default; `public` is the key peers know."""

    def __init__(self, host: Host, name: str, addresses: tuple[str, ...], port: int, private: bytes | None) -> None:
        self.host = host
        self.name = name
        self._private = os.urandom(32) if private is None else private
        self.public = PrivateKey(self._private).public
        self.process = host.popen("wireguard-go", "-f", name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.socket = host.path(f"/run/wireguard/{name}.sock")
        wait_until(self._answers, f"wireguard-go has made {name} of {host.name}")
        self.set(f"private_key={self._private.hex()}", f"listen_port={port}")
        host.ip(*(f"address add {address} dev {name}" for address in addresses), f"link set dev {name} mtu 1420 up")

    @property
    def private(self) -> str:
        """The private key as `wg genkey` prints it."""
        return base64.b64encode(self._private).decode()

    def get(self) -> str:
        """The interface's state as the protocol gives it."""
        return self._ask("get=1\n\n")

    def set(self, *lines: str) -> None:
        """Program the interface; raises LabError with the error number."""
        self._ask("set=1\n" + "".join(f"{line}\n" for line in lines) + "\n")

    def peer(
        self, public: PublicKey, *allowed: str, endpoint: str = "", keepalive: int | None = None, preshared: bytes = b""
    ) -> None:
        """Add a peer, or change what is given of it; `keepalive` in seconds."""
        lines = [f"public_key={public.raw.hex()}"]
        lines += [f"preshared_key={preshared.hex()}"] if preshared else []
        lines += [f"endpoint={endpoint}"] if endpoint else []
        lines += [f"persistent_keepalive_interval={keepalive}"] if keepalive is not None else []
        self.set(*lines, *(f"allowed_ip={prefix}" for prefix in allowed))

    def remove(self, public: PublicKey) -> None:
        """Remove a peer."""
        self.set(f"public_key={public.raw.hex()}", "remove=true")

    def peers(self) -> dict[PublicKey, Peer]:
        """Every peer by its key."""
        found: dict[PublicKey, Peer] = {}
        peer = Peer()
        for name, value in self._pairs():
            if name == "public_key":
                peer = found[PublicKey(bytes.fromhex(value))] = Peer()
            elif name == "allowed_ip":
                peer[name] = f"{peer.get(name, '')} {value}".strip()
            elif name != "errno":
                peer[name] = value
        return found

    def wait_handshake(self, public: PublicKey, seconds: float = 20, after: float = 0) -> float:
        """Wait for a handshake with a peer later than `after`; returns its unix time, raises LabError."""
        what = f"{self.host.name} has a handshake with {public.short}"
        wait_until(lambda: self.peers()[public].handshake > after, what, seconds)
        return self.peers()[public].handshake

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise LabError(f"wireguard-go of {self.host.name} has ended with {self.process.returncode}")
        try:
            return bool(self.get())
        except OSError:
            return False

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for line in self.get().splitlines():
            name, _, value = line.partition("=")
            yield name, value

    def _ask(self, request: str) -> str:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(20)
            channel.connect(str(self.socket))
            channel.sendall(request.encode())
            with channel.makefile("r") as lines:
                answer = "".join(iter(lines.readline, "\n"))
        if "errno=0\n" not in answer:
            raise LabError(f"{self.name} of {self.host.name} answers {answer.strip()!r} (request not shown: keys)")
        return answer
