"""What lies under a prefix of etcd: bounded reads, and one watch that survives whatever breaks it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from wgdisco.backends._etcd_gateway import Gateway
from wgdisco.backends._etcd_messages import Event, Range, Refused, TooMuch, Transaction, Unavailable, Watched

__all__ = ["PATIENCE", "PAUSE", "View"]

MOST = 1024  # keys of a prefix that are read at once, about 1 MB
OTHERS = 4  # times as many keys as are asked for may be read; where there are more, slots are asked for by name
AT_ONCE = 128  # slots in one transaction: etcd's default for --max-txn-ops
PAUSE = 0.2  # seconds between two attempts to watch
RELOAD = 600.0  # seconds after which everything is read anew, whatever the watch says
PATIENCE = 5.0  # seconds without any endpoint that keeps a watch, before the store counts as down: an election takes 2

T = TypeVar("T")


class View:
    """Everything under one prefix, read from a revision on; `heartbeat` is the seconds of silence a watch may keep."""

    def __init__(self, gateway: Gateway, prefix: str, heartbeat: float) -> None:
        self._gateway, self._prefix, self._heartbeat = gateway, prefix, heartbeat
        self._crowded = False

    async def everything(self, keys: Collection[bytes]) -> tuple[int, dict[bytes, bytes]]:
        """The values of some keys, and their revision: read with all that lies under the prefix, in pages.

        Where that is far more than what is asked for, the keys are asked for by name.
        """
        if not self._crowded:
            try:
                if (found := await self._pages(keys)) is not None:
                    return found
            except TooMuch:
                pass
            self._crowded = True
        return await self.points([*keys])

    async def _pages(self, keys: Collection[bytes]) -> tuple[int, dict[bytes, bytes]] | None:
        """What the prefix holds at one revision; None where others' records fill more pages than ours may."""
        first, revision, found = self._prefix.encode(), 0, dict[bytes, bytes]()
        for _ in range(1 + OTHERS * len(keys) // MOST):
            answer = await self._consistent("kv/range", self._page(first, revision), Range)
            revision = revision or answer.header.revision
            found |= {each.key: each.value for each in answer.kvs if each.key in keys}
            if not answer.more:
                return revision, found
            first = answer.kvs[-1].key + b"\0"
        return None

    async def points(self, keys: Sequence[bytes]) -> tuple[int, dict[bytes, bytes]]:
        """The values of some keys, and a revision from which a watch misses none of their changes."""
        if len(keys) <= AT_ONCE:
            try:
                return await self._few(keys)
            except TooMuch:
                if len(keys) == 1:
                    raise
        half = len(keys) // 2
        first, second = await self.points(keys[:half]), await self.points(keys[half:])
        return min(first[0], second[0]), first[1] | second[1]

    async def changes(self, start: int) -> AsyncGenerator[Event, None]:
        """Every change from a revision on; ends when everything has to be read anew.

        Raises ConnectionError when no endpoint keeps a watch, Refused when etcd does not allow it, TooMuch for one
        message of more than 4 MiB.
        """
        ends, down, reasons = time.monotonic() + RELOAD, math.inf, set[str]()
        while time.monotonic() < ends:
            alive = math.inf
            try:
                async with aclosing(self._gateway.watch(self._from(start), self._heartbeat)) as messages:
                    async for message in messages:
                        alive = min(alive, time.monotonic())
                        if time.monotonic() > ends or not self._usable(message, start):
                            return
                        for event in message.events:
                            yield event
                        start = _after(message, start)
                down = math.inf
            except Unavailable as error:
                now = time.monotonic()
                if now - alive > 1:
                    down = math.inf
                reasons = {str(error)} if down == math.inf else {*reasons, str(error)}
                down = min(down, now)
                if now - down > PATIENCE:
                    raise Unavailable("no endpoint keeps a watch: " + "; ".join(sorted(reasons))) from error
                await asyncio.sleep(PAUSE)

    def _usable(self, message: Watched, start: int) -> bool:
        """Whether the watch goes on; False where everything has to be read anew, Refused where it is not allowed."""
        if message.canceled and not message.compact_revision:
            raise Refused(f"etcd ended the watch of {self._prefix!r}: {message.cancel_reason}")
        # after a compaction the stream stays open in silence; an etcd that came back with less than it had is silent
        # until it has caught up
        return not message.canceled and message.header.revision >= start - 1

    async def _few(self, keys: Sequence[bytes]) -> tuple[int, dict[bytes, bytes]]:
        def question(*, serializable: bool) -> dict[str, Any]:
            return {"success": [{"request_range": {"key": key, "serializable": serializable}} for key in keys]}

        answer = await self._consistent("kv/txn", question, Transaction)
        return answer.header.revision, {each.key: each.value for each in answer.found()}

    async def _consistent(self, path: str, question: Callable[..., dict[str, Any]], kind: type[T]) -> T:
        """What the cluster agrees on; while it has no leader, what the member at hand remembers."""
        try:
            return await self._gateway.call(path, question(serializable=False), kind, leader=True)
        except Unavailable as error:
            if not error.leaderless:
                raise
        # signed records may be stale without harm: readers order them by their own number
        return await self._gateway.call(path, question(serializable=True), kind)

    def _page(self, first: bytes, revision: int) -> Callable[..., dict[str, Any]]:
        def question(*, serializable: bool) -> dict[str, Any]:
            page = {**self._whole_prefix(), "key": first, "limit": MOST, "serializable": serializable}
            return page | ({"revision": revision} if revision else {})

        return question

    def _from(self, start: int) -> dict[str, Any]:
        """A watch of the whole prefix; large messages come in fragments."""
        return {"create_request": {**self._whole_prefix(), "start_revision": start, "fragment": True}}

    def _whole_prefix(self) -> dict[str, bytes]:
        first = self._prefix.encode()
        return {"key": first, "range_end": first[:-1] + bytes([first[-1] + 1])}


def _after(message: Watched, start: int) -> int:
    """Where to resume after a message; between fragments a revision may be incomplete, so there nothing moves."""
    if message.fragment:
        return start
    return max((event.kv.mod_revision + 1 for event in message.events), default=start)
