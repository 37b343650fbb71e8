"""Run a command's coroutine to its end without waiting for what foreign code leaves behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["run"]

T = TypeVar("T")
GRACE = 0.5  # seconds for tasks that are still there at the end


def run(work: Coroutine[Any, Any, T]) -> T:
    """Like asyncio.run, but a task that swallows its cancellation or a hung thread holds nothing up.

    SIGINT and SIGTERM cancel the work; KeyboardInterrupt is raised then, after its clean-up.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        task = loop.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return loop.run_until_complete(task)
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
    finally:
        _abandon(loop)


async def _within_grace(work: Awaitable[None]) -> None:
    async with asyncio.timeout(GRACE):
        await work


def _abandon(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=GRACE))
    with suppress(TimeoutError):
        loop.run_until_complete(_within_grace(loop.shutdown_asyncgens()))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
    asyncio.set_event_loop(None)
    if not any(not task.done() for task in left):
        loop.close()
