"""What survives a restart, for one own key: signed timestamps, marks of others, last good records, slots to clean up.

One SQLite file per key gives what is needed: a lock between processes, and commits that are on disk when they return.
A file that cannot be used is moved aside, and said so; then everything goes on from memory.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wgdisco.freshness import Mark, Marks, stamp
from wgdisco.keys import PublicKey

__all__ = ["Good", "Published", "State", "Written", "default_folder"]

T = TypeVar("T")
VERSION = 1
BUSY = 10.0  # seconds to wait for another process that holds the lock
SCHEMA = """
CREATE TABLE IF NOT EXISTS stamps (issued INTEGER PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (subject BLOB, issued INTEGER, network BLOB, digest BLOB,
                                  PRIMARY KEY (subject, issued, network)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS good (subject BLOB PRIMARY KEY, blob BLOB, network BLOB, period INTEGER,
                                 backend TEXT, seen INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS published (network BLOB PRIMARY KEY, statement BLOB, issued INTEGER,
                                      latest INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (slot BLOB PRIMARY KEY, blob BLOB, over INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS written (backend TEXT, slot BLOB, public BLOB, over INTEGER,
                                    PRIMARY KEY (backend, slot)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
"""


def default_folder() -> Path:
    """Where state is kept: systemd's folder, /var/lib/wgdisco for root, else below XDG_STATE_HOME."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/wgdisco")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "wgdisco"


@dataclass(frozen=True)
class Published:
    """What was last said to one audience; `issued` and `latest` (the latest end of all) in milliseconds."""

    statement: bytes
    issued: int
    latest: int


@dataclass(frozen=True)
class Good:
    """The last good record of a peer: the blob, where it lay, which store gave it, and when (milliseconds)."""

    blob: bytes
    network: bytes
    period: int
    backend: str
    seen: int


@dataclass(frozen=True)
class Written:
    """A slot of ours in a store whose last record is over."""

    backend: str
    id: bytes
    public: bytes


class State:
    """What one key remembers. `problems` are sentences for the user; none of them is a reason to stop."""

    def __init__(self, database: sqlite3.Connection, problems: list[str] | None = None) -> None:
        """Take a connection with the schema in it; use `open` or `in_memory`."""
        self._database, self.problems = database, problems or []

    @classmethod
    def open(cls, key: PublicKey | None, folder: Path | None = None) -> State:
        """Open the state of an own key (None: of whoever only reads). Never fails: at worst it is in memory."""
        path = (folder or default_folder()) / f"{'reader' if key is None else key.raw.hex()}.db"
        problems: list[str] = []
        for _ in range(2):
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                return cls(_connect(path), problems)
            except _Newer as error:
                problems.append(f"{path}: {error}; it is left alone")
                break
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) or not _moved_aside(path, error, problems):
                    problems.append(f"cannot use {path}: {error}")
                    break
            except OSError as error:
                problems.append(f"cannot use {path}: {error.strerror or error}")
                break
        problems.append("timestamps and what was seen are not remembered over a restart")
        return cls.in_memory(problems)

    @classmethod
    def in_memory(cls, problems: list[str] | None = None) -> State:
        """State that ends with the process."""
        return cls(_prepared(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)), problems)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def grouped(self, work: Callable[[], T]) -> T:
        """Do `work` in one commit, with the lock held from its beginning; groups may be nested.

        When the disk is full or gone, what was read stays known, and the work is done again in memory.
        """
        if self._database.in_transaction:
            return work()
        try:
            return self._commit(work)
        except sqlite3.Error as error:
            self._to_memory(error)
            return self._commit(work)

    def _commit(self, work: Callable[[], T]) -> T:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            result = work()
            self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
        return result

    def _to_memory(self, error: sqlite3.Error) -> None:
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        with suppress(sqlite3.Error):
            self._database.backup(memory)
        self._database.close()
        self._database = _prepared(memory)
        self.problems.append(f"cannot write the state ({error}); timestamps and what was seen end with this process")

    def _row(self, question: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._database.execute(question, values).fetchone()
        return row

    # ---- what we said

    def stamp(self, now: int) -> int:
        """The next timestamp to sign with (SPEC section 5), on disk before it is returned; `now` in milliseconds."""

        def work() -> int:
            marks = Marks(Mark(issued) for (issued,) in self._database.execute("SELECT issued FROM stamps"))
            issued = stamp(marks, now)
            self._database.execute("DELETE FROM stamps")
            self._database.executemany("INSERT INTO stamps VALUES (?)", [(mark.issued,) for mark in marks.all])
            return issued

        return self.grouped(work)

    def published(self, network: bytes) -> Published | None:
        """What was last said to an audience."""
        row = self._row("SELECT statement, issued, latest FROM published WHERE network = ?", network)
        return None if row is None else Published(*row)

    def keep_published(self, network: bytes, statement: bytes, issued: int, end: int) -> None:
        """Remember what is being said to an audience, and how long any of it lasts (milliseconds)."""
        known = self.published(network)
        latest = end if known is None else max(end, known.latest)
        row = (network, statement, issued, latest)
        self.grouped(lambda: self._database.execute("INSERT OR REPLACE INTO published VALUES (?, ?, ?, ?)", row))

    def blob(self, slot: bytes) -> bytes | None:
        """The identical bytes to put again into a slot."""
        row = self._row("SELECT blob FROM blobs WHERE slot = ?", slot)
        return None if row is None else row[0]

    def keep_blob(self, slot: bytes, blob: bytes, over: int) -> None:
        """Remember the bytes put into a slot until `over` (milliseconds)."""
        row = (slot, blob, over)
        self.grouped(lambda: self._database.execute("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", row))

    def wrote(self, backend: str, slot: bytes, public: bytes, over: int) -> None:
        """Remember that a slot of a store holds something of ours until `over` (milliseconds)."""
        row = (backend, slot, public, over)
        self.grouped(lambda: self._database.execute("INSERT OR REPLACE INTO written VALUES (?, ?, ?, ?)", row))

    def obsolete(self, now: int) -> list[Written]:
        """The slots whose last record is over at `now` (milliseconds), to be removed from their stores."""
        self.grouped(lambda: self._database.execute("DELETE FROM blobs WHERE over < ?", (now,)))
        rows = self._database.execute("SELECT backend, slot, public FROM written WHERE over < ?", (now,))
        return [Written(*row) for row in rows]

    def forget(self, written: Written) -> None:
        """A slot has been removed."""
        row = (written.backend, written.id)
        self.grouped(lambda: self._database.execute("DELETE FROM written WHERE backend = ? AND slot = ?", row))

    def instance(self) -> bytes:
        """Eight random bytes that name this installation (SPEC section 2, hint `instance`)."""
        row = ("instance", os.urandom(8))
        self.grouped(lambda: self._database.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", row))
        return bytes((self._row("SELECT value FROM facts WHERE name = 'instance'") or row[1:])[0])

    # ---- what others said

    def marks(self, subject: PublicKey) -> Marks:
        """The marks of a key (SPEC section 5)."""
        marks: dict[int, Mark] = {}
        question = "SELECT issued, network, digest FROM marks WHERE subject = ?"
        for issued, network, digest in self._database.execute(question, (subject.raw,)):
            marks.setdefault(issued, Mark(issued)).digests[network] = digest
        return Marks(marks.values())

    def remember(self, subject: PublicKey, marks: Marks) -> None:
        """Keep marks, together with what another process has seen meanwhile."""

        def work() -> None:
            merged = self.marks(subject)
            for mark in marks.all:
                for network, digest in mark.digests.items():
                    known = merged.add(mark.issued).digests
                    known[network] = max(digest, known.get(network, b""))
            rows = [
                (subject.raw, m.issued, network, digest) for m in merged.all for network, digest in m.digests.items()
            ]
            self._database.execute("DELETE FROM marks WHERE subject = ?", (subject.raw,))
            self._database.executemany("INSERT INTO marks VALUES (?, ?, ?, ?)", rows)

        self.grouped(work)

    def good(self, subject: PublicKey) -> Good | None:
        """The last good record of a key."""
        row = self._row("SELECT blob, network, period, backend, seen FROM good WHERE subject = ?", subject.raw)
        return None if row is None else Good(*row)

    def keep_good(self, subject: PublicKey, good: Good) -> None:
        """Keep the last good record of a key."""
        row = (subject.raw, good.blob, good.network, good.period, good.backend, good.seen)
        self.grouped(lambda: self._database.execute("INSERT OR REPLACE INTO good VALUES (?, ?, ?, ?, ?, ?)", row))


class _Newer(Exception):  # noqa: N818 - a reason, not an error
    """The file was written by a newer wgdisco."""


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    return _prepared(sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False))


def _prepared(database: sqlite3.Connection) -> sqlite3.Connection:
    """The connection with the schema; closed again when the file is of no use."""
    try:
        # one fsync a commit instead of three; FULL: a commit that returned is on disk
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        version = _sound(database)
        if version < VERSION:
            database.executescript(f"BEGIN IMMEDIATE;{SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
    except BaseException:
        database.close()
        raise
    return database


def _sound(database: sqlite3.Connection) -> int:
    """The format of a file that can be used; raises DatabaseError when it is damaged, _Newer when it is not for us."""
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise _Newer(f"it was written by a newer wgdisco (format {version}, this one knows {VERSION})")
    if database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("the file is damaged")
    return version


def _moved_aside(path: Path, error: Exception, problems: list[str]) -> bool:
    """Rename a damaged file (and its journal), so that a new one can be begun."""
    aside = path.with_name(f"{path.name}.bad-{int(time.time())}")
    try:
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError:
        return False
    problems.append(f"{path} cannot be read ({error}); it was moved aside to {aside.name}, and a new one begun")
    return True
