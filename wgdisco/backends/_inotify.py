"""What changes in a directory, told by the kernel (inotify(7)) without any library; backend folder uses it."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import weakref
from pathlib import Path
from struct import Struct

__all__ = ["Inotify"]

CLOSE_WRITE, MOVED_FROM, MOVED_TO, DELETE = 0x8, 0x40, 0x80, 0x200
DELETE_SELF, MOVE_SELF, UNMOUNT, OVERFLOW, IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
ONLYDIR = 0x1000000
CHANGES = CLOSE_WRITE | MOVED_FROM | MOVED_TO | DELETE | DELETE_SELF | MOVE_SELF | ONLYDIR
GONE = DELETE_SELF | MOVE_SELF | UNMOUNT | IGNORED
EVENT = Struct("iIII")  # watch descriptor, mask, cookie, bytes of the name that follows
BUFFER = 65536  # bytes of events read at once

log = logging.getLogger(__name__)


class Inotify:
    """Tells the names of files that change; it does not see what other machines do on a network file system."""

    def __init__(self, folder: Path) -> None:
        """Begin to listen; raises OSError for a directory that is not there.

        Where the kernel has no inotify, or no watch left for this user, nothing is ever told.
        """
        self.descriptor = -1
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "inotify_init1"):
            return
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor >= 0:
            self.descriptor = descriptor
            # also closed when the call that began to listen was given up meanwhile
            self._close = weakref.finalize(self, os.close, descriptor)
        if descriptor < 0 or libc.inotify_add_watch(descriptor, os.fsencode(folder), CHANGES) < 0:
            self._refused(ctypes.get_errno(), folder)

    def _refused(self, number: int, folder: Path) -> None:
        error = OSError(number, os.strerror(number), str(folder))
        self.close()
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error
        log.warning("no inotify, so %s is polled: %s (see sysctl fs.inotify)", folder, error.strerror)

    async def changed(self, seconds: float) -> set[str] | None:
        """The names that changed since the last call, waited for at most `seconds`; None when any may have changed.

        Raises FileNotFoundError when the directory itself is gone.
        """
        if self.descriptor < 0:
            await asyncio.sleep(seconds)
            return None
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.descriptor, readable.set)
        try:
            async with asyncio.timeout(seconds):
                await readable.wait()
        except TimeoutError:
            return None
        finally:
            loop.remove_reader(self.descriptor)
        return _names(os.read(self.descriptor, BUFFER))

    def close(self) -> None:
        """Stop listening."""
        if self.descriptor >= 0:
            self.descriptor = -1
            self._close()


def _names(events: bytes) -> set[str] | None:
    """The names in a buffer of events, or None when the kernel's queue ran over."""
    names, position, overflow = set(), 0, False
    while position < len(events):
        _, mask, _, length = EVENT.unpack_from(events, position)
        position += EVENT.size + length
        if mask & GONE:
            raise FileNotFoundError("the directory was removed, moved or unmounted")
        overflow = overflow or bool(mask & OVERFLOW)
        names.add(os.fsdecode(events[position - length : position].rstrip(b"\0")))
    return None if overflow else names
