"""The publisher's half of the state: timestamps that are never used twice, what was said last, what lies where."""

from __future__ import annotations

import os
from base64 import b32encode
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wgdisco.audience import DAY, SKEW
from wgdisco.freshness import stamp
from wgdisco.record import LONGEST
from wgdisco.state.tables import OWN, fact, load_marks, save_marks, set_fact

if TYPE_CHECKING:
    from sqlite3 import Connection

    from wgdisco.state.database import Database

__all__ = ["Published", "Publishing", "Written"]

KEPT = 16  # ends of records a network


@dataclass(frozen=True)
class Published:
    """What was said last to one audience: `issued` and `end` in milliseconds since 1970, and the signed statement."""

    issued: int
    end: int
    statement: bytes


@dataclass(frozen=True)
class Written:
    """A slot that holds something of ours in one backend until `end` (milliseconds since 1970)."""

    backend: str
    id: bytes
    public: bytes
    end: int

    @property
    def text(self) -> str:
        """The slot id in base32, lower case, 32 characters."""
        return b32encode(self.id).decode().lower()


class Publishing:
    """What is remembered of what this key said."""

    def __init__(self, database: Database) -> None:
        """Take an open database with the tables of `tables.py`."""
        self.database = database

    def stamp(self, now: int) -> int:
        """The next timestamp at `now` (milliseconds, SPEC section 5), on disk before it is returned.

        Another process with the same key never gets the same one. While the disk cannot be written this holds within
        the process only, and `problems` says so. Raises ValueError inside a transaction, which would not be durable.
        """
        if self.database.busy:
            raise ValueError("a timestamp is not given out inside a transaction: it would not be durable")

        issued = 0

        def give(db: Connection) -> None:
            nonlocal issued
            marks = load_marks(db, OWN)
            issued = stamp(marks, now)
            save_marks(db, OWN, marks)
            set_fact(db, "stamp", issued)
            db.execute("DELETE FROM blobs WHERE until NOT BETWEEN ? AND ?", (now - 1000 * DAY, now + 3000 * DAY))

        # what counts is what the commit wrote in the end: it may do everything again, elsewhere
        with self.database.transaction(durable=True):
            self.database.write(give)
        return issued

    def published(self, network: bytes) -> Published | None:
        """What was said last to an audience."""
        row = self.database.read(
            lambda db: db.execute(
                "SELECT issued, until, statement FROM published WHERE network = ?", (network,)
            ).fetchone()
        )
        return None if row is None else Published(*row)

    def keep_published(self, network: bytes, statement: bytes, issued: int, end: int) -> None:
        """Remember what was said; `issued` and `end` in milliseconds."""

        def keep(db: Connection) -> None:
            db.execute("INSERT OR REPLACE INTO published VALUES (?, ?, ?, ?)", (network, issued, end, statement))
            query = "INSERT INTO ends VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = max(until, excluded.until)"
            db.execute(query, (network, issued, end))
            _thin(db, network)

        self.database.write(keep)

    def latest_end(self, network: bytes) -> int:
        """When the last of all records to an audience ends (milliseconds), 0 if there was none.

        Records newer than the last timestamp given out do not count: a clock that was years ahead made them, and
        they outlive nothing that is said now. Never too early, at most a day too late.
        """

        def latest(db: Connection) -> int:
            stamped = db.execute("SELECT value FROM facts WHERE name = 'stamp'").fetchone() or (0,)
            query = "SELECT max(until) FROM ends WHERE network = ? AND issued <= ?"
            return min(db.execute(query, (network, *stamped)).fetchone()[0] or 0, stamped[0] + 1000 * LONGEST)

        return self.database.read(latest)

    def blob(self, slot: bytes) -> bytes | None:
        """The bytes sealed last for a slot id (20 bytes), to be put again."""
        row = self.database.read(lambda db: db.execute("SELECT blob FROM blobs WHERE id = ?", (slot,)).fetchone())
        return None if row is None else row[0]

    def keep_blob(self, slot: bytes, blob: bytes, end: int) -> None:
        """Remember what was sealed for a slot id until `end` (milliseconds)."""
        row = (slot, blob, end)
        self.database.write(lambda db: db.execute("INSERT OR REPLACE INTO blobs VALUES (?, ?, ?)", row))

    def wrote(self, backend: str, slot: bytes, public: bytes, end: int) -> None:
        """Remember that a backend has something of ours in a slot until `end` (milliseconds)."""
        query = "INSERT INTO written VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET until = max(until, excluded.until)"
        self.database.write(lambda db: db.execute(query, (backend, slot, public, end)))

    def obsolete(self, now: int) -> list[Written]:
        """Slots whose last record has ended for every reader at `now` (milliseconds): to be removed, then forgotten."""
        query = "SELECT backend, id, public, until FROM written WHERE until < ? ORDER BY until"
        rows = self.database.read(lambda db: db.execute(query, (now - SKEW,)).fetchall())
        return [Written(*row) for row in rows]

    def forget(self, written: Written) -> None:
        """The slot was removed; if something was written to it meanwhile, that stays remembered."""
        query = "DELETE FROM written WHERE backend = ? AND id = ? AND until <= ?"
        self.database.write(lambda db: db.execute(query, (written.backend, written.id, written.end)))

    def instance(self) -> bytes:
        """8 random bytes of this installation, the same ever after."""

        def known(db: Connection) -> bytes:
            found = fact(db, "instance")
            if not isinstance(found, bytes):
                found = os.urandom(8)
                set_fact(db, "instance", found)
            return found

        return self.database.write(known)


def _thin(db: Connection, network: bytes) -> None:
    """Keep few ends, so that the latest of those issued before any moment is never too early."""
    rows: list[tuple[int, int]] = []
    for issued, until in db.execute("SELECT issued, until FROM ends WHERE network = ? ORDER BY issued", (network,)):
        if not rows or until > rows[-1][1]:
            rows.append((issued, until))
    while len(rows) > KEPT:
        closest = min(range(1, len(rows)), key=lambda index: rows[index][1] - rows[index - 1][1])
        rows[closest - 1 : closest + 1] = [(rows[closest - 1][0], rows[closest][1])]
    db.execute("DELETE FROM ends WHERE network = ?", (network,))
    db.executemany("INSERT INTO ends VALUES (?, ?, ?)", [(network, *row) for row in rows])
