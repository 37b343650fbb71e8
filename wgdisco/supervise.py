"""Keep a task going whatever it raises: the one place where everything is caught, said, and started again."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress

from wgdisco.errors import WgdiscoError

__all__ = ["described", "end_if_cancelled", "supervised", "unheard"]

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a task is started again
HEALTHY = 60.0  # seconds after which an earlier failure no longer counts


async def supervised(
    name: str,
    work: Callable[[], Awaitable[object]],
    say: Callable[[str], None],
    restarted: Callable[[], None] = lambda: None,
) -> None:
    """Run `work` again and again until cancelled; what it raises, SystemExit included, is said with the task's name.

    An error of wgdisco's own is one sentence; anything else is a bug, and its last frame is named too.
    """
    pause = FIRST_PAUSE
    while True:
        started = time.monotonic()
        try:
            await work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            say(f"{name}: it was cancelled from inside; starting it again")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - nothing a task raises ends the agent
            end_if_cancelled(error)
            say(f"{name}: {described(error)}; starting it again in {pause:.0f} s")
        end_if_cancelled(None)
        pause = FIRST_PAUSE if time.monotonic() - started > HEALTHY else pause
        restarted()
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def end_if_cancelled(error: BaseException | None) -> None:
    """Who was cancelled ends, even when its clean-up failed or it hid that: somebody waits for it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


def unheard(say: Callable[[str], None]) -> Callable[[str], None]:
    """The same, but when nobody can hear it any more (a closed standard error) the work goes on."""

    def speak(text: str) -> None:
        with suppress(OSError, ValueError):  # a pipe without a reader, a closed file
            say(text)

    return speak


def described(error: BaseException) -> str:
    """One line about an error: what it says, and where a bug is."""
    if isinstance(error, WgdiscoError | OSError):
        return str(error) or type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where} (this is a bug; please report this line)"
