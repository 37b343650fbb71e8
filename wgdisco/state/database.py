"""One SQLite file that never fails its user: moved aside when damaged, replaced by memory while not writable."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection
from typing import TypeVar

from wgdisco.state.rescue import Unusable, copy, damaged, make, move_aside, readers, version_of

__all__ = ["Database"]

T = TypeVar("T")
BUSY = 5.0  # seconds to wait for another process of ours


class Database:
    """A SQLite file of its own, in write-ahead mode; `problems` says in plain sentences what is wrong with it now.

    A committed transaction survives the death of the process, a `durable` one also the loss of power (SQLite:
    `synchronous` NORMAL and FULL). `merge(source, target)` carries what a memory has over into a file.
    """

    def __init__(
        self, path: Path, schema: tuple[str, ...], version: int, merge: Callable[[Connection, Connection], None]
    ) -> None:
        """Open or make the file (mode 0600, folder 0700); whatever goes wrong is said in `problems`."""
        self.path, self.schema, self.version, self.merge = path, schema, version, merge
        self.problems: list[str] = []
        self._unwritable = ""
        self._group: list[Callable[[Connection], object]] | None = None
        self._inode = 0
        self._calm, self._strict = "NORMAL", "FULL"
        try:
            self._db = self._connect()
        except (sqlite3.Error, OSError) as error:
            self._db = self._memory(error, *readers(self.path))

    @property
    def persistent(self) -> bool:
        """Whether what is written survives the process."""
        return not self._unwritable

    @property
    def busy(self) -> bool:
        """Whether a transaction is open."""
        return self._group is not None

    def close(self) -> None:
        """Close the file; what is only in memory is written if that is possible again."""
        if not self.persistent:
            self._return()
        self._db.close()

    # ---- reading and writing

    def read(self, operation: Callable[[Connection], T]) -> T:
        """The result of an operation that changes nothing."""
        try:
            return operation(self._db)
        except sqlite3.DatabaseError as error:
            self._again(error)
            return operation(self._db)

    def write(self, operation: Callable[[Connection], T]) -> T:
        """The result of an operation, in the open transaction or in one of its own; it may be run twice."""
        with self.transaction():
            assert self._group is not None
            self._group.append(operation)
            try:
                return operation(self._db)
            except sqlite3.DatabaseError as error:
                del self._group[-1]
                self._again(error)
                self._group.append(operation)
                return operation(self._db)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Generator[None, None, None]:
        """All or nothing, one commit for everything inside; joins a transaction that is open. Do not await inside."""
        if self._group is not None:
            yield
            return
        if durable and (not self.persistent or self._replaced()):
            self._return()
        self._group = []
        try:
            self._begin(self._strict if durable else self._calm)
            yield
            self._commit()
        except BaseException:
            self._rollback()
            raise
        finally:
            self._group = None

    def _begin(self, level: str) -> None:
        try:
            self._db.execute(f"PRAGMA synchronous={level}")
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            self._again(error)

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._again(error)
            self._db.execute("COMMIT")

    def _rollback(self) -> None:
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")

    # ---- when something is wrong

    def _again(self, error: sqlite3.DatabaseError) -> None:
        """Get a database that works, and do again what the open transaction had done."""
        self._rollback()
        try:
            if not (damaged(error) and self.persistent):
                raise error
            self._db.close()
            self._move_aside(str(error))
            self._db = self._connect()
            self._repeat()
        except (sqlite3.Error, OSError) as reason:
            self._rollback()
            self._db = self._memory(reason, *self._left(error))
            self._repeat()

    def _left(self, error: sqlite3.DatabaseError) -> list[Callable[[], Connection]]:
        """Where something can be read still; what is damaged in memory, came so from a file that can only be read."""
        if damaged(error) and not self.persistent:
            return []
        return [lambda: self._db, *readers(self.path)]

    def _repeat(self) -> None:
        if self._group is not None:
            self._db.execute("BEGIN IMMEDIATE")
            for operation in self._group:
                operation(self._db)

    def _connect(self) -> Connection:
        """The file, ready for use; raises sqlite3.Error and OSError. A damaged one is moved aside."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return self._prepared()
        except sqlite3.DatabaseError as error:
            if not damaged(error):
                raise
            self._move_aside(str(error))
            return self._prepared()

    def _prepared(self) -> Connection:
        emptied = make(self.path)
        # opening and closing the file by hand would drop the locks this process holds on it (POSIX)
        self._inode = self.path.stat().st_ino
        db = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None)
        try:
            logged = db.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal"
            self._calm, self._strict = ("NORMAL", "FULL") if logged else ("EXTRA", "EXTRA")
            self._lay_out(db)
        except BaseException:
            db.close()
            raise
        if emptied:
            self._say(f"the state file {str(self.path)!r} was empty; what was remembered is lost")
        return db

    def _lay_out(self, db: Connection) -> None:
        """Make the tables in an empty file; raises Unusable for a file that is not of this version."""
        db.execute("BEGIN IMMEDIATE" if version_of(db) == 0 else "BEGIN")
        found = version_of(db)
        if found == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            for statement in (*self.schema, f"PRAGMA user_version={self.version}"):
                db.execute(statement)
        elif found != self.version:
            db.execute("ROLLBACK")
            raise Unusable(f"it is of version {found}, and this wgdisco knows version {self.version}")
        db.execute("COMMIT")

    def _move_aside(self, reason: str) -> None:
        if self._replaced():
            return
        aside = move_aside(self.path)
        self._say(
            f"the state file {str(self.path)!r} could not be used ({reason}) and was moved to {str(aside)!r}; "
            "what was remembered is lost, so an older record may be accepted once more"
        )

    def _replaced(self) -> bool:
        """Whether the path no longer leads to the file that we opened: another process moved it, or somebody did."""
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return True

    def _memory(self, error: Exception, *sources: Callable[[], Connection]) -> Connection:
        """A database in memory with all that can still be read."""
        if not self._unwritable:
            self._unwritable = (
                f"cannot write the state file {str(self.path)!r}: {error}; floors not persistent: what is signed and "
                "seen is remembered in memory only until that is mended"
            )
            self._say(self._unwritable)
        return copy(sources, self._lay_out)

    def _return(self) -> None:
        """Carry everything over into the file at the path, if it can be written (again)."""
        target: Connection | None = None
        try:
            target = self._connect()
            target.execute("BEGIN IMMEDIATE")
            self.merge(self._db, target)
            target.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            if target is not None:
                target.close()
            if self.persistent:
                self._db = self._memory(error, lambda: self._db)
            return
        self._db.close()
        self._db = target
        if self._unwritable in self.problems:
            self.problems.remove(self._unwritable)
        self._unwritable = ""

    def _say(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)
