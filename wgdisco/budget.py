"""How much may be sent to places that have not asked for it: token buckets for each peer and each address. Sans I/O.

A record may name a victim, and a check may come from a forged address. Whatever is said and by how many peers, what
leaves for an address that never answers an authentic check stays within these bounds.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from ipaddress import IPv6Network

from wgdisco.endpoint import Address
from wgdisco.keys import PublicKey

__all__ = ["Budget"]

PEER = (2.0, 200.0)  # packets a second for one peer, and at once: two rounds of checks of sixteen candidates
HOST = (50.0, 500.0)  # the same for one address, over all peers
KNOWN = 4096  # peers and addresses remembered


class _Bucket:
    """Fills with `rate` tokens a second up to `most`."""

    __slots__ = ("credit", "most", "rate", "since")

    def __init__(self, rate: float, most: float, now: float) -> None:
        self.rate, self.most, self.credit, self.since = rate, most, most, now

    def left(self, now: float) -> float:
        """The tokens there are now."""
        self.credit = min(self.most, self.credit + (now - self.since) * self.rate)
        self.since = now
        return self.credit


class Budget:
    """Packets that may be sent on behalf of a peer and to a host; one object for all who send.

    A host is an IPv4 address, or the /64 of an IPv6 address, of which one machine may have many.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only grow."""
        self.clock = clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def take(self, peer: PublicKey, address: Address, packets: int = 1) -> int:
        """How many of so many packets may be sent now; they count as sent."""
        buckets = self._of(peer, address)
        granted = min(packets, *(int(bucket.left(self.clock())) for bucket in buckets))
        for bucket in buckets:
            bucket.credit -= granted
        return granted

    def give_back(self, peer: PublicKey, address: Address, packets: int) -> None:
        """So many were not sent after all, or were welcome."""
        for bucket in self._of(peer, address):
            bucket.credit = min(bucket.most, bucket.credit + packets)

    def _of(self, peer: PublicKey, address: Address) -> tuple[_Bucket, _Bucket]:
        return self._bucket(peer, PEER), self._bucket(_host(address), HOST)

    def _bucket(self, key: Hashable, size: tuple[float, float]) -> _Bucket:
        bucket = self._buckets.pop(key, None) or _Bucket(*size, self.clock())
        self._buckets[key] = bucket  # the last one used is forgotten last
        while len(self._buckets) > KNOWN:
            self._buckets.popitem(last=False)
        return bucket


def _host(address: Address) -> Hashable:
    return address if address.version == 4 else IPv6Network((address, 64), strict=False)
