"""Leases of etcd, shared by what is put at about the same time, and revoked once nothing hangs on them any more."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field

from wgdisco.backends._etcd_gateway import Gateway
from wgdisco.backends._etcd_messages import Grant, Nothing
from wgdisco.errors import StoreError

__all__ = ["Lease", "Leases"]

LONGEST_SHARING = 60.0  # seconds


@dataclass(eq=False)
class Lease:
    """A lease, the monotonic times until which puts join it and at which it ends, and the keys that hang on it.

    `keys` maps each key to the revision of our put, 0 while that is under way or when its answer was lost.
    """

    id: int
    joined: float
    ends: float
    keys: dict[bytes, int] = field(default_factory=dict)


class Leases:
    """The leases of one process: a node that puts one slot for each of its peers needs one, not hundreds.

    A lease runs longer than asked by the time in which it is shared (a tenth of the lifetime, at most a minute), so
    that nothing expires early. A key is never put without one: that would detach it, and it would stay for ever.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._granting = asyncio.Lock()
        self._current: dict[int, Lease] = {}  # by lifetime
        self._all: set[Lease] = set()

    async def join(self, key: bytes, lifetime: int) -> Lease:
        """A lease of at least `lifetime` seconds, on which the key is from now on counted as hanging."""
        async with self._granting:
            lease = self._current.get(lifetime)
            if lease is None or time.monotonic() >= lease.joined:
                lease = self._current[lifetime] = await self._grant(lifetime)
            lease.keys[key] = lease.keys.get(key, 0)
            return lease

    def revision(self, key: bytes) -> int:
        """The revision at which we put the key last; 0 when we did not."""
        return max((lease.keys.get(key, 0) for lease in self._all), default=0)

    def forget(self, lost: Lease) -> None:
        """Never use a lease again that etcd does not know."""
        self._all.discard(lost)
        self._current = {lifetime: lease for lifetime, lease in self._current.items() if lease is not lost}

    async def release(self, key: bytes, keep: Lease | None = None) -> None:
        """The key hangs on `keep` alone, or was deleted; leases that nothing needs are revoked.

        With them go puts of an older value that a frozen member may still have in its queue.
        """
        for lease in [lease for lease in self._all if lease is not keep and key in lease.keys]:
            del lease.keys[key]
            if not lease.keys and lease not in self._current.values():
                self._all.discard(lease)
                await self._revoke(lease)

    async def _grant(self, lifetime: int) -> Lease:
        shared = min(lifetime / 10, LONGEST_SHARING)
        begin, seconds = time.monotonic(), math.ceil(lifetime + shared)
        answer = await self._gateway.call("lease/grant", {"TTL": seconds}, Grant)
        for old in [lease for lease in self._all if lease.ends < begin]:
            self.forget(old)
        lease = Lease(answer.ID, begin + shared, begin + 2 * seconds)
        self._all.add(lease)
        return lease

    async def _revoke(self, lease: Lease) -> None:
        try:
            await self._gateway.call("lease/revoke", {"ID": lease.id}, Nothing)
        except (ConnectionError, StoreError):
            return  # it ends by itself
