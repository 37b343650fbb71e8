"""What survives a restart, one database for each own key: timestamps signed, floors, last good records, slots written.

Publisher's half in `published.py`, reader's half in `seen.py`, the file and what can happen to it in `database.py`.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from wgdisco.keys import PublicKey
from wgdisco.state.published import Published, Publishing, Written
from wgdisco.state.seen import Good, Seeing

__all__ = ["Good", "Published", "State", "Written", "folder_for"]


def folder_for(environment: Mapping[str, str], user: int) -> Path:
    """Where state lies: systemd's STATE_DIRECTORY, /var/lib/wgdisco for root, else XDG_STATE_HOME/wgdisco."""
    if directory := environment.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(directory)
    if user == 0:
        return Path("/var/lib/wgdisco")
    chosen = Path(environment.get("XDG_STATE_HOME", ""))
    if chosen.is_absolute():  # the specification of XDG: another is ignored
        return chosen / "wgdisco"
    try:
        return Path("~/.local/state/wgdisco").expanduser()
    except RuntimeError:
        return Path("/nonexistent/wgdisco")  # an account without a home: Debian's name for it, and nobody can make it


class State(Publishing, Seeing):
    """What one key has to remember. Nothing here fails for a disk, a file or another process: `problems` says it."""

    @classmethod
    def open(cls, key: PublicKey | None, folder: Path | None = None) -> State:
        """Open or make the state of an own key in `folder` (None: where it belongs, see `folder_for`).

        Without a key it is the state of whoever only reads.
        """
        # imported late: sqlite3 costs start-up time
        from wgdisco.state.database import Database
        from wgdisco.state.tables import SCHEMA, VERSION, merge

        name = "none" if key is None else urlsafe_b64encode(key.raw).decode().rstrip("=")
        place = (folder_for(os.environ, os.getuid()) if folder is None else folder) / f"key-{name}.sqlite"
        return cls(Database(place, SCHEMA, VERSION, merge))

    @property
    def problems(self) -> list[str]:
        """What is wrong now, in plain sentences: a damaged file moved aside, floors that are not persistent."""
        return self.database.problems

    def transaction(self) -> AbstractContextManager[None]:
        """Group many calls into one commit, all or nothing. Not to be held while waiting: others wait for it."""
        return self.database.transaction()

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()
