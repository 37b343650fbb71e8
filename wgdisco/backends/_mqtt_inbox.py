"""What has come from an MQTT broker and was not taken yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from wgdisco.errors import StoreError

__all__ = ["ANSWER", "Inbox", "Refused"]

ANSWER = 3.0  # seconds for one answer of the broker: the core gives a call 5


class Refused(StoreError):  # noqa: N818 - as the rest of the tree of errors
    """The broker understood, and does not want."""


class Inbox:
    """The newest message of each topic that was not taken yet; bounded, whatever a broker sends."""

    def __init__(self, topics: Sequence[str], silence: str) -> None:
        """Take the topics, and what to say when the barrier does not come back."""
        self._silence = silence
        self.topics = frozenset(topics)
        self._fresh: dict[str, bytes] = {}
        self._complete = False
        self._broken: Exception | None = None
        self._changed = asyncio.Event()

    def deliver(self, topic: str, payload: bytes) -> None:
        """Take in a message."""
        self._fresh[topic] = payload
        self._changed.set()

    def complete(self) -> None:
        """The barrier came back, so everything that was retained came before it."""
        self._complete = True
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """The connection is lost."""
        self._broken = error
        self._changed.set()

    async def first(self) -> dict[str, bytes]:
        """What the broker holds: each topic with its message, others have none. Raises ConnectionError or Refused."""
        try:
            async with asyncio.timeout(ANSWER):
                while not self._complete:
                    await self._wait()
        except TimeoutError as error:
            raise Refused(self._silence) from error
        return self._taken()

    async def news(self) -> dict[str, bytes]:
        """Each topic that has a new message, as soon as there is one; b'' for removed. Raises ConnectionError."""
        while not self._fresh:
            await self._wait()
        return self._taken()

    async def _wait(self) -> None:
        if self._broken is not None:
            raise self._broken
        await self._changed.wait()
        self._changed.clear()

    def _taken(self) -> dict[str, bytes]:
        taken, self._fresh = self._fresh, {}
        return taken
