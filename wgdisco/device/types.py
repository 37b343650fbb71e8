"""What is read from a WireGuard interface and what may be changed in it; Device is how both happen.

Every value is frozen. Preshared keys are held, because `restart_peer` needs them, but no repr shows them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

from wgdisco.endpoint import Endpoint
from wgdisco.errors import UsageError
from wgdisco.keys import PrivateKey, PublicKey

__all__ = ["Change", "Device", "Interface", "Network", "Peer", "check_endpoint", "check_keepalive"]

Network = IPv4Network | IPv6Network
_SCOPE = re.compile(r"[\w.@-]{1,15}", re.ASCII)  # what follows the % of a link-local address: it becomes part of a line


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer as the interface knows it.

    `keepalive` is in seconds (0 = off), `handshake` the unix time of the last one in seconds (0 = never), by the wall
    clock of then; `stepped` are the seconds by which that clock is known to have been set forward since. `rx` and `tx`
    count bytes since the peer was added. `preshared` is 32 bytes or None, and is not shown.
    """

    key: PublicKey
    endpoint: Endpoint | None = None
    keepalive: int = 0
    allowed_ips: tuple[Network, ...] = ()
    handshake: float = 0.0
    rx: int = 0
    tx: int = 0
    preshared: bytes | None = field(default=None, repr=False)
    stepped: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Interface:
    """One reading of an interface.

    `private` and `public` are None while no key is set; `listen_port` and `fwmark` are 0 when unset. `index` is the
    kernel's number of the network interface, 0 when it is not in this network namespace. `refused` names in one
    sentence each the peers left out because nobody can hold the private key of their public key (SPEC section 1).
    """

    name: str
    private: PrivateKey | None = field(default=None, compare=False)  # its public key is compared
    public: PublicKey | None = None
    listen_port: int = 0
    fwmark: int = 0
    peers: Mapping[PublicKey, Peer] = field(default_factory=dict)
    index: int = 0
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What to change of a peer that exists: None leaves a value as it is, keepalive 0 turns it off.

    Raises UsageError for a port outside 1 … 65535 or a keepalive outside 0 … 65535 s.
    """

    key: PublicKey
    endpoint: Endpoint | None = None
    keepalive: int | None = None

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            check_endpoint(self.endpoint)
        if self.keepalive is not None:
            check_keepalive(self.keepalive)


class Device(Protocol):
    """A WireGuard interface, whichever program or kernel runs it. Calls block for milliseconds.

    Every call raises NoDevice when the interface is gone and AccessError when it may not be read or changed.
    """

    @property
    def name(self) -> str:
        """The interface's name, as `wg show` knows it."""

    def read(self) -> Interface:
        """Read everything at once."""

    def update(self, changes: Sequence[Change]) -> None:
        """Apply all changes in one batch, in order; a peer that does not exist (any more) is left out, never created.

        WireGuard sends a packet to a peer at once when its keepalive goes from 0 to n: to have that of a peer whose
        keepalive is set, give two changes of the same key, keepalive 0 and keepalive n.
        """

    def restart_peer(self, key: PublicKey, endpoint: Endpoint, keepalive: int, *, since: Peer | None = None) -> None:
        """Remove and re-add a peer that has no session, so that its next handshake starts at once (see restart.py).

        `since` is an earlier reading of the peer: when bytes were received or a handshake came after it, the session is
        live. Raises LiveSession then, and when the last handshake is younger than 135 s.
        """


def check_endpoint(endpoint: Endpoint) -> None:
    """Raise UsageError unless `endpoint` is an IP address (as an object, never text) and a port from 1 to 65535."""
    if not isinstance(endpoint.address, IPv4Address | IPv6Address):
        raise UsageError(f"endpoint {endpoint!r}: the address is not an IPv4Address or IPv6Address object")
    scope = getattr(endpoint.address, "scope_id", None) or "0"
    if not _SCOPE.fullmatch(scope):
        raise UsageError(f"endpoint {str(endpoint)!r}: {scope!r} is no network interface")
    if not 0 < endpoint.port < 65536:
        raise UsageError(f"endpoint {endpoint}: the port is not a number from 1 to 65535")


def check_keepalive(seconds: int) -> None:
    """Raise UsageError unless `seconds` is from 0 (off) to 65535."""
    if not 0 <= seconds < 65536:
        raise UsageError(f"keepalive {seconds}: expected a number of seconds from 0 (off) to 65535")
