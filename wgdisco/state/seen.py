"""The reader's half of the state: floors and the last good record of every other key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wgdisco.audience import Place
from wgdisco.errors import RecordRefused
from wgdisco.freshness import Marks
from wgdisco.keys import PublicKey
from wgdisco.record import Record, decode_body, decode_head, verified
from wgdisco.state.tables import load_marks, save_marks

if TYPE_CHECKING:
    from sqlite3 import Connection

    from wgdisco.state.database import Database

__all__ = ["Good", "Seeing"]


@dataclass(frozen=True)
class Good:
    """The last record of a key that was accepted, which may have ended since: the caller looks at `record.end`.

    `blob` is what it came in, sealed for `network` and `period`; `seen` is in milliseconds since 1970.
    """

    record: Record
    blob: bytes
    network: bytes
    period: int
    backend: str
    seen: int


class Seeing:
    """What is remembered of what other keys said."""

    def __init__(self, database: Database) -> None:
        """Take an open database with the tables of `tables.py`."""
        self.database = database

    def marks(self, subject: PublicKey) -> Marks:
        """The timestamps seen of a key (a copy: give it back with `remember`)."""
        return self.database.read(lambda db: load_marks(db, subject.raw))

    def remember(self, subject: PublicKey, marks: Marks) -> None:
        """Keep marks, united with what another process kept meanwhile. Costs no write when nothing is new."""

        def keep(db: Connection) -> None:
            save_marks(db, subject.raw, load_marks(db, subject.raw).merged(marks))

        if marks != self.marks(subject):
            self.database.write(keep)

    def good(self, subject: PublicKey) -> Good | None:
        """The last good record of a key, its signature verified again; None when there is none."""
        query = "SELECT statement, blob, network, period, backend, seen FROM good WHERE subject = ?"
        row = self.database.read(lambda db: db.execute(query, (subject.raw,)).fetchone())
        if row is None:
            return None
        try:
            record = decode_body(decode_head(verified(row[0], subject)), subject)
        except (RecordRefused, TypeError):
            return None
        return Good(record, *row[1:])

    def keep_good(self, subject: PublicKey, blob: bytes, place: Place, backend: str, seen: int) -> None:
        """Remember an accepted blob found at a place in a backend at `seen` (milliseconds)."""
        row = (subject.raw, place.unseal(blob), blob, place.network, place.period, backend, seen)
        self.database.write(lambda db: db.execute("INSERT OR REPLACE INTO good VALUES (?, ?, ?, ?, ?, ?, ?)", row))
