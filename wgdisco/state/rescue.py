"""What to do with state files that are missing, damaged, emptied or not writable."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from sqlite3 import Connection
from urllib.parse import quote

__all__ = ["Unusable", "copy", "damaged", "make", "move_aside", "readers", "version_of"]

DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # the last: tables are missing
SMALLEST = 512  # bytes; SQLite overwrites a file of less
SETTLED = 10.0  # seconds after which an empty file is no file that another process is just making


class Unusable(sqlite3.DatabaseError):
    """The file was written by another version, or another program."""


def damaged(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is to blame, and not the disk or another process."""
    return isinstance(error, Unusable) or getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def version_of(db: Connection) -> int:
    """The version that a file says it has; 0 when nobody gave it one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def make(path: Path) -> bool:
    """Make the file unless it is there, and see to its mode; whether it is there and somebody emptied it."""
    log, index = (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm"))
    if (log.exists() or index.exists()) and not path.exists():
        # of a file that somebody removed; a process may still use them, so they cannot be shared
        log.unlink(missing_ok=True)
        index.unlink(missing_ok=True)
    try:
        made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    except FileExistsError:
        status = path.stat()
        if status.st_mode & 0o077:
            path.chmod(0o600)
        return status.st_size < SMALLEST and not log.exists() and time.time() - status.st_mtime > SETTLED
    try:
        _hand_over(made, path.parent)
    finally:
        os.close(made)
    return False


def _hand_over(made: int, folder: Path) -> None:
    """What root makes belongs to the folder's owner, or the agent's account could not use it (SQLite does the same)."""
    if os.geteuid() == 0:
        owner = folder.stat()
        with suppress(OSError):  # a root that may not: the file is its own then, as before
            os.fchown(made, owner.st_uid, owner.st_gid)


def move_aside(path: Path) -> Path:
    """Rename a file and its log to `….bad-<time>`; raises OSError."""
    aside = Path(f"{path}.bad-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    return aside


def readers(path: Path) -> list[Callable[[], Connection]]:
    """Ways to open a file that cannot be written."""
    address = f"file:{quote(str(path))}?mode=ro"
    return [
        lambda: sqlite3.connect(address, uri=True),
        # a log cannot be opened on a read-only file system; without it all but the latest is there
        lambda: sqlite3.connect(f"{address}&immutable=1", uri=True),
    ]


def copy(sources: Sequence[Callable[[], Connection]], lay_out: Callable[[Connection], None]) -> Connection:
    """A database in memory with what the first source that can be read has; an empty one when none can."""
    for source in sources:
        memory = sqlite3.connect(":memory:", isolation_level=None)
        try:
            with closing(source()) as readable:
                readable.backup(memory)
            lay_out(memory)
        except sqlite3.Error:
            memory.close()
        else:
            return memory
    memory = sqlite3.connect(":memory:", isolation_level=None)
    lay_out(memory)
    return memory
