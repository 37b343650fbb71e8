"""Addresses of STUN servers, looked up once and kept: another address would be another mapping behind some NATs.

They also outlive DNS that fails or is late. Only who has been silent for several looks is looked up anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from wgdisco.endpoint import Endpoint
from wgdisco.sources.names import Answer, ask

__all__ = ["Pins"]

MISSES = 3  # questions without an answer until a server is looked up anew
PATIENCE = 1.0  # seconds that this may take before the address of before is asked again

Key = tuple[str, int]


class Pins:
    """The address of each server by IP version, 4 or 6; of one event loop."""

    def __init__(self) -> None:
        self._known: dict[Key, Endpoint] = {}
        self._misses: Counter[Key] = Counter()
        self._asking: dict[Key, asyncio.Future[Answer]] = {}

    async def find(self, server: str, version: int) -> Endpoint:
        """The address to ask; raises OSError when the name has none and never had one, UsageError as `split`."""
        key = server, version
        known = self._known.get(key)
        if known is not None and self._misses[key] < MISSES:
            return known
        answer = self._ask(key)
        # `wait` leaves the look-up alone when it ends first: its answer is for the next look
        await asyncio.wait([answer], timeout=None if known is None else PATIENCE)
        if answer.done():
            self._take(key, answer)
        return self._known[key]

    def heard(self, server: str, version: int) -> None:
        """The server has answered."""
        self._misses[server, version] = 0

    def missed(self, server: str, version: int) -> None:
        """The server has not, or nothing of use."""
        self._misses[server, version] += 1

    def _ask(self, key: Key) -> asyncio.Future[Answer]:
        """The look-up that is under way, else a new one; one that failed meanwhile is forgotten."""
        answer = self._asking.get(key)
        if answer is None or (answer.done() and isinstance(answer.result(), OSError)):
            answer = self._asking[key] = ask(*key)
        return answer

    def _take(self, key: Key, answer: asyncio.Future[Answer]) -> None:
        """Take what was found, which may have been done already: a server may be listed twice."""
        if self._asking.get(key) is answer:
            del self._asking[key]
            result = answer.result()
            if not isinstance(result, OSError):
                self._known[key] = self._chosen(key, result)
            self._misses[key] = 0
        if key not in self._known:
            raise OSError(str(answer.result()))

    def _chosen(self, key: Key, found: Sequence[Endpoint]) -> Endpoint:
        """The first address that is another one than the silent one, where there is one."""
        return next((each for each in found if each != self._known.get(key)), found[0])
