"""The tables of a state file, the encoding of marks, and how one state is merged into another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wgdisco.freshness import Mark, Marks

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["OWN", "SCHEMA", "VERSION", "fact", "load_marks", "merge", "save_marks", "set_fact"]

VERSION = 1
OWN = b""  # the subject under which the publisher's own marks are kept; no key is empty
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value)",
    "CREATE TABLE IF NOT EXISTS marks (subject BLOB PRIMARY KEY, marks BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS published (network BLOB PRIMARY KEY, issued INTEGER, until INTEGER, statement BLOB)",
    "CREATE TABLE IF NOT EXISTS ends (network BLOB, issued INTEGER, until INTEGER, PRIMARY KEY (network, issued))",
    "CREATE TABLE IF NOT EXISTS blobs (id BLOB PRIMARY KEY, blob BLOB, until INTEGER)",
    "CREATE TABLE IF NOT EXISTS written (backend TEXT, id BLOB, public BLOB, until INTEGER, PRIMARY KEY (backend, id))",
    """CREATE TABLE IF NOT EXISTS good (subject BLOB PRIMARY KEY, statement BLOB, blob BLOB, network BLOB,
                                        period INTEGER, backend TEXT, seen INTEGER)""",
)
REPLACED = ("facts", "published", "ends", "blobs", "written", "good")  # the row that is merged replaces the other
_decoder = msgspec.msgpack.Decoder(list[tuple[int, dict[bytes, bytes]]])


def load_marks(db: Connection, subject: bytes) -> Marks:
    """The marks of a subject, none when it is unknown; raises sqlite3.DatabaseError when the row is damaged."""
    row = db.execute("SELECT marks FROM marks WHERE subject = ?", (subject,)).fetchone()
    return Marks() if row is None else _decoded(row[0])


def _decoded(encoded: bytes) -> Marks:
    try:
        return Marks(Mark(issued, digests) for issued, digests in _decoder.decode(encoded))
    except (msgspec.DecodeError, TypeError) as error:
        import sqlite3

        damaged = sqlite3.DatabaseError(f"marks cannot be decoded: {error}")
        damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damaged from error


def save_marks(db: Connection, subject: bytes, marks: Marks) -> None:
    """Replace the marks of a subject."""
    encoded = msgspec.msgpack.encode([(mark.issued, mark.digests) for mark in marks.all])
    db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (subject, encoded))


def fact(db: Connection, name: str) -> object:
    """One remembered value, None when it is unknown."""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def set_fact(db: Connection, name: str, value: object) -> None:
    """Remember one value."""
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))


def merge(source: Connection, target: Connection) -> None:
    """Carry a state over into another that may have rows of its own: marks are united, other rows replaced."""
    for (subject,) in source.execute("SELECT subject FROM marks"):
        save_marks(target, subject, load_marks(target, subject).merged(load_marks(source, subject)))
    for table in REPLACED:
        for row in source.execute(f"SELECT * FROM {table}"):  # noqa: S608 - the names above
            target.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
