"""Restart a peer: the only operation that removes one, so that a new endpoint is tried at once instead of after 5 s.

What protects the peer, in this order: it has no session; all that is written was read or checked before; removing and
re-adding are one system call, after which nothing of ours is needed to finish; it is read back and put back.

What the other side guarantees. Kernel: netlink requests are worked off inside sendmsg(2), each under the device's lock,
without looking at signals, so a kill comes before or after it; its parts are not rolled back when a later one fails.
Userspace (wireguard-go): lines are applied as they arrive, under one lock, and are not rolled back either; therefore
the whole transaction must fit the socket's buffer, so that one send(2) has not begun or has handed over all of it.
What nobody guarantees: an allowed-ip that another program gives to another peer between our reading and our writing
(1 ms, 0.1 s with 10,000 peers) comes back to this one, as it would with any other program that sets it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol

from wgdisco.device.types import Interface, Peer, check_endpoint, check_keepalive
from wgdisco.endpoint import Endpoint
from wgdisco.errors import AccessError, UsageError
from wgdisco.keys import PublicKey

__all__ = ["LIVE", "LiveSession", "is_live", "restart"]

LIVE = 135.0  # seconds: a session in use makes a new handshake every 120 s, and tries for another 15
ATTEMPTS = 3  # to put a peer back


class LiveSession(UsageError):  # noqa: N818 - named after what the caller learns
    """The peer has a session, and restarting it would end that session; nothing was done."""


class Replacing(Protocol):
    """What `restart` needs of a device."""

    @property
    def name(self) -> str:
        """The interface's name."""

    def read(self) -> Interface:
        """Read everything at once."""

    def replace(self, peer: Peer, *, remove: bool) -> None:
        """Write all of a peer in one system call, after removing it when asked to."""


def restart(device: Replacing, key: PublicKey, endpoint: Endpoint, keepalive: int, since: Peer | None) -> None:
    """Remove and re-add the peer `key` with its preshared key and allowed-ips, and the endpoint and keepalive given.

    Raises LiveSession or UsageError before anything is done; AccessError when the interface refuses, and when the peer
    could not be put back, which then says what is missing.
    """
    check_endpoint(endpoint)
    check_keepalive(keepalive)
    before = device.read()
    wanted = replace(_restartable(before, key, since, time.time()), endpoint=endpoint, keepalive=keepalive)
    try:
        device.replace(wanted, remove=True)
    finally:
        # also after an error: a refused transaction may have been half applied
        _put_back(device, wanted)


def is_live(peer: Peer, since: Peer | None, now: float) -> bool:
    """Whether the peer has a session: a handshake younger than 135 s at `now` (unix seconds), or news after `since`.

    Steps of the clock that were watched (`peer.stepped`) are allowed for. A handshake in the future means that it was
    set back unwatched; then the session may well be live.
    """
    young = peer.handshake > 0 and now - peer.handshake - peer.stepped < LIVE
    if since is None:
        return young
    return young or peer.rx > since.rx or peer.handshake not in (0, since.handshake)


def _restartable(interface: Interface, key: PublicKey, since: Peer | None, now: float) -> Peer:
    peer = interface.peers.get(key)
    if peer is None:
        raise UsageError(f"{interface.name} has no peer {key}; wgdisco never creates one, add it with `wg set`")
    if since is not None and since.handshake == peer.handshake:
        peer = replace(peer, stepped=since.stepped)
    if is_live(peer, since, now):
        raise LiveSession(f"peer {key.short} of {interface.name} has a live session, which a restart would end")
    return peer


def _put_back(device: Replacing, wanted: Peer) -> None:
    """Read the peer back, and write it again while it is not as wanted."""
    for _ in range(ATTEMPTS):
        difference = _difference(device.read().peers.get(wanted.key), wanted)
        if not difference:
            return
        device.replace(wanted, remove=False)
    difference = _difference(device.read().peers.get(wanted.key), wanted)
    if difference:
        raise AccessError(
            f"peer {wanted.key} of {device.name} was restarted and could not be put back ({difference}); "
            f"its allowed-ips were {', '.join(map(str, wanted.allowed_ips)) or 'none'}: "
            "bring the interface up again from its configuration"
        )


def _difference(found: Peer | None, wanted: Peer) -> str:
    """What of the peer is not as wanted, without the values; its endpoint may have roamed since."""
    if found is None:
        return "it is gone"
    wrong = {
        "preshared key": found.preshared != wanted.preshared,
        "allowed-ips": set(found.allowed_ips) != set(wanted.allowed_ips),
        "keepalive": found.keepalive != wanted.keepalive,
    }
    return ", ".join(name for name, differs in wrong.items() if differs)
