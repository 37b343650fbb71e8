"""One agent for each interface: whoever comes second learns who is there.

The lock is the kernel's (flock(2)), so it ends with its holder, however that ends; the file stays and means nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from wgdisco import report
from wgdisco.errors import UsageError

__all__ = ["alone", "at_work", "lock_file"]

PATIENCE = 10.0  # seconds for an agent that is ending: a good-bye, and a forwarded port to take back
GLANCE = 0.1  # seconds between two tries


def lock_file(interface: str, folder: Path | None = None) -> Path:
    """The file of an interface, beside the agent's report."""
    return report.where(interface, folder or report.FOLDER).with_name("lock")


@asynccontextmanager
async def alone(
    interface: str, say: Callable[[str], None], folder: Path | None = None, patience: float | None = None
) -> AsyncGenerator[None]:
    """Be the only agent of an interface within the block.

    Waits `patience` seconds (10) for another one to end; raises UsageError with its process then. Where the file cannot
    be made or opened, that is said, and nobody is kept away.
    """
    path = lock_file(interface, folder)
    try:
        opened = _open(path)
    except OSError as error:
        say(f"{path}: {error.strerror}; so nothing keeps a second agent away from {interface}")
        yield
        return
    try:
        await _lock(opened, interface, say, PATIENCE if patience is None else patience)
        os.ftruncate(opened, 0)
        os.pwrite(opened, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(opened)


def at_work(interface: str, folder: Path | None = None) -> str | None:
    """What to call the agent that is at work on an interface: "the agent (pid 4711)"; None where there is none."""
    with suppress(OSError):
        opened = os.open(lock_file(interface, folder), os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(opened)
        finally:
            os.close(opened)
    return None


async def _lock(opened: int, interface: str, say: Callable[[str], None], patience: float) -> None:
    end, said = time.monotonic() + patience, False
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(opened)
        else:
            return
        if time.monotonic() >= end:
            raise UsageError(
                f"{interface}: {holder} is at work on it, and two would work against each other; end that one first: "
                f"systemctl stop wgdisco@{interface}, or kill it"
            )
        if not said:
            say(f"{interface}: {holder} is at work on it; waiting {patience:g} s for its end")
        said = True
        await asyncio.sleep(GLANCE)


def _holder(opened: int) -> str:
    pid = os.pread(opened, 20, 0).strip()
    return f"the agent (pid {int(pid)})" if pid.isdigit() else "another agent"


def _open(path: Path) -> int:
    """The file, made unless it is there; nobody else can read it, or he could lock it too; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    try:
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    if os.geteuid() == 0:
        # the folder's owner may be the service's account, which has to be able to lock it as well
        owner = path.parent.stat()
        with suppress(OSError):
            os.fchown(made, owner.st_uid, owner.st_gid)
    return made
