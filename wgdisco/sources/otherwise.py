"""One source, and another one when that finds nothing: DHT nodes are asked only where no STUN server answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from wgdisco.sources import Nat, Source, Where, gather

__all__ = ["Otherwise"]


@dataclass
class Otherwise:
    """`first`, or `second` when `first` has ended without finding anything or takes longer than `patience` seconds."""

    first: Source
    second: Source
    patience: float = 1.5

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first.name}, {self.second.name}"

    async def find(self, deadline: float) -> Where:
        """What `first` knows, else what `second` does; together they take `deadline` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        asking = asyncio.ensure_future(gather([self.first], deadline))
        try:
            done, _ = await asyncio.wait([asking], timeout=min(self.patience, deadline))
            if done and asking.result().found:
                return asking.result()
            other = await gather([self.second], max(0.0, end - loop.time()))
            if other.found and not asking.done():
                late = f"{self.first.name}: no result within {self.patience:g} s"
                return Where(other.found, other.nat, [late, *other.problems], other.asked)
            return _joined(await asking, other)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


def _joined(one: Where, other: Where) -> Where:
    nat = one.nat if one.nat != Nat() else other.nat
    return Where([*one.found, *other.found], nat, [*one.problems, *other.problems], one.asked or other.asked)
