"""How much a node lets one host, and all of them together, make it do: token buckets counted in bytes. Sans I/O."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Limiter", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes a second and at once, in and out, for one host (IPv4 address, IPv6 /64) and for all; hosts remembered.

    A forged source address makes us answer its victim: `rate` is what such a victim gets. `total` bounds our own work.
    """

    rate: float = 8_000.0
    burst: float = 128_000.0
    total_rate: float = 256_000.0
    total_burst: float = 2_000_000.0
    hosts: int = 4096


@dataclass(slots=True)
class _Bucket:
    left: float
    filled: float

    def refill(self, now: float, rate: float, burst: float) -> float:
        self.left = min(burst, self.left + (now - self.filled) * rate)
        self.filled = now
        return self.left


class Limiter:
    """Who has used how much; a host it does not remember starts with a full burst."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._total = _Bucket(limits.total_burst, 0.0)
        self._hosts: OrderedDict[bytes, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hosts)

    def take(self, who: bytes, size: int, now: float) -> bool:
        """Whether `who` may have `size` more bytes handled at `now` (seconds); counts them if so."""
        limits = self.limits
        bucket = self._hosts.get(who)
        if bucket is None:
            bucket = self._hosts[who] = _Bucket(limits.burst, now)
            if len(self._hosts) > limits.hosts:
                self._hosts.popitem(last=False)
        self._hosts.move_to_end(who)
        allowed = bucket.refill(now, limits.rate, limits.burst) >= size
        allowed = allowed and self._total.refill(now, limits.total_rate, limits.total_burst) >= size
        if allowed:
            bucket.left -= size
            self._total.left -= size
        return allowed
